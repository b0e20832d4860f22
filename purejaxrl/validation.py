"""What valid settings and hyperparameters are, said where they are declared.

`hyper(2.5e-4, above=0)` declares a traced hyperparameter and its valid range;
`check_hypers` compares concrete values with it. `require` does the same for
the static settings of a `Config`, in its `__post_init__`. Every error names the
field, the value, and what would be valid.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np


def hyper(
    default: float,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    infinite: bool = False,
) -> Any:
    """Declare a float hyperparameter with its valid range, as a dataclass field.

    Args:
        default: the default value.
        above, at_least: exclusive or inclusive lower bound.
        below, at_most: exclusive or inclusive upper bound.
        infinite: whether ±inf is valid (it often means "off").
    """
    bounds = dict(above=above, at_least=at_least, below=below, at_most=at_most, infinite=infinite)
    return dataclasses.field(default=default, metadata={"bounds": bounds})


def check_hypers(hypers: Any) -> None:
    """Check every declared hyperparameter whose value is concrete; tracers pass.

    Args:
        hypers: a dataclass pytree; leaves are scalars or carry a population axis. A field can also
            be a dict of such values, one for each world of a meta-learner.

    Raises:
        ValueError: naming the field, the value and the valid range.
    """
    if isinstance(hypers, type) or not dataclasses.is_dataclass(hypers):
        raise ValueError(
            f"hypers: {hypers!r} is not valid; it must be an instance of the algorithm's `Hypers`"
        )
    for field in dataclasses.fields(hypers):
        value, bounds = getattr(hypers, field.name), field.metadata.get("bounds")
        for one in value.values() if isinstance(value, Mapping) else (value,):
            if dataclasses.is_dataclass(one):
                check_hypers(one)
            elif bounds is not None and not isinstance(one, jax.core.Tracer):
                _check_bounds(f"{type(hypers).__name__}.{field.name}", one, bounds)


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    array = np.asarray(value, dtype=np.float64)
    bad = ~_inside(array, **bounds)
    if bad.any():
        where = "" if array.ndim == 0 else f" (member {int(np.argwhere(bad)[0, 0])})"
        raise ValueError(
            f"{name}: {float(array[bad].ravel()[0])!r} is not valid{where}; it must be "
            f"{describe_bounds(**bounds)}"
        )


def _inside(x: np.ndarray, above, at_least, below, at_most, infinite) -> np.ndarray:
    ok = ~np.isnan(x) if infinite else np.isfinite(x)
    if above is not None:
        ok &= x > above
    if at_least is not None:
        ok &= x >= at_least
    if below is not None:
        ok &= x < below
    if at_most is not None:
        ok &= x <= at_most
    return ok


def describe_bounds(above, at_least, below, at_most, infinite) -> str:
    """Say a valid range in words: `a number > 0 and <= 1`."""
    parts = [
        f"{sign} {bound:g}"
        for sign, bound in ((">", above), (">=", at_least), ("<", below), ("<=", at_most))
        if bound is not None
    ]
    noun = "a number" if infinite else "a finite number"
    return " ".join([noun, " and ".join(parts)]) if parts else noun


def require(valid: bool, owner: object, field: str, expected: str) -> None:
    """Raise a ValueError that names `owner.field`, its value and what is valid."""
    if not valid:
        raise ValueError(
            f"{type(owner).__name__}.{field}: {getattr(owner, field)!r} is not valid; "
            f"it must be {expected}"
        )


def require_hypers(hypers: Any, expected: type) -> None:
    """Raise a ValueError unless hyperparameters are those of a learner around agents.

    Args:
        hypers: the hyperparameters; a usual mistake is to pass the agents' own.
        expected: the learner's class, which holds the agents' hyperparameters as `agent`.
    """
    if not isinstance(hypers, expected):
        found, wanted = (f"{x.__module__}.{x.__qualname__}" for x in (type(hypers), expected))
        raise ValueError(f"hypers: {found} is not valid; it must be {wanted}(agent=…)")


def require_known(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise a ValueError with a suggestion if `name` is not among `known`."""
    known = sorted(known)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    lowered = [k for k in known if k.lower().startswith(name.lower())]
    hint = ", ".join(dict.fromkeys(close + lowered))
    end = f"did you mean: {hint}?" if hint else f"it must be one of {', '.join(known)}"
    raise ValueError(f"unknown {kind} {name!r}; {end}")


COUNT = "an integer >= 1 and < 2**31"
"""What `is_count` accepts: counts are int32 on the device."""


def is_count(value: Any) -> bool:
    """Whether a value is an integer >= 1 that fits an int32."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and 0 < value < 2**31


def require_count(owner: object, *names: str) -> None:
    """Raise a ValueError unless each named field of `owner` is a count."""
    for name in names:
        require(is_count(getattr(owner, name)), owner, name, COUNT)


def require_counts(owner: object, field: str) -> None:
    """Raise a ValueError unless the field of `owner` holds counts, at least one and none twice."""
    values = getattr(owner, field)
    valid = 0 < len(values) == len(set(values)) and all(map(is_count, values))
    require(valid, owner, field, "one or more integers >= 1 and < 2**31, all different")


def require_distinct(owner: object, field: str, expected: str) -> None:
    """Raise a ValueError unless the field of `owner` holds at least one value and none twice."""
    values = getattr(owner, field)
    valid = 0 < len(values) == len(set(values))
    require(valid, owner, field, f"one or more {expected}, all different")


def require_names(owner: object, field: str, kind: str, known: Iterable[str]) -> None:
    """Raise a ValueError unless the field of `owner` names known things, each once.

    Args:
        owner: a `Config` or the settings of an experiment.
        field: its field, with a tuple of names.
        kind: what a name stands for, as "environment".
        known: all valid names. An empty field's error lists them where they are few.
    """
    known = tuple(known)
    expected = f"of {', '.join(known)}" if len(known) <= 20 else f"names of {kind}s"
    require_distinct(owner, field, expected)
    for name in getattr(owner, field):
        require_known(kind, name, known)


def require_seed(owner: Any) -> None:
    """Raise a ValueError unless `owner.seed` is a seed of `jax.random.key`."""
    require(0 <= owner.seed < 2**32, owner, "seed", "an integer >= 0 and < 2**32")


def require_choice(owner: object, field: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless the field of `owner` is one of the choices."""
    require(getattr(owner, field) in choices, owner, field, f"one of {', '.join(choices)}")
