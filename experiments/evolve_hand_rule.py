"""Evolve the settings of a hand-made rule, in many worlds at once.

python experiments/evolve_hand_rule.py

The rule is `hand_rules.ActorCritic`: A2C inside LPG's interface. Its few settings are compared by
what whole lives earn, at step sizes, discounts and lengths of life drawn anew for each pair of
candidates. OUT/settings.csv has what was found; `hand_rules.EVOLVED_BY_AGE` is what this found
before. A network can be taught the result (`distil_rule.py`).
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass

import pandas as pd

import envs
from algos import hand_rules, lpg
from algos.rules.worlds import TRAINING, make_worlds, named
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.meta import evolution
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of the evolution."""

    worlds: tuple[str, ...] = tuple(world.env for world in TRAINING)
    """Worlds to live in: see algos/rules/worlds.py."""
    generations: int = 100
    """Updates of the settings."""
    seeds: int = 1
    """Evolutions, one after the other; their seeds count up from `first_seed`."""
    learner: evolution.Config = evolution.Config(num_pairs=24, max_steps=1000)
    """Static settings of the evolution."""
    agent: lpg.Config = lpg.Config(num_envs=16, num_predictions=16, hidden=(32,))
    """Static settings of the agents."""
    hypers: evolution.Hypers = evolution.Hypers(
        agent=lpg.Hypers(), learning_rate=0.1, decay=0.99, std=0.3
    )
    """The evolution's hyperparameters."""
    run: RunFlags = RunOptions(out="results/evolve_hand_rule", chunk=4)

    @property
    def title(self) -> str:
        """What tables and plots are called."""
        return "A hand-made rule evolved"


def build(settings: Settings) -> Job:
    require_count(settings, "generations")
    rule = hand_rules.ActorCritic()
    worlds = [
        world._replace(inner=lpg.make(settings.agent, world.env, rule))
        for world in make_worlds(settings.agent, envs.make, named(settings.worlds))
    ]
    learner = evolution.make(
        settings.learner,
        worlds,
        init_theta=hand_rules.init_unbounded,
        insert=hand_rules.with_unbounded,
    )
    return Job(learner, (), settings.generations)


def write(outcome: Outcome) -> None:
    """Save what was found."""
    result, rows = outcome.result, []
    for i, row in enumerate(result.population.rows):
        if not result.alive[i]:
            say(f"{result.population.names[i]}: nothing is saved, because its evolution diverged")
            continue
        found = {k: float(v) for k, v in asdict(result.member(i).params.settings()).items()}
        rows.append(dict(row) | found)
        say(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()))
    pd.DataFrame(rows).to_csv(result.out / "settings.csv", index=False)


if __name__ == "__main__":
    launch(Settings, build, save=write)
