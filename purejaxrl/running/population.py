"""Populations: agents that differ in seed, in hyperparameters, or in both.

`seeds(16) * grid(learning_rate=[1e-4, 1e-3])` is 32 rows. A member is named by its row.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.validation import check_hypers, require_known

Row = Mapping[str, Any]
"""What a member sets, by name."""

NUM_SEEDS = 2**32
"""`jax.random.key` keeps 32 bits of a seed: seeds 0 and 2**32 would give the same key."""


class Rows(tuple):
    """Rows of a sweep: `a * b` is every combination, `a + b` is one after the other.

    Values are Python numbers; NumPy and JAX scalars are converted to the number of equal value.
    """

    def __new__(cls, rows: Iterable[Row] = ()) -> "Rows":
        """Make rows.

        Raises:
            ValueError: for a value that is not one number, or an invalid seed.
        """
        return super().__new__(
            cls, ({name: _number(name, value) for name, value in row.items()} for row in rows)
        )

    def __mul__(self, other: "Rows") -> "Rows":
        shared = {k for row in self for k in row} & {k for row in other for k in row}
        if shared:
            raise ValueError(f"rows: {sorted(shared)} would be set twice; a product needs "
                             "distinct names on either side")  # fmt: skip
        return Rows({**a, **b} for a in self for b in other)

    def __add__(self, other: "Rows") -> "Rows":
        return Rows((*self, *other))


def seeds(count: int, start: int = 0) -> Rows:
    """Return `count` rows with the seeds from `start` on.

    Raises:
        ValueError: unless there is at least one, and all are in [0, 2**32).
    """
    if not _is_integer(count) or count < 1:
        raise ValueError(f"seeds: {count} is not valid; it must be an integer >= 1")
    if not _is_integer(start) or not 0 <= start <= NUM_SEEDS - count:
        raise ValueError(
            f"start: {start} is not valid; it must be an integer >= 0, and start + count at most "
            "2**32"
        )
    return Rows({"seed": seed} for seed in range(start, start + count))


def grid(**values: Iterable[float]) -> Rows:
    """Return every combination of the named values.

    Raises:
        ValueError: for a name without values.
    """
    rows = Rows([{}])
    for name, choices in values.items():
        if not isinstance(choices, Iterable):
            raise ValueError(f"{name}: {choices!r} is not valid; it must be a list of numbers")
        choices = list(choices)
        if not choices:
            raise ValueError(f"{name}: no values; a grid needs at least one for each name")
        rows = rows * Rows({name: choice} for choice in choices)
    return rows


def name_of(row: Row) -> str:
    """Return a member's name, the values of its row: `learning_rate=0.001,seed=3`."""
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
    shared: tuple[str, ...] = ()
    """Fields of `hypers` whose arrays all members share; they have no member axis."""

    @property
    def size(self) -> int:
        """Number of members."""
        return len(self.rows)

    @property
    def is_shared(self) -> Any:
        """Whether all members share a leaf: bools in the structure of `hypers`."""

        def shared(path: tuple, _: Any) -> bool:
            name = f"{leaf_name(path)}."
            return any(name.startswith(f"{field}.") for field in self.shared)

        return jax.tree_util.tree_map_with_path(shared, self.hypers)

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, all different."""
        return tuple(name_of(row) for row in self.rows)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of members' files: their seeds, or their names if several have the same seed."""
        found = tuple(str(row.get("seed")) for row in self.rows)
        return found if len(set(found)) == len(found) else self.names

    def select(self, name: str) -> "Population":
        """Keep one member, with the key that it has here.

        Args:
            name: of the member, as of `find`.

        Raises:
            ValueError: as `find`.
        """
        i = self.find(name)
        own = lambda shared, x: x if shared else x[i : i + 1]  # noqa: E731
        return self._replace(
            rows=self.rows[i : i + 1],
            keys=self.keys[i : i + 1],
            hypers=jax.tree.map(own, self.is_shared, self.hypers),
            env_params=jax.tree.map(lambda x: x[i : i + 1], self.env_params),
        )

    def find(self, name: str) -> int:
        """Return the index of the member of this name, or with these parts of it (`seed=3`).

        Raises:
            ValueError: for a name that is unknown or fits several members.
        """
        if name in self.names:
            return self.names.index(name)
        parts = set(name.split(","))
        fitting = [i for i, full in enumerate(self.names) if parts <= set(full.split(","))]
        if len(fitting) > 1:
            raise ValueError(
                f"member {name!r} is not valid; {len(fitting)} members fit it, such as "
                f"{self.names[fitting[0]]!r} and {self.names[fitting[1]]!r}"
            )
        if not fitting:
            require_known("member", name, self.names)
        return fitting[0]


