"""Tuning: choose hyperparameters from a grid, by how well agents learn with each combination.

Where the best value is the smallest or the largest of its grid, a better one may be outside: the
grid gets one more value there, and the new combinations are tried as well, a bounded number of
times.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purejaxrl.running.commandline import say
from purejaxrl.running.population import name_of, with_field
from purejaxrl.validation import check_hypers

Grid = Mapping[str, Sequence[float]]
"""Values to try of fields of `Hypers`, by name; a dot reaches into a nested one."""
Choice = dict[str, float]
"""One value of each."""
Try = Callable[[list[Choice]], np.ndarray]
"""`(combinations) -> scores [num_agents, num_combinations]`; NaN: the agent diverged, or finished
no episode."""


class Tuned(NamedTuple):
    """What tuning chose."""

    choice: Choice
    num_tried: int
    """Combinations that were tried; 1 where there was no choice."""


def combinations(grid: Grid) -> list[Choice]:
    """Return every combination of a grid's values; one without values for an empty grid."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def check_grid(name: str, grid: Grid, hypers: Any) -> None:
    """Raise a ValueError unless every value of a grid is valid, and none is there twice.

    Args:
        name: what errors call the contender.
        grid: the grid.
        hypers: the hyperparameters that have its fields.
    """
    for field, values in grid.items():
        if not 0 < len(values) == len(set(values)):
            raise ValueError(
                f"{name}: {field}: {tuple(values)} is not valid; it must be one or more values to "
                "try, all different"
            )
        for value in values:
            check_hypers(with_field(hypers, field, value))


def tune(name: str, grid: Grid, hypers: Any, try_all: Try, max_widenings: int) -> Tuned:
    """Choose the combination with which agents learn best.

    Args:
        name: what messages call the contender.
        grid: values to try. A field with a single value is not tuned.
        hypers: hyperparameters with the grid's fields; they say which values are valid.
        try_all: trains agents.
        max_widenings: how often the grid may be widened.

    Raises:
        ValueError: as `check_grid`.
    """
    check_grid(name, grid, hypers)
    grid = {field: sorted(values) for field, values in grid.items()}
    if len(combinations(grid)) == 1:
        return Tuned(combinations(grid)[0], 1)
    tried: dict[str, tuple[Choice, np.ndarray]] = {}
    for widenings in range(max_widenings + 1):
        new = [choice for choice in combinations(grid) if name_of(choice) not in tried]
        scores = try_all(new)
        tried |= {name_of(c): (c, column) for c, column in zip(new, scores.T, strict=True)}
        choices, columns = zip(*tried.values(), strict=True)
        best = choose(np.stack(columns, axis=1))
        choice, sound = choices[best], np.isfinite(columns[best])
        beyond = outside(grid, choice, hypers) if sound.any() else {}
        if not beyond:
            break
        where = f"{name}: {name_of(choice)} is best, at the edge of the grid"
        if widenings == max_widenings:
            say(f"{where} after all widenings ({widenings}); a better value may be outside")
            break
        say(f"{where}; trying also {name_of(beyond)}")
        grid = {field: sorted({*grid[field], beyond.get(field, choice[field])}) for field in grid}
    if not sound.all():
        say(
            f"{name}: {(~sound).sum()} of {len(sound)} agents diverged or finished no episode even "
            f"with the best of {len(tried)} combinations, {name_of(choice)}"
        )
    return Tuned(choice, len(tried))


def choose(scores: np.ndarray) -> int:
    """Return the index of the highest mean score, among those where the fewest agents failed.

    Args:
        scores: `[num_agents, num_combinations]`; NaN: the agent failed.
    """
    sound = np.isfinite(scores)
    failed = (~sound).sum(axis=0)
    means = np.where(sound, scores, 0).sum(axis=0) / np.maximum(sound.sum(axis=0), 1)
    return int(np.where(failed == failed.min(), means, -np.inf).argmax())


def outside(grid: Grid, choice: Choice, hypers: Any) -> Choice:
    """Return the next value outside of the grid for every field whose choice is at an edge.

    Values above 0 continue as a geometric series, others as an arithmetic one. A field is left out
    if its choice is inside the grid or its only value, or if the next value would not be valid.

    Args:
        grid: sorted values of every field.
        choice: one of its combinations.
        hypers: hyperparameters with the grid's fields.
    """
    found = {}
    for field, values in grid.items():
        if len(values) == 1 or choice[field] not in (values[0], values[-1]):
            continue
        edge, inner = values[:2] if choice[field] == values[0] else values[:-3:-1]
        value = edge * edge / inner if edge > 0 and inner > 0 else 2 * edge - inner
        try:
            check_hypers(with_field(hypers, field, value))
        except ValueError:
            continue
        found[field] = value
    return found
