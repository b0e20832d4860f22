"""Evolve the settings of a hand-made rule, in many worlds at once.

python experiments/evolve_hand_rule.py
python experiments/evolve_hand_rule.py --rule ta_residual_lpg --out results/evolve_ta_hand_rule

The rule is `hand_rules.ActorCritic`: A2C, or in several passes PPO, inside LPG's interface. Its few
settings are compared by the returns of whole lives, at step sizes, discounts and lengths of life
drawn anew for each pair of candidates. It is held in a residual rule without corrections, or in a
temporally aware one, whose entropy bonus can fall with age. Every `--eval-every` generations it is
compared with the one that it started from, on lives that are always the same.

The rule at the end of the evolution is kept, so that the last comparison is an unbiased one.
OUT/settings.csv has what was found, and OUT/rule-SEED.npz the rules. `evolve_rule.py --rule FILE`
learns corrections of them, and `distil_rule.py` teaches a network such settings.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import pandas as pd

import envs
from algos import hand_rules, lpg, residual_lpg
from algos.hand_rules import Unbounded
from algos.residual_lpg import settings_of, with_settings
from algos.rules import save_rule
from algos.rules.start import Start, starting_rule
from algos.rules.worlds import TRAINING, make_worlds, named
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.meta import evolution
from purejaxrl.meta.validation import against
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import check_hypers, require_count


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of the evolution."""

    rule: Literal["residual_lpg", "ta_residual_lpg"] = "residual_lpg"
    """Kind of the rule that holds the hand-made one: without knowledge of time, or with it."""
    worlds: tuple[str, ...] = tuple(world.env for world in TRAINING)
    """Worlds to live in: see algos/rules/worlds.py."""
    start: hand_rules.Settings = residual_lpg.Rule.start
    """Settings of the rule at the start."""
    lives: tuple[int, int] = (30, 500)
    """Shortest and longest life of an agent, in updates; log-uniform."""
    generations: int = 100
    """Updates of the settings."""
    seeds: int = 1
    """Evolutions, one after the other; their seeds count up from `first_seed`."""
    validation_lives: int = 192
    """Lives in which a rule is compared with its start."""
    learner: evolution.Config = evolution.Config(num_pairs=24, max_steps=1000)
    """Static settings of the evolution."""
    agent: residual_lpg.Config = residual_lpg.Config(hidden=(32,))
    """Static settings of the agents; with `num_epochs` 1 the rule is A2C, with more PPO."""
    hypers: evolution.Hypers = evolution.Hypers(
        agent=lpg.Hypers(), learning_rate=0.1, decay=0.98, std=0.3
    )
    """The evolution's hyperparameters; the worlds draw the step size and discount of agents."""
    run: RunFlags = RunOptions(out="results/evolve_hand_rule", chunk=4, eval_every=50)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return "A hand-made rule evolved"


def first_rule(settings: Settings) -> Start:
    """Return the rule that the evolution starts from."""
    check_hypers(settings.start)
    found = starting_rule(settings.rule, settings.agent)
    theta = jax.tree.map(jnp.float32, Unbounded.of(settings.start))
    return found._replace(params=with_settings(found.params, theta))


def begin(rule: Any, key: jax.Array) -> Unbounded:
    """Start at the settings of a rule: the `init_theta` of the evolution."""
    return settings_of(rule)


def insert(rule: Any, theta: Unbounded, hypers: lpg.Hypers) -> lpg.Hypers:
    """Put settings into the rule of agents: the `insert` of the evolution."""
    return hypers.replace(rule=with_settings(rule, theta))


def build(settings: Settings) -> Job:
    require_count(settings, "generations", "validation_lives")
    first = first_rule(settings)
    lived = [replace(world, lives=settings.lives) for world in named(settings.worlds)]
    worlds = make_worlds(first.config, envs.make, lived)
    put = partial(insert, first.params)
    learner = evolution.make(
        settings.learner, worlds, init_theta=partial(begin, first.params), insert=put
    )
    config = replace(settings.learner, num_pairs=settings.validation_lives)
    hypers = evolution.Hypers(agent=settings.hypers.agent)
    evaluator = against(settings_of(first.params), config, worlds, put, hypers)
    return Job(learner, (), settings.generations, evaluator=evaluator, reads=("agent",))


def write(outcome: Outcome) -> None:
    """Save what was found."""
    result, first, rows = outcome.result, first_rule(outcome.settings), []
    for i, label in result.survivors("rule"):
        theta = result.member(i).params
        path = result.out / f"rule-{label}.npz"
        save_rule(path, first.config, with_settings(first.params, theta))
        found = {k: float(v) for k, v in asdict(theta.settings()).items()}
        rows.append(dict(result.population.rows[i]) | found)
        say(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()))
    pd.DataFrame(rows).to_csv(result.out / "settings.csv", index=False)


if __name__ == "__main__":
    launch(Settings, build, save=write)
