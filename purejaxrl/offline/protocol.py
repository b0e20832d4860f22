"""How good an offline algorithm is when hyperparameters have to be chosen by acting.

Offline, no return says which of many trained policies is best. "A Clean Slate for Offline RL"
(Jackson et al. 2025, arXiv 2504.11453) therefore counts the online episodes that the search for
the best one takes: a bandit pulls policies, each pull is one episode, and after each pull the
policy with the best mean so far is the one to deploy. The score is a curve over the number of
episodes.

Two flaws of the published protocol are corrected. Returns are standardised, because the bandit's
bonus assumes returns of about unit variance. And only policies that were tried can be deployed. In
the published protocol an untried policy has a mean of 0, which looks best where returns are
negative.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Search(NamedTuple):
    """How policies are looked for."""

    num_policies: int = 20
    """Policies of a trial, drawn from all without replacement."""
    num_episodes: int = 200
    """Episodes of a trial."""
    num_trials: int = 1000
    """Trials, each with other policies and episodes."""


def deployed_return(key: jax.Array, returns: jax.Array, how: Search) -> jax.Array:
    """Search for the best of many policies by UCB, and score what would be deployed.

    Args:
        key: typed key.
        returns: the returns of stored episodes of each policy, float32 `[num_all, num_stored]`.
        how: how to search.

    Returns:
        Mean return of the policy with the best mean so far, after each episode: float32
        `[num_trials, num_episodes]`.

    Raises:
        ValueError: if there are fewer policies than a trial needs.
    """
    if returns.ndim != 2 or returns.shape[0] < how.num_policies:
        raise ValueError(
            f"returns: an array of shape {returns.shape} is not valid; it must have two axes, and "
            f"at least {how.num_policies} policies in the first"
        )
    scale = jnp.maximum(returns.std(), 1e-8)
    unit = (returns - returns.mean()) / scale
    true_means = returns.mean(1)

    def trial(key: jax.Array) -> jax.Array:
        choice_key, search_key = jax.random.split(key)
        chosen = jax.random.choice(choice_key, returns.shape[0], (how.num_policies,), replace=False)

        def pull(carry: tuple, inputs: tuple[jax.Array, jax.Array]):
            (totals, counts), (key, t) = carry, inputs
            tie_key, episode_key = jax.random.split(key)
            means = totals / jnp.maximum(counts, 1)
            bonus = jnp.sqrt(2.0 * jnp.log(t) / jnp.maximum(counts, 1))
            priority = jnp.where(counts > 0, means + bonus, jnp.inf)
            ties = priority == priority.max()
            arm = jnp.where(ties, jax.random.uniform(tie_key, ties.shape), -1.0).argmax()
            episode = jax.random.randint(episode_key, (), 0, returns.shape[1])
            totals = totals.at[arm].add(unit[chosen[arm], episode])
            counts = counts.at[arm].add(1)
            best = jnp.where(counts > 0, totals / jnp.maximum(counts, 1), -jnp.inf).argmax()
            return (totals, counts), true_means[chosen[best]]

        start = jnp.zeros(how.num_policies), jnp.zeros(how.num_policies, jnp.int32)
        keys = jax.random.split(search_key, how.num_episodes)
        times = 1.0 + jnp.arange(how.num_episodes)
        return jax.lax.scan(pull, start, (keys, times))[1]

    return jax.lax.map(trial, jax.random.split(key, how.num_trials), batch_size=100)


def curve(deployed: np.ndarray) -> np.ndarray:
    """Return mean and bootstrapped 95 % interval over trials: `[num_episodes, 3]`.

    Args:
        deployed: what `deployed_return` returned.
    """
    deployed = np.asarray(deployed)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(deployed), np.full(len(deployed), 1 / len(deployed)), 1000)
    means = weights @ deployed / len(deployed)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return np.stack([deployed.mean(0), low, high], axis=1)
