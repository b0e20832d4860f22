r"""Curricula for one student at equal environment steps, by how robust it is on random mazes.

python experiments/ued_tournament.py
python experiments/ued_tournament.py --contenders dr sfl sfl_regret --seeds 10 --first-seed 100 \
    --total-steps 5e7
python experiments/ued_tournament.py --contenders dr paired clutr \
    --autoencoder results/maze_autoencoder/model-0

The steps of a search, of exploration and of an antagonist count, so a method that takes them trains
for fewer updates. After training, every student plays many random mazes with a solution twice: the
first attempts tell which fraction α is its worst, and the second how often it solves these (CVaR).
Then it plays the standard held-out mazes. Intervals are over students and over mazes, crossed.

Killed and started again, it continues. OUT holds `scores.csv` (a row for each student),
`table.csv`, `curves.csv`, `tournament.png`, a run for each method, `levels_METHOD.png` (what a
student played last, at several moments) and `levels.csv` (how hard that was, over all students).
"""

from purejaxrl.running.devices import on_cpu, use_cpu_cores

use_cpu_cores()

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import jax
import matplotlib.figure
import numpy as np
import pandas as pd
from rich.progress import track

from algos import ppo, ppo_rnn
from algos.curricula import METHODS, STUDENT, STUDENT_CONFIG, Latent
from envs import gallery, maze
from envs import maze_solution as solution
from envs.maze_domain import mazes
from purejaxrl.algorithm import Algorithm
from purejaxrl.launch import command, say, updates_for, writable_folder
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running import checkpoint, record
from purejaxrl.running.chunk import abstract
from purejaxrl.running.logs import console
from purejaxrl.running.population import Population, populate, seeds
from purejaxrl.running.result import Result
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study.plots import curves
from purejaxrl.study.robustness import (
    conditional_value_at_risk,
    jackknife_at_risk,
    on_levels,
    solve_rates,
    stack_levels,
    steps_to_reach,
)
from purejaxrl.study.stats import PROBABILITY, interval
from purejaxrl.study.tables import print_table
from purejaxrl.ued import student
from purejaxrl.ued.curriculum import sample_new
from purejaxrl.validation import require, require_count, require_names

BLOCKS = 10
"""Parts of the random mazes. Each is left out once, for intervals over mazes (the jackknife)."""
TEST_ENV = FlattenObservation(maze.Maze())
are_solvable = jax.jit(jax.vmap(solution.solvable))
shortest_paths = jax.jit(jax.vmap(solution.optimal_length))
MOMENTS, SHOWN = 4, 6
"""Points of training at which levels are described, and how many of each are drawn."""


@dataclass(frozen=True)
class Settings:
    """Settings of the tournament."""

    contenders: tuple[str, ...] = (
        "dr", "plr", "plr_regret", "mixed_regret", "accel", "sfl", "sfl_regret", "frontier",
        "paired",
    )  # fmt: skip
    """Methods: dr, plr, plr_regret, mixed_regret, accel, sfl, sfl_regret, frontier, paired,
    paired_regret, clutr or clutr_regret."""
    baseline: str = "dr"
    """The method that the others are compared with."""
    autoencoder: str = ""
    """The autoencoder of clutr and clutr_regret."""
    seeds: int = 3
    """Students of a method."""
    first_seed: int = 0
    """Seed of the first student; another one gives a test on new seeds."""
    total_steps: float = 1e7
    """Environment steps of a student."""
    max_walls: int = 60
    """Most walls of a random maze."""
    num_levels: int = 10_000
    """Random mazes with a solution to test on, a multiple of 10."""
    attempts: int = 10
    """Episodes on each maze, of either set."""
    shares: tuple[float, ...] = (0.01, 0.1, 1.0)
    """α of the table: shares of the random mazes that are the worst."""
    rate: float = 0.5
    """Solve rate on the held-out mazes; `steps_to_rate` is the environment steps to reach it."""
    agent: ppo_rnn.Config = STUDENT_CONFIG
    """Static settings of the students."""
    hypers: ppo.Hypers = STUDENT
    """The students' hyperparameters."""
    out: Path = Path("results/ued_tournament")
    """Folder."""

    def __post_init__(self):
        require_count(self, "seeds", "num_levels", "attempts")
        require_names(self, "contenders", "method", METHODS)
        among = self.baseline in self.contenders
        require(among, self, "baseline", f"one of {', '.join(self.contenders)}")
        require(self.first_seed >= 0, self, "first_seed", "an integer >= 0")
        require(self.num_levels % BLOCKS == 0, self, "num_levels", f"a multiple of {BLOCKS}")
        least = BLOCKS / self.num_levels
        valid = bool(self.shares) and all(least <= share <= 1 for share in self.shares)
        expected = f"numbers of at least {BLOCKS} / num_levels = {least:g} and at most 1"
        require(valid, self, "shares", expected)
        require(0 < self.rate <= 1, self, "rate", "a number above 0 and at most 1")
        object.__setattr__(self, "out", writable_folder(self.out))


