"""The terms of a comparison: contenders, what they learn, on what scale, and whether it is fair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.algorithm import Algorithm, require_fit
from purejaxrl.identity import is_named, part_name
from purejaxrl.parts.wrappers import unwrapped
from purejaxrl.running.population import Rows
from purejaxrl.study.tuning import Grid, check_grid, combinations
from purejaxrl.validation import is_count, require, require_count


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


def require_comparable(contenders: Sequence[Contender], problem: Problem) -> None:
    """Raise a ValueError unless contenders learn the problem, and those of one name are alike.

    Contenders of one name are one row: rules that were learned alike. So they have one kind of
    config, and one grid.
    """
    where, kinds = part_name(unwrapped(problem.env)), {}
    for one in contenders:
        made_of = one.algorithm.made_of
        if is_named(where) and made_of and not any(where in name for name in made_of):
            raise ValueError(
                f"contender {one.name!r}: was made for {made_of[0]}, and not for {where}, the "
                f"environment of {problem.name!r}; make it with the problem's env"
            )
        kind = type(one.algorithm.config), one.grid
        if kinds.setdefault(one.name, kind) != kind:
            raise ValueError(
                f"contenders: two of the name {one.name!r} are not alike, in their config or their "
                "grid, and would be one row; give each a name of its own"
            )
