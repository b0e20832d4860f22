"""Learn a rule in many worlds at once, by a gradient through the agents' updates.

python experiments/differentiate_rule.py                    # corrections of a hand-made rule
python experiments/differentiate_rule.py --rule FILE        # from a file, such as a distilled rule

The same as `evolve_rule.py`, by meta-gradient: agents continue their lives from one meta-step to
the next, each with its own world, level, step size, discount and length of life. Every
`--eval-every` meta-steps the rule is compared with the one that it started from, on whole lives
that are always the same; the best one is written to OUT/rule-SEED.npz.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import envs
from algos import lpg, meta_lpg, residual_lpg
from algos.rules import save_population
from algos.rules.start import starting_rule
from algos.rules.worlds import TRAINING, make_worlds, named
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.validation import against
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of the meta-training."""

    rule: str = "residual_lpg"
    """Kind of an untrained rule (residual_lpg, ta_residual_lpg, lpg, ta_lpg or optimistic_lpg), or
    the file of a rule to continue from."""
    worlds: tuple[str, ...] = tuple(world.env for world in TRAINING)
    """Worlds to live in: see algos/rules/worlds.py."""
    meta_steps: int = 2000
    """Steps of the meta-learner."""
    seeds: int = 1
    """Rules to learn, one after the other; their seeds count up from `first_seed`."""
    validation_lives: int = 192
    """Lives in which a rule is compared with its start."""
    learner: gradient.Config = gradient.Config(num_agents=48)
    """Static settings of the meta-learner."""
    agent: residual_lpg.Config = residual_lpg.Config(hidden=(32,))
    """Static settings of the agents and of an untrained rule; a file has its own."""
    hypers: gradient.Hypers = gradient.Hypers(
        agent=lpg.Hypers(),
        regularizer=meta_lpg.Regularizer(entropy=0.01, pi_hat=0.0),
        critic_learning_rate=5e-3,  # between what suits tables and what suits networks
    )
    """The meta-learner's hyperparameters."""
    run: RunFlags = RunOptions(out="results/differentiate_rule", chunk=25, eval_every=200)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.rule} by meta-gradient in {len(self.worlds)} worlds"


def build(settings: Settings) -> Job:
    require_count(settings, "meta_steps", "validation_lives")
    first = starting_rule(settings.rule, settings.agent)
    worlds = make_worlds(first.config, envs.make, named(settings.worlds))
    learner = meta_lpg.by_gradient(settings.learner, first.config, worlds, first.init_theta())
    config = evolution.Config(num_pairs=settings.validation_lives, max_steps=1000)
    hypers = evolution.Hypers(agent=settings.hypers.agent)
    evaluator = against(first.params, config, worlds, lpg.with_rule, hypers)
    return Job(learner, (), settings.meta_steps, evaluator=evaluator, reads=("agent",))


def write(outcome: Outcome) -> None:
    settings = outcome.settings
    save_population(outcome.result, starting_rule(settings.rule, settings.agent).config)


if __name__ == "__main__":
    launch(Settings, build, save=write)
