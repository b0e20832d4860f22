"""Comparisons: contenders are tuned by the same budget, and tested on the same seeds and levels.

Every run is kept in a folder that its identity names. So a comparison that was killed continues,
and one with other contenders uses the runs that are there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from purejaxrl.algorithm import Algorithm, require_fit
from purejaxrl.running import processes, record
from purejaxrl.running.evaluate import Evaluator, on_episodes
from purejaxrl.running.logs import say
from purejaxrl.running.population import Population, Rows, name_of, populate, seeds
from purejaxrl.running.result import Result
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study import stats
from purejaxrl.study.tuning import Choice, Grid, check_grid, combinations, tune
from purejaxrl.validation import is_count, require, require_count

FIRST_TUNING_SEED = 1_000_000
"""Seeds of tuning start here, those of the test at 0."""
LAST_PART = 0.2
"""Fraction of an agent's life, at its end, whose returns are its score."""
SECONDS_BETWEEN_LOOKS = 1.0
"""How often to look whether another process has finished a run."""


@dataclass(frozen=True, eq=False)
class Contender:
    """An algorithm, and what to try of its hyperparameters."""

    name: str
    """Its name in tables. Contenders of one name share a row: rules that were learned alike."""
    algorithm: Algorithm
    hypers: Any
    grid: Grid = field(default_factory=dict)
    """Values to try of fields of `hypers`; the others stay as they are."""
    shared: tuple[str, ...] = ()
    """Fields of `hypers` that all agents share, as in `populate`."""

    def __post_init__(self):
        check_grid(self.name, self.grid, self.hypers)


@dataclass(frozen=True)
class Scale:
    """How large a comparison is, the same for every contender."""

    num_agents: int
    """Agents that are tested, each with its own seed (and level)."""
    num_tuning: int
    """Other agents, which are trained with every combination of hyperparameters to try."""
    num_updates: int | None = None
    """Length of a life in updates; all contenders then need equally many steps per update."""
    tuning_rounds: int = 2
    """Rounds in which more values are tried, around the best one so far."""
    greedy_episodes: int = 16
    """Episodes that each final policy plays by its most likely actions; 0 for none."""
    total_steps: float | None = None
    """Length of a life in environment steps, instead of `num_updates`. It is rounded down to whole
    updates of each contender."""

    def __post_init__(self):
        require_count(self, "num_agents", "num_tuning")
        for name in ("tuning_rounds", "greedy_episodes"):
            value = getattr(self, name)
            require(value == 0 or is_count(value), self, name, "an integer >= 0")
        if self.total_steps is None:
            require_count(self, "num_updates")
            return
        require(self.num_updates is None, self, "num_updates", "None where total_steps is given")
        require(0 < self.total_steps < np.inf, self, "total_steps", "a finite number > 0")

    def updates_of(self, algorithm: Algorithm) -> int:
        """Return the length of a life in updates of an algorithm.

        Raises:
            ValueError: if it is less than one update, or the algorithm does not say how many
                environment steps an update takes.
        """
        if self.total_steps is None:
            return self.num_updates
        require_fit("contender", algorithm, "a length in environment steps", "steps_per_update")
        of_update, warmup = algorithm.steps_per_update, algorithm.warmup_steps
        updates = (int(self.total_steps) - warmup) // of_update
        with_warmup = f" and of the warm-up, {warmup}" if warmup else ""
        expected = f"a number >= {of_update + warmup}, the environment steps of an update"
        expected += with_warmup
        require(is_count(updates), self, "total_steps", expected)
        return updates


class Problem(NamedTuple):
    """What contenders learn."""

    name: str
    env: Any
    """A gymnax environment. If it has `sample_level`, every agent has its own level."""
    env_params: Any
    """The level of all agents, if the environment has no `sample_level`."""
    optimum: Callable[[Any], np.ndarray | None] = lambda levels: None
    """`(levels) -> the best return on each [num_agents]`; None where it is not known."""

    @property
    def has_levels(self) -> bool:
        """Whether every agent has its own level."""
        return hasattr(self.env, "sample_level")

    def levels(self, rows: Rows) -> Any:
        """Draw the level of every row from its seed, `[num_rows, ...]`; None without levels."""
        if not self.has_levels:
            return None
        keys = jnp.stack([jax.random.fold_in(jax.random.key(1), row["seed"]) for row in rows])
        return jax.vmap(self.env.sample_level)(keys)


