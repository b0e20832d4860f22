"""How a finished life is evaluated, so that its level can be scored."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import part_name, part_names
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.running.evaluate import MAX_STEPS, evaluate
from purejaxrl.ued.scores import LevelOutcome, OptimalReturn

if TYPE_CHECKING:
    from purejaxrl.meta.agents import Agent
    from purejaxrl.meta.worlds import World


class Assessment(NamedTuple):
    """What a score of levels is computed from."""

    antagonist: Algorithm | None = None
    """An algorithm that trains beside each agent, on its level, for as many interactions: for
    scores that read `antagonist_returns`."""
    num_episodes: int = 16
    """Evaluation episodes of each policy."""
    max_steps: int = MAX_STEPS
    """Steps after which an evaluation episode is cut."""
    slots: int = 8
    """Finished lives that a device scores at a time, until all are scored."""
    optimal_return: OptimalReturn | None = None
    """Computes the optimal return of a level, for scores that read it."""

    @property
    def provided(self) -> frozenset[str]:
        """The fields of a `LevelOutcome` that it provides."""
        parts = {"antagonist_returns": self.antagonist, "optimal_return": self.optimal_return}
        missing = {field for field, part in parts.items() if part is None}
        return frozenset(LevelOutcome._fields) - missing

    @property
    def made_of(self) -> tuple[str, ...]:
        """Names of its parts, like `Algorithm.made_of`."""
        antagonist = ()
        if self.antagonist:
            antagonist = part_name(self.antagonist.config), *self.antagonist.made_of
        parts = self.num_episodes, self.max_steps, self.slots
        return *map(part_name, parts), *antagonist, *part_names(self.optimal_return)


def assess(
    key: jax.Array, world: "World", agent: "Agent", estimates: ValueEstimates
) -> tuple[jax.Array, jax.Array]:
    """Score the level of one finished life.

    Args:
        key: typed key.
        world: where it lived, with an assessment and a curriculum that has a score.
        agent: the agent at the end of its life, with its antagonist.
        estimates: values and advantages of the agent's last experience.

    Returns:
        The score, and the highest return now known, both float32 [].
    """
    assessment = world.assessment
    agent_key, antagonist_key, score_key = jax.random.split(key, 3)

    def play(key: jax.Array, algorithm: Algorithm, state: Any) -> jax.Array:
        played = evaluate(
            algorithm, world.env, key, algorithm.policy(state), state.task.env_params,
            num_episodes=assessment.num_episodes, greedy=False, max_steps=assessment.max_steps,
        )  # fmt: skip
        return jnp.where(played.finished, played.ret, jnp.nan)

    returns = play(agent_key, world.inner, agent.state)
    best_return = jnp.fmax(agent.best_return, jnp.nanmax(returns))
    antagonist_returns = None
    if assessment.antagonist:
        antagonist_returns = play(antagonist_key, assessment.antagonist, agent.antagonist)
        best_return = jnp.fmax(best_return, jnp.nanmax(antagonist_returns))
    outcome = LevelOutcome(
        returns, best_return, estimates.advantage, estimates.value, antagonist_returns
    )
    if assessment.optimal_return:
        optimum = assessment.optimal_return(agent.state.task.env_params)
        outcome = outcome._replace(optimal_return=optimum)
    return world.curriculum.score(score_key, outcome), best_return
