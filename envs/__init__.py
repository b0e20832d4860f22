"""Environments by name, all on the gymnax 1.x interface: gymnax's own, and Brax's."""

from typing import Any

import gymnax

from purejaxrl.validation import require_known

# MNISTBandit downloads its data; it is left out.
_GYMNAX = frozenset(gymnax.registered_envs) - {"MNISTBandit-bsuite"}
_BRAX = frozenset(
    {
        "ant",
        "halfcheetah",
        "hopper",
        "humanoid",
        "humanoidstandup",
        "inverted_double_pendulum",
        "inverted_pendulum",
        "pusher",
        "reacher",
        "swimmer",
        "walker2d",
    }
)


def names() -> tuple[str, ...]:
    """Return every name that `make` knows."""
    return tuple(sorted(_GYMNAX | _BRAX))


def make(name: str, **settings: Any) -> tuple[Any, Any]:
    """Make an environment and its default parameters (its level).

    Args:
        name: one of `names()`.
        settings: what its constructor takes, such as Brax's `backend`.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    require_known("environment", name, names())
    if name in _BRAX:
        from envs.brax_adaptor import BraxEnvironment  # Brax takes seconds to import

        env = BraxEnvironment(name, **settings)
        return env, env.default_params
    return gymnax.make(name, **settings)
