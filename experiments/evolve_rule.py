"""Evolve a rule in many worlds at once, by the returns of whole lives.

python experiments/evolve_rule.py                           # corrections of a hand-made rule
python experiments/evolve_rule.py --rule ta_residual_lpg --out results/evolve_ta_rule  # by age, too
python experiments/evolve_rule.py --rule FILE --out OUT     # from a file, such as a distilled rule

Both candidates of a pair have the same world, level, step size, discount and length of life. Every
`--eval-every` generations the rule is compared with the one that it started from, on lives that
are always the same; the best one is written to OUT/rule-SEED.npz. Its share of lives that
end better is an overestimate, because it is the best of several rules.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass, replace

import envs
from algos import lpg, meta_lpg, residual_lpg
from algos.rules import save_population
from algos.rules.start import starting_rule
from algos.rules.worlds import TRAINING, make_worlds, named
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch
from purejaxrl.meta import evolution
from purejaxrl.meta.validation import against
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of the evolution."""

    rule: str = "residual_lpg"
    """Kind of an untrained rule (residual_lpg, ta_residual_lpg, lpg, ta_lpg or optimistic_lpg), or
    the file of a rule to continue from."""
    worlds: tuple[str, ...] = tuple(world.env for world in TRAINING)
    """Worlds to live in: see algos/rules/worlds.py."""
    generations: int = 400
    """Steps of the evolution."""
    seeds: int = 1
    """Rules to learn, one after the other; their seeds count up from `first_seed`."""
    validation_lives: int = 192
    """Lives in which a rule is compared with its start."""
    learner: evolution.Config = evolution.Config(num_pairs=24, max_steps=1000)
    """Static settings of the evolution."""
    agent: residual_lpg.Config = residual_lpg.Config(hidden=(32,))
    """Static settings of the agents and of an untrained rule; a file has its own."""
    hypers: evolution.Hypers = evolution.Hypers(
        agent=lpg.Hypers(), learning_rate=0.05, decay=0.998, std=0.2
    )
    """The evolution's hyperparameters; the worlds draw the step size and discount of agents."""
    run: RunFlags = RunOptions(out="results/evolve_rule", chunk=4, eval_every=100)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.rule} evolved in {len(self.worlds)} worlds"


def build(settings: Settings) -> Job:
    require_count(settings, "generations", "validation_lives")
    first = starting_rule(settings.rule, settings.agent)
    worlds = make_worlds(first.config, envs.make, named(settings.worlds))
    learner = meta_lpg.by_evolution(settings.learner, first.config, worlds, first.init_theta())
    config = replace(settings.learner, num_pairs=settings.validation_lives)
    hypers = evolution.Hypers(agent=settings.hypers.agent)
    evaluator = against(first.params, config, worlds, lpg.with_rule, hypers)
    return Job(learner, (), settings.generations, evaluator=evaluator, reads=("agent",))


def write(outcome: Outcome) -> None:
    settings = outcome.settings
    save_population(outcome.result, starting_rule(settings.rule, settings.agent).config)


if __name__ == "__main__":
    launch(Settings, build, save=write)
