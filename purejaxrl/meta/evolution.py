"""Evolution: learn hyperparameters, rules among them, by comparing whole lives.

Every generation, candidates are drawn in antithetic pairs, θ + σε and θ - σε. Both of a pair live
one whole life each, on the same level, for the same time, from the same initialisation and stream
of randomness; their fitness is the return of the policy they end with (Jackson et al. 2024,
arXiv 2402.05828, section 4.2; evolution strategies: Salimans et al. 2017, arXiv 1703.03864). The
learner is itself an `Algorithm`, over any inner one.

Lives of different length run in batches of similar ones, as in a batch all wait for the longest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import Open_ES
from evosax.core.fitness_shaping import identity_fitness_shaping_fn
from flax import struct
from jax.sharding import PartitionSpec

from purejaxrl.algorithm import Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.meta.lifetime import live
from purejaxrl.meta.metrics import mean_over
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_pairs: int = 16
    """Antithetic pairs of candidates in a generation."""
    batch_size: int = 2
    """Candidates that a device vmaps at a time; divides 2 * num_pairs. A pair lives equally long,
    and suits a CPU core; an accelerator is faster with more, as far as memory goes."""
    num_episodes: int = 16
    """Evaluation episodes of a candidate's final policy."""
    max_steps: int = 10_000
    """Where to stop evaluation at the latest."""

    @property
    def num_batches(self) -> int:
        """Batches in a generation."""
        return 2 * self.num_pairs // self.batch_size

    def __post_init__(self):
        require_count(self, "num_pairs", "batch_size", "num_episodes", "max_steps")
        size = 2 * self.num_pairs
        divides = size % self.batch_size == 0
        require(divides, self, "batch_size", f"a divisor of 2 * num_pairs = {size}")


class Hypers(struct.PyTreeNode):
    """What evolution can be vmapped or swept over. Traced."""

    agent: Any = None
    """The inner algorithm's hyperparameters; those that θ stands for are ignored."""
    learning_rate: float = hyper(1e-2, at_least=0)
    """The strategy's step size at the start."""
    decay: float = hyper(0.999, above=0, at_most=1)
    """Factor of the step size, every generation."""
    least_learning_rate: float = hyper(1e-5, at_least=0)
    """Where its decay ends."""
    std: float = hyper(0.1, above=0)
    """σ, deviation of the candidates."""


class State(NamedTuple):
    """An evolution."""

    params: Any  # θ, the mean
    strategy: Any  # evosax's state
    task: Task
    key: jax.Array
    step: jax.Array  # int32, generations done


def within_pair(fitness: jax.Array) -> jax.Array:
    """Rank within the pair: 1 for the better, 0 for the other, 1/2 for equals; `[2, num_pairs]`."""
    return 0.5 * (1 + jnp.sign(fitness - fitness[::-1]))


def across_population(fitness: jax.Array) -> jax.Array:
    """Rank among all, from -1/2 to 1/2; `[2, num_pairs]`."""
    rank = fitness.ravel().argsort().argsort()
    return (rank / (fitness.size - 1) - 0.5).reshape(fitness.shape)


def standardised(fitness: jax.Array) -> jax.Array:
    """Deviations from the mean, as LPO has them; `[2, num_pairs]`."""
    return (fitness - fitness.mean()) / (fitness.std() + 1e-8)


def behind(fitness: jax.Array, unsound: jax.Array) -> jax.Array:
    """Put candidates that diverged behind all others, by 1."""
    least = jnp.where(unsound, jnp.inf, fitness).min()
    return jnp.where(unsound, jnp.where(jnp.isfinite(least), least - 1, 0.0), fitness)


def open_es(config: Config, hypers: Hypers, theta: Any) -> Any:
    """OpenAI's evolution strategy with Adam. A strategy is built anew wherever it is traced."""

    def rate(generation: jax.Array) -> jax.Array:
        decayed = hypers.learning_rate * hypers.decay**generation
        return jnp.maximum(decayed, hypers.least_learning_rate)

    return Open_ES(
        2 * config.num_pairs,
        theta,
        optimizer=optax.adam(rate),
        std_schedule=lambda _: jnp.float32(hypers.std),
        fitness_shaping_fn=identity_fitness_shaping_fn,
    )


