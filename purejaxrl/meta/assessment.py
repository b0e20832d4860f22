"""How the level of a finished life is scored, for a curriculum that reads scores."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_name
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.running.evaluate import evaluate
from purejaxrl.ued.scores import LevelOutcome, Score


class Assessment(NamedTuple):
    """What is needed to score a level."""

    score: Score
    """One of `ued/scores.py`, or your own."""
    env: Any
    """Where final policies are evaluated: the agents' environment."""
    antagonist: Algorithm | None = None
    """An algorithm that trains beside each agent, on its level, for as many interactions."""
    num_episodes: int = 16
    """Evaluation episodes of each policy."""
    max_steps: int = 10_000
    """Steps after which an evaluation episode is cut."""
    slots: int = 8
    """Finished lives that a device scores at a time, until all are scored."""

    @property
    def made_of(self) -> tuple[str, ...]:
        """Names of its parts, as of an `Algorithm`."""
        antagonist = ()
        if self.antagonist:
            antagonist = part_name(self.antagonist.config), *self.antagonist.made_of
        parts = self.score, self.env, self.num_episodes, self.max_steps, self.slots
        return *map(part_name, parts), *antagonist


def assess(
    key: jax.Array,
    assessment: Assessment,
    agent: Algorithm,
    state: Any,
    antagonist_state: Any,
    estimates: ValueEstimates,
    best_return: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Score the level of one finished life.

    Args:
        key: typed key.
        assessment: how to score it.
        agent: the inner algorithm.
        state: the agent's, at the end of its life.
        antagonist_state: the antagonist's; () without one.
        estimates: values and advantages of the agent's last experience.
        best_return: the highest return known on the level; -inf if none is.

    Returns:
        The score, and the highest return now known, both float32 [].
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
        antagonist_returns = jnp.full(1, jnp.nan)
    else:
        antagonist_returns = play(antagonist_key, assessment.antagonist, antagonist_state)
    best_return = jnp.fmax(
        best_return, jnp.fmax(jnp.nanmax(returns), jnp.nanmax(antagonist_returns))
    )
    outcome = LevelOutcome(
        estimates.advantage, estimates.value, returns, best_return, antagonist_returns
    )
    return assessment.score(score_key, outcome), best_return