class Tested(NamedTuple):
    """A contender on its test agents."""

    result: Result
    choice: Choice  # the hyperparameters that it was tuned to
    num_tried: int  # combinations that tuning tried


def require_equal_budgets(contenders: Sequence[Contender]) -> None:
    """Raise a ValueError unless all contenders try equally many combinations.

    Grids must have the same size and tune equally many fields, because every round tries new values
    of each field.
    """
    tuned = [[field for field, values in one.grid.items() if len(values) > 1] for one in contenders]
    sizes = [len(combinations(one.grid)) for one in contenders]
    if len({(size, len(fields)) for size, fields in zip(sizes, tuned, strict=True)}) > 1:
        told = ", ".join(
            f"{one.name}: {size} ({', '.join(fields) or 'nothing to tune'})"
            for one, size, fields in zip(contenders, sizes, tuned, strict=True)
        )
        raise ValueError(
            f"contenders: grids of these numbers of combinations are not valid: {told}; all must "
            "be of one size and tune as many fields"
        )


def require_lives(contenders: Sequence[Contender], scale: Scale) -> None:
    """Raise a ValueError unless all contenders can live equally many environment steps."""
    for contender in contenders:
        scale.updates_of(contender.algorithm)
    if scale.total_steps is None:
        _require_equal_updates(contenders)


def _require_equal_updates(contenders: Sequence[Contender]) -> None:
    steps = {one.name: one.algorithm.steps_per_update for one in contenders}
    if len(set(steps.values())) > 1:
        told = ", ".join(f"{name}: {number}" for name, number in steps.items())
        raise ValueError(
            f"num_updates: a number of updates is not valid for contenders whose updates take "
            f"these numbers of environment steps: {told}; give total_steps instead"
        )


def prepare(
    names: Sequence[str],
    make: Callable[[str], tuple[Problem, list[Contender]]],
    scale_of: Callable[[Problem], Scale] | None = None,
) -> list[tuple[Problem, list[Contender]]]:
    """Make all problems and contenders, so that an invalid one is found before any training.

    Args:
        names: names of environments.
        make: makes the problem of an environment, and its contenders.
        scale_of: how large the comparison on a problem will be; None if it has no `Scale`.

    Raises:
        ValueError: naming the environment, if one cannot be made, budgets are not equal, or a life
            is shorter than an update.
    """
    made = []
    for name in names:
        try:
            problem, contenders = make(name)
            require_equal_budgets(contenders)
            if scale_of:
                require_lives(contenders, scale_of(problem))
            made.append((problem, contenders))
        except ValueError as error:
            raise ValueError(f"env: {name!r} is not valid: {error}") from error
    return made


def in_turn(
    prepared: Sequence[tuple[Problem, list[Contender]]],
) -> Iterator[tuple[Problem, list[Contender]]]:
    """Yield what `prepare` made, and print which environment is next."""
    for i, (problem, contenders) in enumerate(prepared):
        say(f"{problem.name}: environment {i + 1} of {len(prepared)}")
        yield problem, contenders