class Contender(NamedTuple):
    """A method, ready to train."""

    name: str
    title: str
    algorithm: Algorithm
    hypers: student.Hypers
    num_updates: int


class Tested(NamedTuple):
    """What the students of a method solve, `[students, mazes]` each; NaN: it diverged."""

    first: np.ndarray  # rates on random mazes, which say which are the worst
    second: np.ndarray  # rates of other attempts
    held_out: np.ndarray
    evaluations: pd.DataFrame

    def at_risk(self, shares: tuple[float, ...]) -> np.ndarray:
        """CVaR of every student, as a value for every block, `[students, BLOCKS, shares]`."""
        return jackknife_at_risk(self.first, self.second, np.array(shares), BLOCKS)


def build(name: str, settings: Settings) -> Contender:
    """Make a method for the students, and count its updates."""
    method, levels = METHODS[name](), mazes(settings.max_walls)
    if isinstance(method, Latent):
        method = replace(method, autoencoder=settings.autoencoder)
    agent = ppo_rnn.make(settings.agent, levels.env)
    curriculum = method.make(levels, agent)
    algorithm = student.make(agent, levels.env, curriculum, levels.optimal_return)
    steps = agent.steps_per_update + round(curriculum.extra_steps)
    num_updates = updates_for(settings.total_steps, steps)
    return Contender(name, method.title, algorithm, method.hypers(settings.hypers), num_updates)


def train(one: Contender, settings: Settings) -> Result:
    """Train the students of a method, or continue; a core trains one at a time."""
    members: Population = populate(
        seeds(settings.seeds, start=settings.first_seed), one.hypers, maze.empty()
    )
    folder = record.folder_of(settings.out / one.name, one.algorithm, members, one.num_updates)
    group = 1 if on_cpu() else None  # a vmapped student would compute an update if another does
    options = RunOptions(folder, resume=True, group=group, keep_last=one.num_updates)
    evaluator = on_levels(TEST_ENV, held_out_mazes(), 4, maze.MAX_STEPS)
    say(f"{one.title}: {settings.seeds} students, {one.num_updates:,} updates")
    return run(one.algorithm, members, one.num_updates, options, evaluator=evaluator)


@functools.cache
def solvable_mazes(max_walls: int, num_levels: int) -> maze.Level:
    """Draw random mazes that have a solution, leaves `[num_levels, ...]`; always the same ones.

    Of mazes with up to 60 walls, 6 % have none. They would be the worst mazes of every student.
    """
    sample = mazes(max_walls).sample
    draw = jax.jit(lambda key: sample_new(key, sample, num_levels).level)
    key, parts, count = jax.random.key(2**30), [], 0
    while count < num_levels:
        key, draw_key = jax.random.split(key)
        levels = draw(draw_key)
        kept = np.asarray(are_solvable(levels))
        parts.append(jax.tree.map(lambda x: np.asarray(x)[kept], levels))  # noqa: B023
        count += kept.sum()
    return jax.tree.map(lambda *x: np.concatenate(x)[:num_levels], *parts)


def play(one: Contender, result: Result, settings: Settings) -> Tested:
    """Test the students of a method on random mazes, twice, and on the held-out ones.

    What they solve is kept in their run's folder, and is not played again.
    """
    path = result.out / f"solved_{settings.num_levels}x{settings.attempts}.npz"
    if not path.exists():
        random = solvable_mazes(settings.max_walls, settings.num_levels)
        sets = track((random, random, held_out_mazes()), f"testing {one.title}", console=console)
        found = [solve(one, result, levels, settings, seed) for seed, levels in enumerate(sets)]
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, *found)
        partial.replace(path)
    with np.load(path) as file:
        return Tested(*file.values(), result.evaluations)


def solve(
    one: Contender, result: Result, levels: maze.Level, settings: Settings, seed: int
) -> np.ndarray:
    """Return how often each student solves each maze, `[students, mazes]`; NaN: it diverged."""
    found = solve_rates(
        one.algorithm, TEST_ENV, result.state, levels,
        num_episodes=settings.attempts, max_steps=maze.MAX_STEPS, seed=seed,
    )  # fmt: skip
    return np.where(result.alive[:, None], found, np.nan)


def held_out_mazes() -> maze.Level:
    """Return the standard mazes, leaves `[mazes, ...]`."""
    return stack_levels(maze.held_out().values())


def levels_over_time(one: Contender, result: Result) -> dict[int, maze.Level]:
    """Load the levels that students played last, at up to MOMENTS of the checkpoints.

    Returns:
        Levels by update, leaves `[students, num_envs, ...]`.
    """
    saved = checkpoint.Series(result.out / "checkpoints")
    updates, like = saved.updates(), abstract(one.algorithm, result.population, evaluated=True)
    picked = {updates[round(i)] for i in np.linspace(0, len(updates) - 1, MOMENTS)}
    carries = {update: checkpoint.load(saved.path(update), like)[0] for update in sorted(picked)}
    return {i: carry.state.agent.interaction.env_state.level for i, carry in carries.items()}


