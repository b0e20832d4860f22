"""The kinds of random MDP: what is asked of an agent in `random_mdp.py`.

Each kind is a function from random numbers to a problem whose rewards are of about unit size. Some
move on a graph, where every state and action leads to two random states. Others move on a line,
where in every state one random action leads forward, another back, and the others nowhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

MIN_STATES = 4
"""Least number of states, with which every kind still works."""

SUCCESS_PROB = 0.9
"""Probability that a move along a line succeeds; else the agent stays where it is."""

SWIM_PROB = 0.6
"""Probability that an agent that swims against a current gets ahead."""


class Moves(NamedTuple):
    """Where actions lead."""

    successors: jax.Array  # int32 [S, A, 2]
    first_prob: jax.Array  # float32 [S, A], probability of the first successor


class Draws(NamedTuple):
    """The random numbers of a level, drawn once for all kinds, as this compiles faster."""

    size: jax.Array  # int32; the states are 0 … size - 1
    graph: Moves  # two uniform states, and U(0, 1) for the probability of the first
    rank: jax.Array  # int32 [S, A], a permutation of the actions for every state
    uniform: jax.Array  # float32 [S, A], U(0, 1)
    normal: jax.Array  # float32 [S, A], N(0, 1)
    level_uniform: jax.Array  # float32, U(0, 1), one number for the level


class Problem(NamedTuple):
    """What a kind decides."""

    moves: Moves
    reward: jax.Array  # float32 [S, A], means
    terminate_prob: jax.Array  # float32 [S, A], probability that the step ends the episode
    num_starts: jax.Array  # int32; an episode starts in one of the states 0 … num_starts - 1
    noise: float = 0.0  # least size of the random term of every reward


MakeProblem = Callable[[Draws], Problem]


def draw(key: jax.Array, num_states: int, num_actions: int, size: jax.Array) -> Draws:
    """Draw the random numbers of a level.

    Args:
        key: typed key.
        num_states, num_actions: S and A.
        size: int32, the number of states that can be reached, at most S.
    """
    uniform_key, normal_key, level_key = jax.random.split(key, 3)
    uniform = jax.random.uniform(uniform_key, (5, num_states, num_actions))
    first, second, first_prob, order, spare = uniform
    successors = jnp.floor(size * jnp.stack([first, second], axis=-1)).astype(jnp.int32)
    return Draws(
        size=size,
        graph=Moves(successors, first_prob),
        rank=(order[:, :, None] > order[:, None, :]).sum(-1),
        uniform=spare,
        normal=jax.random.normal(normal_key, (num_states, num_actions)),
        level_uniform=jax.random.uniform(level_key),
    )


def survival(draws: Draws) -> Problem:
    """Every step pays 1; in 70 % of the states one action ends the episode with a probability.

    The probability is U(0.1, 0.6), one for the level.
    """
    is_dangerous = (draws.rank == 0) & (draws.uniform[:, :1] < 0.7)
    hazard = 0.1 + 0.5 * draws.level_uniform
    return Problem(draws.graph, _everywhere(1.0, draws), hazard * is_dangerous, draws.size)


def dense(draws: Draws) -> Problem:
    """Every step pays r(s, a) = N(0, 1) + offset, offset U(-2, 2); only time ends it."""
    offset = 4 * draws.level_uniform - 2
    return Problem(draws.graph, offset + draws.normal, _everywhere(0.0, draws), draws.size)


def sparse_goal(draws: Draws) -> Problem:
    """A line, walked from one end to the goal at the other, which pays 1 and ends the episode.

    Where the time limit is shorter than the line, nothing can be earned: in 3 % of levels with up
    to 32 states, and in a third of those with up to 100.
    """
    goal = _at(draws.size - 1, draws)
    return Problem(_line(draws), goal, goal, jnp.int32(1))


def cost_to_go(draws: Draws) -> Problem:
    """Every step costs 0.1 until the goal at the end of a line; episodes start anywhere on it."""
    goal = _at(draws.size - 1, draws)
    return Problem(_line(draws), _everywhere(-0.1, draws), goal, draws.size)


def corridor(draws: Draws) -> Problem:
    """Every step costs 1 on the way from one end of a line to the other; limits go up to 500."""
    goal = _at(draws.size - 1, draws)
    return Problem(_line(draws), _everywhere(-1.0, draws), goal, jnp.int32(1))


def rare(draws: Draws) -> Problem:
    """A tenth of all states and actions pay, 1 with probability 2/3 and -1 otherwise.

    In half of the levels these steps end the episode with probability 0.3.
    """
    pays = draws.uniform < 0.1
    reward = pays * jnp.where(draws.uniform < 0.1 * 2 / 3, 1.0, -1.0)
    terminate_prob = 0.3 * pays * (draws.level_uniform < 0.5)
    return Problem(draws.graph, reward, terminate_prob, draws.size)


def delayed(draws: Draws) -> Problem:
    """The first action decides between +1 and -1 at the end; later ones do not matter.

    State 0 leads to one of two lines of equal length, whose last states pay and end the episode.
    The right action, one for the level, leads to the line of +1 with probability 0.9, the others
    with probability 0.1.
    """
    length = (draws.size - 1) // 2
    state = jnp.arange(len(draws.rank))[:, None]
    following = jnp.minimum(state + 1, draws.size - 1)
    first = jnp.where(state == 0, 1, following)
    second = jnp.where(state == 0, 1 + length, following)
    successors = jnp.broadcast_to(jnp.stack([first, second], -1), (*draws.rank.shape, 2))
    right = jnp.broadcast_to(draws.rank[0] == 0, draws.rank.shape)
    moves = Moves(successors, jnp.where(right, SUCCESS_PROB, 1 - SUCCESS_PROB))
    good, bad = _at(length, draws), _at(2 * length, draws)
    return Problem(moves, good - bad, good + bad, jnp.int32(1))


def lure(draws: Draws) -> Problem:
    """The goal of a line pays 1; on the way, one action pays 0.2 and ends the episode."""
    goal = _at(draws.size - 1, draws)
    lured = (draws.rank == 1) * (1 - goal)
    return Problem(_line(draws), goal + 0.2 * lured, goal + lured, draws.size)


def lock(draws: Draws) -> Problem:
    """A line whose goal pays 1; every action but the right one leads back to the start.

    Random actions find a goal behind n states once in about Aⁿ tries, so the line has half as many
    states as those of other kinds ("reset state spaces": Koenig & Simmons 1996, "The effect of
    representation and knowledge on goal-directed exploration with reinforcement-learning
    algorithms").
    """
    draws = draws._replace(size=draws.size // 2)
    goal, moves = _at(draws.size - 1, draws), _line(draws)
    successors = moves.successors * (draws.rank == 0)[..., None]
    return Problem(moves._replace(successors=successors), goal, goal, jnp.int32(1))


def current(draws: Draws) -> Problem:
    """A current runs towards the start of a line, where going back pays 0.02; the far end pays 1.

    One action swims against it, and succeeds with probability 0.6; what fails, and every other
    action, leads one state back. No step ends the episode. The line is as long as that of a lock.
    (Similar to RiverSwim: Strehl & Littman 2008, "An analysis of model-based interval estimation
    for Markov decision processes".)
    """
    last = draws.size // 2 - 1
    state, swims = jnp.arange(len(draws.rank))[:, None], draws.rank == 0
    back = jnp.broadcast_to(state - 1, draws.rank.shape)
    successors = jnp.stack([jnp.where(swims, state + 1, back), back], axis=-1)
    moves = Moves(jnp.clip(successors, 0, last), _everywhere(SWIM_PROB, draws))
    reward = jnp.where(swims, _at(last, draws), 0.02 * _at(jnp.int32(0), draws))
    return Problem(moves, reward, _everywhere(0.0, draws), jnp.int32(1))


def bandit(draws: Draws) -> Problem:
    """An episode is one step in a random state, and pays r(s, a) = N(0, 1) with a noise of ±1."""
    return Problem(draws.graph, draws.normal, _everywhere(1.0, draws), draws.size, noise=1.0)


class Kind(NamedTuple):
    """A kind of MDP."""

    make: MakeProblem
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
    "lock": Kind(lock, (50, 500)),
    "current": Kind(current, (50, 500)),
}
"""The kinds of MDP by name."""

EXPLORATION = ("lock", "current")
"""Kinds in which random actions hardly ever get the return of the best ones."""


def _line(draws: Draws) -> Moves:
    """Let the action of rank 0 lead forward, that of rank 1 back, and the others nowhere."""
    state = jnp.arange(len(draws.rank))[:, None]
    reached = state + jnp.where(draws.rank == 0, 1, jnp.where(draws.rank == 1, -1, 0))
    successors = jnp.stack([reached, jnp.broadcast_to(state, reached.shape)], axis=-1)
    return Moves(jnp.clip(successors, 0, draws.size - 1), _everywhere(SUCCESS_PROB, draws))


def _at(state: jax.Array, draws: Draws) -> jax.Array:
    """Return 1 for every action in one state, 0 elsewhere: float32 `[S, A]`."""
    num_states = len(draws.rank)
    return jnp.broadcast_to(jax.nn.one_hot(state, num_states)[:, None], draws.rank.shape)


def _everywhere(value: float, draws: Draws) -> jax.Array:
    """Return the same number for every state and action: float32 `[S, A]`."""
    return jnp.full(draws.rank.shape, value)