def make(
    config: Config,
    inner: Algorithm,
    env: Any,
    *,
    init_theta: Callable,
    insert: Callable,
    sample_level: Callable,
    sample_lifetime: Callable,
    strategy: Callable = open_es,
    shape: Callable = within_pair,
    axis_name: str | None = "agents",
) -> Algorithm:
    """Evolve an inner algorithm's hyperparameters.

    Args:
        config: static settings.
        inner: the algorithm of the agents.
        env: where it lives, for evaluation.
        init_theta: `(key) -> θ`, a pytree of floats.
        insert: `(θ, hypers) -> hypers`: put θ, bounded where it must be, in its place.
        sample_level: `(key) -> env_params`.
        sample_lifetime: `(key) -> int32`, in updates.
        strategy: `(config, hypers, θ) -> ` one of evosax's, which minimise; candidates i and
            i + num_pairs are a pair.
        shape: `(fitness) -> fitness`, both `[2, num_pairs]`, higher is better.
        axis_name: the mesh axis that `runner.run` lays batches of candidates over; None outside.
    """

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        theta_key, strategy_key, key = jax.random.split(key, 3)
        theta = init_theta(theta_key)
        es = strategy(config, hypers, theta)
        state = es.init(strategy_key, theta, es.default_params)
        state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)  # not weak
        return State(theta, state, task, key, jnp.int32(0))

    def fitness_of(theta: Any, hypers: Hypers, key: jax.Array, task: Task) -> jax.Array:
        return live(
            inner, env, key, insert(theta, hypers.agent), task,
            num_episodes=config.num_episodes, max_steps=config.max_steps,
        )  # fmt: skip

    def live_all(candidates: Any, hypers: Hypers, keys: jax.Array, tasks: Task) -> jax.Array:
        """Fitness of candidates that come in order of their horizon: `[2 * num_pairs]`.

        Devices take batches in turn, there and back, so that all have short lives and long ones.
        """
        num_devices = jax.lax.axis_size(axis_name) if axis_name else 1
        turns = np.arange(config.num_batches).reshape(-1, num_devices)
        turns[1::2] = turns[1::2, ::-1]
        mine = jnp.asarray(turns)[:, jax.lax.axis_index(axis_name) if axis_name else 0]
        batched = lambda x: x.reshape(config.num_batches, config.batch_size, *x.shape[1:])[mine]  # noqa: E731
        one_batch = jax.vmap(lambda theta, key, task: fitness_of(theta, hypers, key, task))
        fitness = jax.lax.map(
            lambda batch: one_batch(*batch), jax.tree.map(batched, (candidates, keys, tasks))
        )
        if axis_name:
            fitness = jax.lax.all_gather(fitness, axis_name, axis=1)
        fitness = fitness.reshape(config.num_batches, config.batch_size)
        return fitness[turns.ravel()].ravel()  # there and back again is the order they came in

    def learn(state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
        ask_key, tell_key, level_key, life_key, pair_key, key = jax.random.split(state.key, 6)
        split = lambda key: jax.random.split(key, config.num_pairs)  # noqa: E731
        tasks = Task(
            jax.vmap(sample_level)(split(level_key)), jax.vmap(sample_lifetime)(split(life_key))
        )
        es = strategy(config, hypers, state.params)
        candidates, strategy_state = es.ask(ask_key, state.strategy, es.default_params)

        order = jnp.argsort(tasks.horizon)
        pair = jnp.repeat(order, 2)  # both of a pair side by side, the shortest lives first
        which = jnp.stack([order, order + config.num_pairs], axis=1).ravel()
        at = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
        lives = at(candidates, which), hypers, split(pair_key)[pair], at(tasks, pair)
        fitness = jnp.zeros(2 * config.num_pairs).at[which].set(live_all(*lives))
        fitness = fitness.reshape(2, config.num_pairs)

        sound = jnp.isfinite(fitness)
        ranked = shape(behind(fitness, ~sound))
        strategy_state, _ = es.tell(
            tell_key, candidates, -ranked.ravel(), strategy_state, es.default_params
        )
        theta = es.get_mean(strategy_state)

        updates = 2 * tasks.horizon.sum()
        longest = jnp.sort(jnp.repeat(tasks.horizon, 2)).reshape(-1, config.batch_size)[:, -1]
        metrics = {
            "return": mean_over(fitness, sound),
            "episodes": jnp.int32(2 * config.num_pairs * config.num_episodes),
            "best": jnp.nanmax(jnp.where(sound, fitness, jnp.nan)),
            "unsound": (~sound).sum(),
            "masked": 1 - updates / (config.batch_size * longest.sum()),
            "env_steps": (updates * inner.config.batch_size).astype(jnp.int32),
        }
        state = State(theta, strategy_state, state.task, key, state.step + 1)
        return state, metrics

    def act(*_: Any):
        raise NotImplementedError("evolution does not act: test what it learned on an agent")

    parts = insert, sample_level, sample_lifetime, strategy, shape
    return Algorithm(
        config,
        init,
        lambda state, hypers: (state, ()),
        learn,
        policy=lambda state: state.params,
        act=act,
        partition=State(*[PartitionSpec()] * 5) if axis_name else None,
        num_agents=config.num_batches,
        made_of=(part_name(inner.config), *inner.made_of, *map(part_name, parts)),
    )
