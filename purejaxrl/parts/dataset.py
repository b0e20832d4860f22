"""Datasets: steps that were recorded earlier, which offline algorithms learn from.

A dataset is a field of an algorithm's hyperparameters, and all members of a population share it
(`populate(…, shared=("dataset",))`). Its steps lie in the order in which they were made, one
episode after the other. Every episode ends in a termination or a truncation: where a recording
stops in the middle of an episode, its last step is truncated, so that its value bootstraps.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.parts.normalize import Moments, advance
from purejaxrl.parts.transitions import Batch, Step

EQUAL = 1e-5
"""Episodes whose merits differ by less than this, relative to returns, are equally good: sums of
float32 rewards are no more exact."""


class Dataset(NamedTuple):
    """Recorded steps, and how likely each is drawn."""

    steps: Step  # leaves [num_steps, ...]; actions as the environment takes them
    cumulative: jax.Array | None = None
    """uint32 `[num_steps]`: cumulative probability of the steps up to each one, in units of 2⁻³².
    None draws all steps alike."""

    @classmethod
    def weighted(cls, steps: Step, weight: np.ndarray) -> "Dataset":
        """Draw steps in proportion to their weights `[num_steps]`, whose sum is any number > 0."""
        share = np.cumsum(weight / weight.sum())
        units = np.minimum(np.round(share * 2.0**32), 2.0**32 - 1)
        return cls(steps, jnp.asarray(units.astype(np.uint32)))

    @property
    def num_steps(self) -> int:
        """Recorded steps."""
        return self.steps.reward.shape[0]

    def draw(self, key: jax.Array, size: int) -> jax.Array:
        """Draw indices of steps at random, with replacement, int32 `[size]`."""
        if self.cumulative is None:
            return jax.random.randint(key, (size,), 0, self.num_steps)
        bits = jax.random.bits(key, (size,), jnp.uint32)
        found = jnp.searchsorted(self.cumulative, bits, side="right")
        return jnp.minimum(found, self.num_steps - 1).astype(jnp.int32)

    def read(self, places: jax.Array, gamma: jax.Array) -> Batch:
        """Read transitions of one step each, leaves `[*places.shape, ...]`."""
        steps = jax.tree.map(lambda x: x[places], self.steps)
        discount = jnp.where(steps.terminated, 0.0, gamma)
        return Batch(steps.obs, steps.action, steps.reward, discount, steps.next_obs)

    def next_actions(self, places: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return the actions that followed steps, and whether there was one, bool `[...]`.

        The last step of an episode has no next action: what is returned is that of another episode.
        """
        done = self.steps.terminated | self.steps.truncated
        after = jnp.minimum(places + 1, self.num_steps - 1)
        return self.steps.action[after], ~done[places]


def observation_moments(dataset: Dataset, normalize: bool) -> Moments | None:
    """Compute mean and variance of the observations, to standardise them by.

    Args:
        dataset: where the observations are.
        normalize: whether they are to be standardised.

    Returns:
        The moments; None if `normalize` is False, or the observations are integers or index a
        table.
    """
    obs = dataset.steps.obs
    if not normalize or isinstance(obs, tuple) or jnp.issubdtype(obs.dtype, jnp.integer):
        return None
    return advance(Moments.start(obs.shape[1:])._replace(count=jnp.zeros(())), obs)


class Episodes(NamedTuple):
    """The episodes of a dataset, NumPy arrays `[num_episodes]`."""

    start: np.ndarray  # place of the first step
    end: np.ndarray  # place after the last step
    ret: np.ndarray  # sum of rewards

    @classmethod
    def of(cls, dataset: Dataset) -> "Episodes":
        """Find the episodes."""
        steps = dataset.steps
        end = np.flatnonzero(np.asarray(steps.terminated) | np.asarray(steps.truncated)) + 1
        start = np.concatenate([[0], end[:-1]]).astype(end.dtype)
        return cls(start, end, np.add.reduceat(np.asarray(steps.reward, np.float64), start))

    @property
    def length(self) -> np.ndarray:
        """Steps of each episode."""
        return self.end - self.start

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Give each step the value of its episode: `[num_episodes]` to `[num_steps]`."""
        return np.repeat(values, self.length)


def starts_of_pieces(dataset: Dataset, length: int) -> np.ndarray:
    """Find the steps from which `length` steps follow in the same episode, int32 `[n]`.

    Raises:
        ValueError: if no episode is that long.
    """
    episodes = Episodes.of(dataset)
    longest = int(episodes.length.max())
    if longest < length:
        raise ValueError(
            f"length: {length} is not valid; the longest episode of the dataset has {longest} steps"
        )
    left = episodes.spread(episodes.end) - np.arange(dataset.num_steps)
    return np.flatnonzero(left >= length).astype(np.int32)


def read_pieces(dataset: Dataset, starts: jax.Array, length: int) -> Step:
    """Read pieces of consecutive steps, leaves `[n, length, ...]`.

    Args:
        dataset: what to read.
        starts: some of `starts_of_pieces`, int32 `[n]`.
        length: steps of a piece.
    """
    places = starts[:, None] + jnp.arange(length)
    return jax.tree.map(lambda x: x[places], dataset.steps)


def _weigh(dataset: Dataset, merit: np.ndarray, temperature: float) -> Dataset:
    """Draw steps by the softmax of their episodes' merit `[num_episodes]`, scaled to [0, 1]."""
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature} is not valid; it must be a number > 0")
    episodes, least, most = Episodes.of(dataset), merit.min(), merit.max()
    differ = most - least > EQUAL * max(1.0, np.abs(episodes.ret).max())
    scaled = (merit - least) / (most - least) if differ else np.zeros_like(merit)
    weight = episodes.spread(np.exp((scaled - 1) / temperature))
    return Dataset.weighted(dataset.steps, weight)


def weigh_by_return(dataset: Dataset, temperature: float = 0.1) -> Dataset:
    """Draw steps of episodes with high returns more often (Hong et al. 2023, arXiv 2306.13085).

    The weight of a step is exp(R / temperature), where R is the return of its episode, scaled to
    [0, 1] over the dataset. An episode that the recording cut counts with its return
    up to the cut. With negative rewards that is too high, so remove such episodes first.
    """
    return _weigh(dataset, Episodes.of(dataset).ret, temperature)


def weigh_by_advantage(dataset: Dataset, temperature: float = 0.1) -> Dataset:
    """Draw steps of episodes with high advantages more often (Hong et al. 2023).

    As in `weigh_by_return`, but R is the return minus its prediction by a linear regression on the
    episode's first observation. The regression reads state indices of tables one-hot encoded.
    """
    episodes = Episodes.of(dataset)

    def columns(obs: Any) -> np.ndarray:
        first = np.asarray(obs)[episodes.start]
        if np.issubdtype(first.dtype, np.integer) and first.ndim == 1:
            return np.eye(first.max() + 1)[first]
        return first.reshape(len(first), -1)

    inputs = np.column_stack(
        [*map(columns, jax.tree.leaves(dataset.steps.obs)), np.ones(len(episodes.ret))]
    )
    fit, *_ = np.linalg.lstsq(inputs, episodes.ret, rcond=None)
    return _weigh(dataset, episodes.ret - inputs @ fit, temperature)
