"""Distil a hand-made rule into LPG's network, in many worlds at once.

python experiments/distil_rule.py                      # A2C, whose value is the prediction
python experiments/distil_rule.py --worlds random-mdp Catch-bsuite --steps 500

The rules are written to OUT/rule-SEED.npz. OUT/fit.csv has the fraction of the teacher's π̂ that a
rule leaves unexplained, and KL(teacher's ŷ ‖ rule's), in each world. Test a rule with
`lpg_meta_test.py --rule FILE`; `evolve_rule.py --rule FILE` evolves it further.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass

import numpy as np
import pandas as pd

import envs
from algos import distillation, hand_rules, lpg, optimistic_lpg
from algos.rules import save_population
from algos.rules.worlds import TRAINING, make_worlds, named
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count

LAST_PART = 0.1
"""Fraction of the steps, at the end, on which the fit is measured."""


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of a distillation."""

    worlds: tuple[str, ...] = tuple(world.env for world in TRAINING)
    """Worlds to live in: see algos/rules/worlds.py."""
    steps: int = 16_000
    """Steps of the distillation."""
    seeds: int = 1
    """Rules to distil, one after the other; their seeds count up from `first_seed`."""
    learner: distillation.Config = distillation.Config()
    """Static settings of the distillation."""
    student: optimistic_lpg.Config = optimistic_lpg.Config(
        num_envs=16, num_epochs=4, num_predictions=16, rule_width=48, hidden=(32,)
    )
    """Static settings of the agents and of the rule."""
    hypers: distillation.Hypers = distillation.Hypers(
        agent=lpg.Hypers(), teacher=hand_rules.TEACHER
    )
    """The distillation's hyperparameters, and the teacher's."""
    run: RunFlags = RunOptions(out="results/distil_rule", chunk=32)

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return "A hand-made rule distilled"


def build(settings: Settings) -> Job:
    require_count(settings, "steps")
    worlds = make_worlds(settings.student, envs.make, named(settings.worlds))
    teacher = hand_rules.ActorCritic()
    learner = distillation.make(settings.learner, settings.student, teacher, worlds)
    return Job(learner, (), settings.steps)


def fit(outcome: Outcome) -> pd.DataFrame:
    """Measure how well the rules fit their teacher at the end: a row for each rule and world."""
    frame, worlds = outcome.result.metrics, outcome.settings.worlds
    late = frame[frame["update"] > frame["update"].max() * (1 - LAST_PART)]
    means, rows = late.groupby("member").mean(numeric_only=True), []
    for world in worlds:
        of = lambda name: means[f"{world}/{name}" if len(worlds) > 1 else name]  # noqa: B023, E731
        rows.append(pd.DataFrame({
            "rule": [outcome.result.population.labels[i] for i in means.index],
            "world": world,
            "unexplained": of("error") / np.maximum(of("variance"), 1e-12),
            "kl": of("kl"),
        }))  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def write(outcome: Outcome) -> None:
    """Save the rules, and how well they fit."""
    save_population(outcome.result, outcome.settings.student)
    found = fit(outcome)
    found.to_csv(outcome.result.out / "fit.csv", index=False)
    for row in found.itertuples():
        say(f"rule {row.rule}, {row.world}: {row.unexplained:.1%} unexplained, KL {row.kl:.3f}")


if __name__ == "__main__":
    launch(Settings, build, save=write)
