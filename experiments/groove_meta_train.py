r"""GROOVE: meta-train a rule of LPG on the levels of highest regret (Jackson et al. 2023).

python experiments/groove_meta_train.py                  # sizes for two CPU cores
python experiments/groove_meta_train.py --score random   # or true_regret, pvl, l1, maxmc, …
python experiments/groove_meta_train.py --learner.num-agents 512 --learner.capacity 4000 \
    --agent.num-envs 64 --agent.rule-width 256 --meta-steps 5000    # the paper's sizes

The rules are written to OUT/rule-SEED.npz (`lpg_meta_test.py --rule FILE` tests one), and pictures
of the levels in the buffer to OUT/levels-SEED.png, from the least to the most recently visited.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

import envs
from algos import groove, lpg, meta_lpg
from algos.rules import save_population
from envs import gallery
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from envs.optimum import solver
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.running.runner import RunOptions
from purejaxrl.ued.buffer import Buffer
from purejaxrl.ued.scores import SCORES
from purejaxrl.validation import require_count, require_known

ROWS, COLUMNS = 5, 4
"""Size of a picture, in levels."""


@dataclass(frozen=True)
class Settings(Experiment):
    """Settings of GROOVE."""

    levels: str = "all_shortlife"
    """Distribution of new levels and of lifetimes: see envs/gridworld_levels.py."""
    score: str = "regret"
    """Score by which levels are kept and replayed: see purejaxrl/ued/scores.py."""
    meta_steps: int = 2000
    """Steps of the meta-learner."""
    seeds: int = 3
    """Rules to learn, one after the other; their seeds count up from `first_seed`."""
    learner: groove.Config = groove.Config()
    """Static settings of the meta-learner and of its level buffer."""
    agent: lpg.Config = lpg.Config(num_envs=16, rule_width=64)
    """Static settings of the agents and of the rule; antagonists have the same sizes."""
    hypers: groove.Hypers = groove.hypers(**meta_lpg.TUNED)
    """The meta-learner's hyperparameters."""
    run: RunFlags = RunOptions(out="results/groove_meta_train")

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"GROOVE ({self.score}) on grid-worlds ({self.levels})"


def build(settings: Settings) -> Job:
    require_count(settings, "meta_steps")
    require_known("levels", settings.levels, LEVELS)
    require_known("score", settings.score, SCORES)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    learner = groove.make(
        settings.learner,
        settings.agent,
        env,
        env.sample_level,
        LEVELS[settings.levels].sample_lifetime,
        SCORES[settings.score],
        solver(env),
    )
    return Job(learner, (), settings.meta_steps)


def draw_levels(buffer: Buffer, env: GridWorld, path: Path) -> None:
    """Draw the levels of the highest scores, a row for each period of their last visit."""
    kept = np.flatnonzero(buffer.filled)
    kept = kept[np.argsort(buffer.last_visit[kept], kind="stable")]
    shown, titles = [], []
    for period in np.array_split(kept, ROWS):
        for slot in period[np.argsort(-buffer.score[period])][:COLUMNS]:
            shown.append(jax.tree.map(lambda x: x[slot], buffer.levels))  # noqa: B023
            titles.append(f"draw {buffer.last_visit[slot]}: {buffer.score[slot]:.2f}")
    gallery.levels(env, shown, path, titles, COLUMNS)


def write(outcome: Outcome) -> None:
    """Save the rules, and pictures of the levels in their buffers."""
    settings, result = outcome.settings, outcome.result
    save_population(result, settings.agent)
    env, _ = envs.make(f"gridworld-{settings.levels}")
    for i, label in enumerate(result.population.labels):
        buffer = result.member(i).worlds[0].curriculum
        if buffer.filled.any():
            draw_levels(buffer, env, Path(result.out) / f"levels-{label}.png")
        else:
            say(f"rule-{label}: there are no levels to draw, because no life ended")


if __name__ == "__main__":
    launch(Settings, build, save=write)
