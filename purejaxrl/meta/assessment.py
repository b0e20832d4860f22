"""How the levels of lives that are over are scored, for a curriculum that asks."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_name
from purejaxrl.parts.returns import Estimates
from purejaxrl.running.evaluate import evaluate
from purejaxrl.ued.scores import Outcome


class Assessment(NamedTuple):
    """What it takes to score a level."""

    score: Callable
    """(key, Outcome) -> float32 [], as in `ued/scores.py`"""
    env: Any
    """Where final policies are evaluated: the agents' environment."""
    antagonist: Algorithm | None = None
    """What lives on the same level beside each agent, with the same number of interactions."""
    num_episodes: int = 16
    """Evaluation episodes, side by side."""
    max_steps: int = 10_000
    """Where to stop evaluation at the latest."""
    slots: int = 8
    """Lives that are judged at a time, on each device; all are judged, however many end at once."""

    @property
    def made_of(self) -> tuple[str, ...]:
        """What it is made of, as of an `Algorithm`."""
        rival = (str(self.antagonist.config), *self.antagonist.made_of) if self.antagonist else ()
        return part_name(self.score), str(self.num_episodes), *rival


def assess(
    key: jax.Array,
    assessment: Assessment,
    agent: Algorithm,
    state: Any,
    antagonist_state: Any,
    seen: Estimates,
    best_return: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Score the level of one life.

    Args:
        key: typed key.
        assessment: how.
        agent: the inner algorithm.
        state: the agent's, at the end of its life.
        antagonist_state: its antagonist's; () without one.
        seen: values and advantages of its last experience.
        best_return: the highest return known on the level; -inf if none is.

    Returns:
        The score, and the highest return now known, float32.
    """
    agent_key, antagonist_key, score_key = jax.random.split(key, 3)

    def play(key: jax.Array, algorithm: Algorithm, state: Any) -> jax.Array:
        played = evaluate(
            algorithm, assessment.env, key, algorithm.policy(state), state.task.env_params,
            num_episodes=assessment.num_episodes, greedy=False, max_steps=assessment.max_steps,
        )  # fmt: skip
        return jnp.where(played.finished, played.ret, jnp.nan)

    returns = play(agent_key, agent, state)
    if assessment.antagonist is None:
        against = jnp.full(1, jnp.nan)
    else:
        against = play(antagonist_key, assessment.antagonist, antagonist_state)
    best_return = jnp.fmax(best_return, jnp.fmax(jnp.nanmax(returns), jnp.nanmax(against)))
    outcome = Outcome(seen.advantage, seen.value, returns, best_return, against)
    return assessment.score(score_key, outcome), best_return
