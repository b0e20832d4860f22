"""Tuning: choose hyperparameters from a grid, by how well agents learn with each combination.

A better value may be between those of the grid, or outside of it where the best one is at its edge.
So more values around the best one are tried, equally many for every contender (a pattern search;
Hooke & Jeeves 1961).
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from purejaxrl.running.logs import say
from purejaxrl.running.population import name_of, with_field
from purejaxrl.validation import check_hypers

Grid = Mapping[str, Sequence[float]]
"""Values to try of fields of `Hypers`, by name; a dot reaches into a nested one."""
Choice = dict[str, float]
"""One value for each field of a grid."""
Try = Callable[[list[Choice]], np.ndarray]
"""`(combinations) -> scores [num_agents, num_combinations]`; NaN: the agent diverged, or finished
no episode."""


class Tuned(NamedTuple):
    """What tuning chose."""

    choice: Choice
    num_tried: int
    """Combinations that were tried; 1 where there was no choice."""


def combinations(grid: Grid) -> list[Choice]:
    """Return every combination of a grid's values; an empty grid has one empty combination."""
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


def tune(name: str, grid: Grid, hypers: Any, try_all: Try, num_rounds: int) -> Tuned:
    """Choose the combination with which agents learn best.

    Every combination of the grid is tried first. In each round after that, every field gets two new
    values around the best combination's (`around`). So contenders that tune as many fields, on
    grids of one size, try equally many combinations, wherever their best values are.

    Args:
        name: what messages call the contender.
        grid: values to try. A field with a single value is not tuned.
        hypers: hyperparameters with the grid's fields; they say which values are valid.
        try_all: trains agents.
        num_rounds: rounds after the grid.

    Raises:
        ValueError: see `check_grid`.
    """
    check_grid(name, grid, hypers)
    known = {field: sorted(values) for field, values in grid.items()}
    new = combinations(known)
    if len(new) == 1:
        return Tuned(new[0], 1)
    tried: list[Choice] = []
    scores = np.zeros((0, 0))
    for i in range(num_rounds + 1):
        found = try_all(new)
        tried, scores = tried + new, np.hstack([scores, found]) if tried else found
        best = choose(scores)
        choice, sound = tried[best], np.isfinite(scores[:, best])
        if i < num_rounds:
            values = {field: around(known, field, choice[field], hypers) for field in known}
            new = [choice | {field: value} for field in known for value in values[field]]
            known = {field: sorted([*known[field], *values[field]]) for field in known}
            say(f"{name}: {name_of(choice)} is best; trying {len(new)} values around it")
    edges = [field for field in known if is_edge(known, field, choice[field], hypers)]
    if edges:
        say(
            f"{name}: {name_of(choice)} is best, at the edge of what was tried for "
            f"{' and '.join(edges)}; a better value may be outside"
        )
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


def around(known: Grid, field: str, value: float, hypers: Any) -> list[float]:
    """Return two new values of a field, one on either side of the best one.

    Inside of the values that are known, they are in the middle between the best one and its
    neighbours; at an edge, one of them is outside. If no value outside is valid, as below an
    entropy bonus of 0, both are inside. A field with a single value has none.

    Args:
        known: all values that were tried of every field, sorted.
        field: the field.
        value: the best one.
        hypers: hyperparameters with the field; they say which values are valid.
    """
    values = known[field]
    if len(values) == 1:
        return []
    i = values.index(value)
    sides = [j for j in (i - 1, i + 1) if 0 <= j < len(values)]
    new = [between(value, values[j]) for j in sides]
    if len(sides) == 1:
        beyond = outside(value, values[sides[0]])
        new.append(beyond if is_valid(hypers, field, beyond) else between(value, new[0]))
    return new


def is_edge(known: Grid, field: str, value: float, hypers: Any) -> bool:
    """Whether a better value of a field may be outside of those that are known."""
    values = known[field]
    if len(values) == 1 or value not in (values[0], values[-1]):
        return False
    inner = values[1] if value == values[0] else values[-2]
    return is_valid(hypers, field, outside(value, inner))


def between(a: float, b: float) -> float:
    """Return the geometric mean of values above 0, and the arithmetic mean of others."""
    return float(np.sqrt(a * b)) if min(a, b) > 0 else (a + b) / 2


def outside(edge: float, inner: float) -> float:
    """Continue a series beyond its edge: geometric above 0, elsewhere arithmetic."""
    return edge * edge / inner if min(edge, inner) > 0 else 2 * edge - inner


def is_valid(hypers: Any, field: str, value: float) -> bool:
    """Whether a value of a field is valid."""
    try:
        check_hypers(with_field(hypers, field, value))
    except ValueError:
        return False
    return True
