"""Populations: agents that differ in seed, in hyperparameters, or in both.

`seeds(16) * grid(learning_rate=[1e-4, 1e-3])` is a list of 32 rows; `populate` turns rows into
the stacked keys and hyperparameters that a run is vmapped over. A row is what names a member.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.validation import check_hypers, require_known

Row = Mapping[str, Any]


class Rows(tuple):
    """Rows of a sweep: `a * b` is every combination, `a + b` is one after the other."""

    def __mul__(self, other: "Rows") -> "Rows":
        shared = {k for row in self for k in row} & {k for row in other for k in row}
        if shared:
            raise ValueError(f"rows: {sorted(shared)} would be set twice; a product needs "
                             "distinct names on either side")  # fmt: skip
        return Rows({**a, **b} for a in self for b in other)

    def __add__(self, other: "Rows") -> "Rows":
        return Rows((*self, *other))


def seeds(count: int, start: int = 0) -> Rows:
    """`count` seeds, from `start` on."""
    if count < 1:
        raise ValueError(f"seeds: {count} is not valid; it must be an integer >= 1")
    return Rows({"seed": seed} for seed in range(start, start + count))


def grid(**values: Iterable[float]) -> Rows:
    """Every combination of the named values."""
    rows = Rows(({},))
    for name, choices in values.items():
        rows = rows * Rows({name: choice} for choice in choices)
    return rows


def log_uniform(count: int, rng_seed: int = 0, **ranges: tuple[float, float]) -> Rows:
    """`count` random draws, each named value log-uniform in its (low, high)."""
    for name, (low, high) in ranges.items():
        if not 0 < low < high:
            raise ValueError(f"{name}: ({low}, {high}) is not valid; it must be 0 < low < high")
    rng = np.random.default_rng(rng_seed)
    draws = {
        name: np.exp(rng.uniform(math.log(low), math.log(high), count))
        for name, (low, high) in ranges.items()
    }
    return Rows({name: float(draws[name][i]) for name in draws} for i in range(count))


def name_of(row: Row) -> str:
    """Name a member by what its row sets: `learning_rate=0.001,seed=3`."""
    return ",".join(
        f"{key}={value:.6g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in row.items()
    )


class Population(NamedTuple):
    """Members to train side by side; array leaves carry a leading `[num_members]` axis."""

    rows: tuple[Row, ...]
    keys: jax.Array
    hypers: Any
    env_params: Any

    @property
    def size(self) -> int:
        """How many members."""
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, unique."""
        return tuple(name_of(row) for row in self.rows)

    def select(self, keep: Callable[[Row], bool] | Sequence[int] | str) -> "Population":
        """Keep the members of these indices, of this name, or whose row `keep` accepts.

        Raises:
            ValueError: if the name is unknown, or no member is left.
        """
        if isinstance(keep, str):
            require_known("member", keep, self.names)
            index = [self.names.index(keep)]
        elif callable(keep):
            index = [i for i, row in enumerate(self.rows) if keep(row)]
        else:
            index = list(keep)
        if not index:
            raise ValueError("population: the selection keeps no member")
        at = np.asarray(index)
        take = lambda tree: jax.tree.map(lambda x: x[at], tree)  # noqa: E731
        rows = tuple(self.rows[i] for i in index)
        return Population(rows, take(self.keys), take(self.hypers), take(self.env_params))


def populate(rows: Sequence[Row], hypers: Any, env_params: Any) -> Population:
    """Stack rows into a population.

    Args:
        rows: each sets a `seed` (default 0) and any of the hyperparameters, by name; a dot
            reaches into a nested one (`critic.learning_rate`).
        hypers: the values that rows do not set.
        env_params: the level, shared by all members.

    Raises:
        ValueError: for an unknown or invalid hyperparameter, or two members of one name.
    """
    rows = tuple(rows)
    if not rows:
        raise ValueError("population: no rows; give at least one, such as seeds(1)")
    if len(set(map(name_of, rows))) < len(rows):
        names = [name_of(row) for row in rows]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"population: two members are called {twice!r}; rows must differ")
    members = []
    for row in rows:
        member = hypers
        for name, value in row.items():
            if name != "seed":
                member = with_field(member, name, value)
        try:
            check_hypers(member)
        except ValueError as error:
            raise ValueError(f"member {name_of(row)!r}: {error}") from error
        members.append(member)
    size = len(rows)
    return Population(
        rows,
        jnp.stack([jax.random.key(row.get("seed", 0)) for row in rows]),
        jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *members),
        jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *jnp.shape(x))), env_params),
    )


def with_field(tree: Any, name: str, value: Any) -> Any:
    """Replace a field of a dataclass, by name or dotted path.

    Raises:
        ValueError: if there is no such field, with the nearest ones that exist.
    """
    head, _, rest = name.partition(".")
    known = [f.name for f in fields(tree)]
    require_known(f"{type(tree).__module__}.{type(tree).__name__} field", head, known)
    if rest:
        child = getattr(tree, head)
        if not is_dataclass(child):
            raise ValueError(f"{name}: {head!r} has no fields of its own")
        value = with_field(child, rest, value)
    return replace(tree, **{head: value})
