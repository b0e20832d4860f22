"""The kinds of random MDP: what is asked of an agent in `random_mdp.py`.

Each kind is a function that draws a problem whose rewards are of about unit size. Some move on a
graph, where every state and action leads to two random states. Others move on a line, where in
every state one random action leads forward, another back, and the others nowhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

MIN_STATES = 4
"""Least number of states; every kind works with so many."""


SUCCESS_PROB = 0.9
"""Probability that a move along a line succeeds; else the agent stays where it is."""


class Problem(NamedTuple):
    """What a kind decides; the fields are those of `Level`, with rewards of about unit size."""

    successors: jax.Array
    first_prob: jax.Array
    reward: jax.Array
    terminate_prob: jax.Array
    num_starts: jax.Array
    reward_std: float = 0.0


DrawProblem = Callable[[jax.Array, tuple[int, int], jax.Array], Problem]
"""(key, (S, A), size) -> a problem whose states are 0 … size - 1; `size` is an int32 scalar."""


def survival(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """Every step pays 1; in 70 % of the states one action ends the episode with a probability.

    The probability is U(0.1, 0.6), one for the level.
    """
    graph_key, action_key, state_key, hazard_key = jax.random.split(key, 4)
    action = jax.random.randint(action_key, shape[:1], 0, shape[1])
    is_dangerous = jax.random.bernoulli(state_key, 0.7, shape[:1])
    hazard = jax.random.uniform(hazard_key, minval=0.1, maxval=0.6)
    ends = hazard * is_dangerous[:, None] * jax.nn.one_hot(action, shape[1])
    return Problem(*_graph(graph_key, shape, size), jnp.ones(shape), ends, size)


def dense(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """Every step pays r(s, a) = N(0, 1) + offset, with offset U(-2, 2), without an end."""
    graph_key, reward_key, offset_key = jax.random.split(key, 3)
    offset = jax.random.uniform(offset_key, minval=-2.0, maxval=2.0)
    reward = offset + jax.random.normal(reward_key, shape)
    return Problem(*_graph(graph_key, shape, size), reward, jnp.zeros(shape), size)


def sparse_goal(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """A line, walked from one end to the goal at the other, which pays 1 and ends the episode."""
    goal = _at(size - 1, shape)
    return Problem(*_line(key, shape, size), goal, goal, jnp.int32(1))


def cost_to_go(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """Every step costs 0.1 until the goal at the end of a line; episodes start anywhere on it."""
    reward = jnp.full(shape, -0.1)
    return Problem(*_line(key, shape, size), reward, _at(size - 1, shape), size)


def corridor(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """Every step costs 1 until the far end of a line; a random agent seldom gets there in time."""
    reward = jnp.full(shape, -1.0)
    return Problem(*_line(key, shape, size), reward, _at(size - 1, shape), jnp.int32(1))


def rare(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """A tenth of all states and actions pay, 1 with probability 2/3 and -1 otherwise.

    In half of the levels these steps end the episode with probability 0.3.
    """
    graph_key, where_key, sign_key, end_key = jax.random.split(key, 4)
    pays = jax.random.bernoulli(where_key, 0.1, shape)
    sign = jnp.where(jax.random.bernoulli(sign_key, 2 / 3, shape), 1.0, -1.0)
    ends = 0.3 * pays * jax.random.bernoulli(end_key)
    return Problem(*_graph(graph_key, shape, size), pays * sign, ends, size)


def delayed(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """The first action decides between +1 and -1 at the end; later ones do not matter.

    State 0 leads to one of two lines of equal length, whose last states pay and end the episode.
    The right action, one for the level, leads to the line of +1 with probability 0.9, the others
    with probability 0.1.
    """
    length = (size - 1) // 2
    state = jnp.arange(shape[0])[:, None]
    right = jax.random.randint(key, (), 0, shape[1])
    to_good = jnp.where(jnp.arange(shape[1]) == right, SUCCESS_PROB, 1 - SUCCESS_PROB)
    following = jnp.broadcast_to(jnp.minimum(state + 1, size - 1), shape)
    successors = jnp.where(
        (state == 0)[..., None], jnp.stack([1, 1 + length]), following[..., None]
    )
    good, bad = _at(length, shape), _at(2 * length, shape)
    first_prob = jnp.broadcast_to(to_good, shape)
    return Problem(successors, first_prob, good - bad, good + bad, jnp.int32(1))


def lure(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """The goal of a line pays 1; on the way, one action takes 0.2 instead and ends the episode."""
    rank = _ranks(key, shape)
    goal = _at(size - 1, shape)
    lured = (rank == 1) * (1.0 - goal)
    return Problem(*_line_by_rank(rank, size), goal + 0.2 * lured, goal + lured, size)


def bandit(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> Problem:
    """An episode is one step in a random state, and pays r(s, a) = N(0, 1) with a noise of ±1."""
    graph_key, reward_key = jax.random.split(key)
    reward = jax.random.normal(reward_key, shape)
    return Problem(*_graph(graph_key, shape, size), reward, jnp.ones(shape), size, 1.0)


class Kind(NamedTuple):
    """A kind of MDP."""

    draw: DrawProblem
    limit: tuple[int, int] = (20, 300)  # least and largest time limit; log-uniform


KINDS: dict[str, Kind] = {
    "survival": Kind(survival),
    "dense": Kind(dense),
    "sparse_goal": Kind(sparse_goal),
    "cost_to_go": Kind(cost_to_go),
    "rare": Kind(rare),
    "corridor": Kind(corridor, (100, 500)),
    "delayed": Kind(delayed),
    "lure": Kind(lure),
    "bandit": Kind(bandit),
}
"""The kinds of MDP by name."""


def _graph(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draw any two successors for every state and action, and the probability of the first."""
    successor_key, prob_key = jax.random.split(key)
    successors = jax.random.randint(successor_key, (*shape, 2), 0, size)
    return successors, jax.random.uniform(prob_key, shape)


def _line(key: jax.Array, shape: tuple[int, int], size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the successors and the probability of the first on a line; see `_line_by_rank`."""
    return _line_by_rank(_ranks(key, shape), size)


def _line_by_rank(rank: jax.Array, size: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Make a line: the action of rank 0 leads forward, that of rank 1 back, the others nowhere.

    Args:
        rank: int32 `[S, A]`, of every action in its state.
        size: int32, number of states on the line.
    """
    state = jnp.arange(rank.shape[0])[:, None]
    move = (rank == 0) * 1 - (rank == 1) * 1
    successors = jnp.stack([state + move, jnp.broadcast_to(state, rank.shape)], axis=-1)
    return jnp.clip(successors, 0, size - 1), jnp.full(rank.shape, SUCCESS_PROB)


def _ranks(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Draw a permutation of the actions for every state: int32 `[S, A]`."""
    return jnp.argsort(jax.random.uniform(key, shape), axis=-1)


def _at(state: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Return 1 for every action in one state, 0 elsewhere: float32 `[S, A]`."""
    return jnp.broadcast_to(jax.nn.one_hot(state, shape[0])[:, None], shape)
