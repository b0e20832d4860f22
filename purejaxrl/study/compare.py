"""Comparisons: contenders are tuned by the same budget, and tested on the same seeds and levels.

Every run is kept in a folder that its identity names. So a comparison that was killed continues,
and one with other contenders uses the runs that are there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import processes, record
from purejaxrl.running.evaluate import Evaluator, on_episodes
from purejaxrl.running.logs import say
from purejaxrl.running.population import Population, Rows, name_of, populate, seeds
from purejaxrl.running.result import Result
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study import stats
from purejaxrl.study.terms import (
    Contender,
    Problem,
    Scale,
    require_comparable,
    require_equal_budgets,
    require_lives,
)
from purejaxrl.study.tuning import Choice, tune

FIRST_TUNING_SEED = 1_000_000
"""Seeds of tuning start here, those of the test at 0."""
LAST_PART = 0.2
"""Fraction of an agent's life, at its end, whose returns are its score."""
SECONDS_BETWEEN_LOOKS = 1.0
"""How often to look whether another process has finished a run."""


class Tested(NamedTuple):
    """A contender on its test agents."""

    result: Result
    choice: Choice  # the hyperparameters that it was tuned to
    num_tried: int  # combinations that tuning tried


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
            require_comparable(contenders, problem)
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
    contenders: Sequence[Contender], problem: Problem, scale: Scale, out: Path | str
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
        ValueError: if a contender was made for another environment, contenders of one name are not
            alike, the grids are not of one size, several processes train together, or
            `num_updates` is given and updates differ in environment steps; see also
            `Scale.updates_of` and `run`.
    """
    out = Path(out)
    require_comparable(contenders, problem)
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