def populate(
    rows: Iterable[Row],
    hypers: Any,
    env_params: Any = (),
    *,
    levels: Any = None,
    shared: Sequence[str] = (),
) -> Population:
    """Stack rows into a population.

    Args:
        rows: each sets a `seed` (default 0) and any of the hyperparameters, by name; a dot
            reaches into a nested one (`critic.learning_rate`).
        hypers: the values that rows do not set.
        env_params: the level of all members.
        levels: the level of each member instead, leaves `[num_members, ...]`.
        shared: fields of `hypers` whose arrays all members share, such as a rule or a dataset. They
            are held once on each device, whatever the number of members.

    Raises:
        ValueError: for no rows, two members of one name, an unknown or invalid value, levels that
            are not one for each member, or a shared field that holds no array.
    """
    rows = Rows({k: _like_default(hypers, k, x) for k, x in row.items()} for row in Rows(rows))
    if not rows:
        raise ValueError("population: no rows; give at least one, such as seeds(1)")
    names = [name_of(row) for row in rows]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(
            f"population: two members are called {twice!r}; rows must differ in the first six "
            "digits of a value"
        )
    size = len(rows)
    columns = _columns(rows, hypers)
    _check(rows, hypers, columns)
    _check_shared(shared, hypers, columns)
    repeat = lambda x: jnp.broadcast_to(x, (size, *jnp.shape(x)))  # noqa: E731
    is_shared = Population((), None, hypers, None, tuple(shared)).is_shared
    stacked = jax.tree.map(lambda s, x: jnp.asarray(x) if s else repeat(x), is_shared, hypers)
    for name, column in columns.items():
        stacked = with_field(stacked, name, _stack(column))
    levels = jax.tree.map(repeat, env_params) if levels is None else levels
    for path, x in jax.tree_util.tree_leaves_with_path(levels):
        if jnp.shape(x)[:1] != (size,):
            raise ValueError(
                f"levels: {leaf_name(path)} of shape {jnp.shape(x)} is not valid; its first axis "
                f"must have the size {size}, the number of members"
            )
    keys = jax.vmap(jax.random.key)(np.array([row.get("seed", 0) for row in rows], np.uint32))
    return Population(tuple(rows), keys, stacked, levels, tuple(shared))


def leaf_name(path: tuple) -> str:
    """Name a leaf by its path in a tree, as `student.rule.params`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _like_default(hypers: Any, name: str, value: Any) -> Any:
    """Return an integer as a float where the hyperparameter is one: 0 and 0.0 are one value."""
    if name == "seed" or type(value) is not int:
        return value
    return float(value) if isinstance(field_of(hypers, name), float) else value


def _columns(rows: Rows, hypers: Any) -> dict[str, list]:
    """Return each member's value of every hyperparameter that rows set, by name."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row if name != "seed"):
        default = field_of(hypers, name)
        if default is None or is_dataclass(default) or np.ndim(default):
            raise ValueError(f"{name}: is not one number, so rows cannot set it")
        columns[name] = [row.get(name, default) for row in rows]
    return columns


def _check_shared(shared: Sequence[str], hypers: Any, columns: Mapping[str, list]) -> None:
    """Raise a ValueError unless each shared field exists and holds arrays that rows do not set."""
    if isinstance(shared, str):
        raise ValueError(f"shared: {shared!r} is not valid; it must be a tuple of names")
    for name in shared:
        if not any(np.ndim(leaf) for leaf in jax.tree.leaves(field_of(hypers, name))):
            raise ValueError(f"shared: {name!r} is not valid; it must hold an array")
        for column in columns:
            if f"{column}.".startswith(f"{name}."):
                raise ValueError(f"shared: {name!r} is not valid; rows set {column!r}")


def _check(rows: Rows, hypers: Any, columns: dict[str, list]) -> None:
    """Check all members at once; only where that fails, one by one, to name the member."""
    together = hypers
    for name, column in columns.items():
        together = with_field(together, name, np.asarray(column))
    try:
        check_hypers(together)
    except ValueError:
        for i, row in enumerate(rows):
            member = hypers
            for name, column in columns.items():
                member = with_field(member, name, column[i])
            try:
                check_hypers(member)
            except ValueError as error:
                raise ValueError(f"member {name_of(row)!r}: {error}") from error
        raise


def _stack(column: list) -> jax.Array:
    """Stack numbers as `jnp.stack` does, but on the host: it would trace every one of them."""
    stacked = jnp.asarray(np.asarray(column))
    if any(isinstance(value, np.generic | np.ndarray | jax.Array) for value in column):
        return stacked
    zero = np.zeros((), stacked.dtype).item()  # weakly typed, as Python numbers are in JAX
    return jnp.broadcast_to(zero, stacked.shape).at[:].set(stacked)


def _number(name: str, value: Any) -> bool | int | float:
    """Return a row's value as a Python number.

    Raises:
        ValueError: if it is not one number, or is no valid seed.
    """
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        if value.size != 1:
            raise ValueError(
                f"{name}: an array of shape {value.shape} is not valid; a row needs one number"
            )
        value = value.item()
    if not isinstance(value, bool | int | float):
        raise ValueError(f"{name}: {value!r} is not valid; a row needs one number")
    if name == "seed" and (not _is_integer(value) or not 0 <= value < NUM_SEEDS):
        raise ValueError(f"seed: {value} is not valid; it must be an integer >= 0 and < 2**32")
    return value


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def field_of(tree: Any, name: str) -> Any:
    """Return a field of a dataclass, by name or dotted path.

    Raises:
        ValueError: if there is no such field, with the nearest ones that exist.
    """
    head, _, rest = name.partition(".")
    known = [f.name for f in fields(tree)]
    config = getattr(sys.modules.get(type(tree).__module__), "Config", None)
    if head not in known and is_dataclass(config) and head in {f.name for f in fields(config)}:
        raise ValueError(
            f"{head}: a field of {config.__module__}.Config is static, and cannot differ between "
            "members; make an algorithm and a run for each value"
        )
    require_known(f"{type(tree).__module__}.{type(tree).__name__} field", head, known)
    value = getattr(tree, head)
    if rest and not is_dataclass(value):
        raise ValueError(f"{name}: {head!r} has no fields of its own")
    return field_of(value, rest) if rest else value


def with_field(tree: Any, name: str, value: Any) -> Any:
    """Replace a field of a dataclass, by name or dotted path.

    Raises:
        ValueError: as `field_of`.
    """
    field_of(tree, name)  # raises if there is no such field
    head, _, rest = name.partition(".")
    if rest:
        value = with_field(getattr(tree, head), rest, value)
    return replace(tree, **{head: value})