def draw_levels(found: dict[int, maze.Level], path: Path) -> None:
    """Draw levels of the first student, a row for each moment."""
    shown, titles = [], []
    for update, levels in found.items():
        columns = min(SHOWN, levels.walls.shape[1])
        shown += [jax.tree.map(lambda x: x[0, i], levels) for i in range(columns)]  # noqa: B023
        titles += [f"update {update:,}", *[""] * (columns - 1)]
    gallery.levels(maze.Maze(), shown, path, titles, columns)


def describe_levels(found: dict[int, maze.Level]) -> pd.DataFrame:
    """Return a row for each moment: means over levels, lengths over those with a solution."""
    rows = []
    for update, levels in found.items():
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), levels)
        solvable = np.asarray(are_solvable(flat))
        length = np.asarray(shortest_paths(flat))[solvable]
        walls = np.asarray(flat.walls).sum((1, 2)).mean()
        rows.append({
            "update": update, "walls": walls, "solvable": solvable.mean(),
            "shortest_path": length.mean() if length.size else None,
        })  # fmt: skip
    return pd.DataFrame(rows)


def score_students(tested: dict[str, Tested], settings: Settings) -> pd.DataFrame:
    """Return a row for each student, with its CVaR over all random mazes."""
    rows = []
    for name, found in tested.items():
        at_risk = conditional_value_at_risk(found.first, found.second, np.array(settings.shares))
        for i in range(settings.seeds):
            seen = found.evaluations
            seen = seen[(seen["member"] == i) & seen["alive"]]
            rows.append({
                "method": name, "seed": settings.first_seed + i,
                **{f"cvar_{a:g}": at_risk[i, j] for j, a in enumerate(settings.shares)},
                "held_out": found.held_out[i].mean(),
                "steps_to_rate": steps_to_reach(seen["env_steps"], seen["solved"], settings.rate),
            })  # fmt: skip
    return pd.DataFrame(rows)


def tabulate(tested: dict[str, Tested], settings: Settings) -> pd.DataFrame:
    """Return a row for each measure and method: its mean, and the difference from the baseline."""
    measures = {f"worst {100 * a:.3g} %": i for i, a in enumerate(settings.shares)}
    measures["held-out"], rows = None, []

    def scores(name: str, column: int | None) -> np.ndarray:  # [mazes or blocks, students]
        found = tested[name]
        values = found.held_out if column is None else found.at_risk(settings.shares)[..., column]
        return values[~np.isnan(values).any(-1)].T

    for measure, column in measures.items():
        others = scores(settings.baseline, column)
        for name in tested:
            own, row = scores(name, column), {"measure": measure, "method": name}
            row["solved"] = str(interval(own, bounds=PROBABILITY)) if own.size else "all diverged"
            if name != settings.baseline and own.size and others.size:
                row[f"less {settings.baseline}'s"] = str(
                    interval(own[:, :, None] - others[:, None, :])
                )
            rows.append(row)
    return pd.DataFrame(rows)


def draw(tested: dict[str, Tested], learning: pd.DataFrame, path: Path) -> None:
    """Draw CVaR by α, and the solve rate on the held-out mazes along training."""
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, found) in enumerate(tested.items()):
        shares = np.geomspace(10 / found.first.shape[1], 1, 40)
        at_risk = np.nanmean(conditional_value_at_risk(found.first, found.second, shares), axis=0)
        left.plot(shares, at_risk, color=f"C{i}", label=name)
        curve = learning[learning["method"] == name]
        right.plot(curve["env_steps"], curve["mean"], color=f"C{i}")
        right.fill_between(
            curve["env_steps"], curve["low"], curve["high"], color=f"C{i}", alpha=0.15, lw=0
        )
    left.set(xscale="log", ylim=(0, 1), xlabel="α, share of the worst mazes", ylabel="solve rate")
    right.set(ylim=(0, 1), xlabel="environment steps", title="held-out mazes")
    left.set_title("random mazes")
    left.legend()
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    contenders = [build(name, settings) for name in settings.contenders]
    tested, parts, played = {}, [], []
    for one in contenders:
        result = train(one, settings)
        tested[one.name] = play(one, result, settings)
        levels = levels_over_time(one, result)
        draw_levels(levels, settings.out / f"levels_{one.name}.png")
        played.append(describe_levels(levels).assign(method=one.name))
        found = curves(result.evaluations, metric="solved")
        parts.append(found.assign(method=one.name))
        learning = pd.concat(parts)
        score_students(tested, settings).to_csv(settings.out / "scores.csv", index=False)
        learning.to_csv(settings.out / "curves.csv", index=False, float_format="%.6g")
        pd.concat(played).to_csv(settings.out / "levels.csv", index=False, float_format="%.4g")
    table = tabulate(tested, settings)
    table.to_csv(settings.out / "table.csv", index=False)
    draw(tested, learning, settings.out / "tournament.png")
    print_table(table, title=f"{settings.total_steps:g} environment steps, {settings.seeds} seeds")
    say(f"table and pictures are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