def compare(
    contenders: Sequence[Contender], problem: Problem, scale: Scale, out: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tune and test contenders on one problem.

    Args:
        contenders: with grids of equal size.
        problem: what they learn.
        scale: how large the comparison is.
        out: folder; the runs of a contender are in `OUT/PROBLEM/NAME`.

    Returns:
        The scores, as `study/tables.py` reads them: a row for each contender, rule and agent. And
        the metrics of all tests, with the contender's name and the index of its rule.

    Raises:
        ValueError: if the grids are not of one size, several processes train together, or
            `num_updates` is given and updates differ in environment steps; see also
            `Scale.updates_of` and `run`.
    """
    require_equal_budgets(contenders)
    processes.require_single("a comparison")
    require_lives(contenders, scale)
    names = [contender.name for contender in contenders]
    best, scores, metrics = None, [], []
    for i, contender in enumerate(contenders):
        say(f"{problem.name}: {contender.name}, {i + 1} of {len(contenders)} contenders")
        tested = tune_and_test(contender, problem, scale, out / problem.name / contender.name)
        best = problem.optimum(tested.result.population.env_params) if i == 0 else best
        rule = names[:i].count(contender.name)
        # A process that holds the programs of forty trainings runs out of memory maps.
        jax.clear_caches()
        scores.append(pd.DataFrame({
            "env": problem.name,
            "contender": contender.name,
            "rule": rule,
            "agent": np.arange(scale.num_agents),
            "score": score_members(tested.result),
            "greedy": greedy_scores(tested.result),
            "alive": tested.result.alive,
            "optimum": np.nan if best is None else best,
            "own_level": problem.has_levels,
            "hyperparameters": name_of(tested.choice),
            "tried": tested.num_tried,
        }))  # fmt: skip
        metrics.append(tested.result.metrics.assign(contender=contender.name, rule=rule))
    return pd.concat(scores, ignore_index=True), pd.concat(metrics, ignore_index=True)


def tune_and_test(contender: Contender, problem: Problem, scale: Scale, out: Path) -> Tested:
    """Choose hyperparameters on some agents, and train others with them."""
    tuning = seeds(scale.num_tuning, start=FIRST_TUNING_SEED)
    updates = scale.updates_of(contender.algorithm)

    def try_all(choices: list[Choice]) -> np.ndarray:
        say(f"{contender.name}: tuning, {len(choices)} combinations × {len(tuning)} agents")
        population = members(contender, tuning * Rows(choices), problem)
        result = train(contender.algorithm, population, updates, out / "tuning")
        return score_members(result).reshape(len(tuning), len(choices))

    choice, num_tried = tune(
        contender.name, contender.grid, contender.hypers, try_all, scale.tuning_rounds
    )
    say(f"{contender.name}: {scale.num_agents} agents, {name_of(choice) or 'as it is'}")
    population = members(contender, seeds(scale.num_agents) * Rows([choice]), problem)
    evaluator = None
    if scale.greedy_episodes and contender.algorithm.act:
        evaluator = on_episodes(problem.env, num_episodes=scale.greedy_episodes, greedy=True)
    result = train(contender.algorithm, population, updates, out / "test", evaluator)
    return Tested(result, choice, num_tried)


def members(contender: Contender, rows: Rows, problem: Problem) -> Population:
    """Make the population of a contender, each agent on its own level where there are levels."""
    return populate(
        rows,
        contender.hypers,
        problem.env_params,
        levels=problem.levels(rows),
        shared=contender.shared,
    )


def score_members(result: Result) -> np.ndarray:
    """Score every member of a run: its mean return in training, in the last fifth of its life.

    These are returns of sampled actions; `greedy_scores` are those of the most likely ones.

    Returns:
        Scores `[num_members]`; NaN: the member diverged, or finished no episode.
    """
    return stats.final_scores(result.metrics, fraction=LAST_PART)


def greedy_scores(result: Result) -> np.ndarray:
    """Return the mean return of every member's final policy, by its most likely actions.

    Returns:
        Scores `[num_members]`; NaN: the member diverged, finished no episode, or no final policy
        was evaluated.
    """
    if result.evaluations.empty:
        return np.full(result.population.size, np.nan)
    return stats.final_scores(result.evaluations)


def train(
    algorithm: Algorithm,
    population: Population,
    num_updates: int,
    out: Path,
    evaluator: Evaluator | None = None,
) -> Result:
    """Train a contender, or continue the same run where it was stopped.

    If another process trains it, this one waits, and then reads what the other has trained.

    Args:
        algorithm, population, num_updates: see `run`.
        out: the beginning of the folder's name (`record.folder_of`).
        evaluator: evaluates the final policies; without one, they are not.

    Raises:
        ValueError, CheckpointError, Stopped: see `run`.
    """
    how = (evaluator.name,) if evaluator else ()
    folder = record.folder_of(out, algorithm, population, num_updates, *how)
    options = RunOptions(folder, resume=True, eval_every=num_updates)
    waiting = False
    while True:
        try:
            return run(algorithm, population, num_updates, options, evaluator=evaluator)
        except record.InUse:
            if not waiting:
                say(f"{options.out} is being trained by another process; waiting for it to end")
            waiting = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
