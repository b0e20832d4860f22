"""Worlds: the kinds of problems that a meta-learner's agents live in, side by side.

One θ is learned in all worlds at once. A world has its own environment, its own agents (such as
tables or networks), its own curriculum and lengths of life, and a share of the agents.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.identity import part_name
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.base import SampleLifetime, check_lifetime
from purejaxrl.ued.curriculum import Curriculum
from purejaxrl.validation import COUNT, is_count

Vary = Callable[[jax.Array, Any], Any]
"""`(key, hypers) -> hypers`: draws hyperparameters of one life, such as its step size or γ."""

OWN = ("agent", "critic_learning_rate", "curriculum", "antagonist")
"""Fields of a meta-learner's `Hypers` that can be `{world's name: value}`."""


def draw_hypers(vary: Vary | None, key: jax.Array, hypers: Any) -> Any:
    """Draw the hyperparameters of one life; without `vary`, they are those of all lives.

    Numbers become arrays without weak types, so that a state that holds them keeps its dtypes.
    """
    drawn = vary(key, hypers) if vary else hypers
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), drawn)


class World(NamedTuple):
    """A kind of problem, and the agents that live in it."""

    name: str
    """Prefix of its metrics, where there are several worlds."""
    inner: Algorithm
    """The algorithm of the agents."""
    env: Any
    """Their environment."""
    curriculum: Curriculum
    """Chooses the levels that they train on."""
    sample_lifetime: SampleLifetime
    """Draws the length of a life."""
    critic: nn.Module | None = None
    """Maps observations `[..., *obs_shape]` to values `[..., 1]`. A meta-gradient needs it."""
    assessment: Assessment | None = None
    """How finished lives are evaluated, for a curriculum that has a score."""
    vary: Vary | None = None
    """Draws what differs from life to life; None: all lives have the same hyperparameters."""
    share: int = 1
    """How many of the agents are its own, relative to the shares of the other worlds."""

    @property
    def made_of(self) -> tuple[str, ...]:
        """Names of its parts, like `Algorithm.made_of`."""
        parts = (
            self.inner.config, self.name, self.env, self.curriculum, self.sample_lifetime,
            self.critic, self.vary, self.share,
        )  # fmt: skip
        of_assessment = self.assessment.made_of if self.assessment else ()
        return *self.inner.made_of, *map(part_name, parts), *of_assessment


def check_worlds(worlds: World | Sequence[World]) -> tuple[World, ...]:
    """Return the worlds as a tuple.

    Raises:
        ValueError: if there is none, two have the same name, a share is not a count, or a life is
            shorter than one update.
    """
    worlds = (worlds,) if isinstance(worlds, World) else tuple(worlds)
    names = [world.name for world in worlds]
    if not 0 < len(names) == len(set(names)):
        raise ValueError(
            f"worlds: {names} is not valid; there must be one or more, each of its own name"
        )
    for world in worlds:
        if not is_count(world.share):
            raise ValueError(
                f"share of world {world.name!r}: {world.share} is not valid; it must be {COUNT}"
            )
        check_lifetime(world.sample_lifetime)
    return worlds


def divide(name: str, total: int, worlds: Sequence[World]) -> list[int]:
    """Divide a number of agents among worlds, in proportion to their shares.

    Raises:
        ValueError: if it cannot be divided without a remainder.
    """
    whole = sum(world.share for world in worlds)
    if total % whole:
        told = ", ".join(f"{world.name}: {world.share}" for world in worlds)
        raise ValueError(
            f"{name}: {total} is not valid; it must be a multiple of {whole}, the sum of the "
            f"worlds' shares ({told})"
        )
    return [total // whole * world.share for world in worlds]


def hypers_in(world: World, hypers: Any) -> Any:
    """Return a meta-learner's hyperparameters as they are in one world.

    Raises:
        ValueError: if a field holds a value for each of some worlds, but none for this one.
    """
    own = {}
    for field in OWN:
        value = getattr(hypers, field, None)
        if isinstance(value, dict):
            if world.name not in value:
                raise ValueError(
                    f"{type(hypers).__name__}.{field}: {', '.join(value)} is not valid; it must "
                    f"also have a value for world {world.name!r}"
                )
            own[field] = value[world.name]
    return hypers.replace(**own)


def join_metrics(
    worlds: Sequence[World], metrics: Sequence[Metrics], summed: Sequence[str]
) -> Metrics:
    """Join the metrics of all worlds; those of a single world stay as they are.

    With several worlds, each world's metrics are called `NAME/METRIC`. Metrics that all worlds have
    are also combined under the plain name: those in `summed` are added up, and the others averaged
    over the worlds where they are not NaN.
    """
    if len(worlds) == 1:
        return metrics[0]
    own = {
        f"{world.name}/{name}": value
        for world, found in zip(worlds, metrics, strict=True)
        for name, value in found.items()
    }
    common = set.intersection(*map(set, metrics))
    stacked = {name: jnp.stack([found[name] for found in metrics]) for name in sorted(common)}
    joined = {
        name: values.sum() if name in summed else jnp.nanmean(values)
        for name, values in stacked.items()
    }
    return joined | own
