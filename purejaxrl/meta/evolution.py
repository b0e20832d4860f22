"""Evolution: learn hyperparameters, rules among them, by comparing whole lives.

Every generation, candidates are drawn in antithetic pairs, θ + σε and θ - σε. Both candidates of a
pair train an agent for one whole life: on the same level, for the same number of updates, from the
same initialisation, with the same random stream. A candidate's fitness is the return of its agent's
last policy (Jackson et al. 2024, arXiv 2402.05828, section 4.2; evolution strategies: Salimans et
al. 2017, arXiv 1703.03864). The learner is itself an `Algorithm`, over any inner one.

Candidates are grouped by the length of their lives, because a group lasts as long as its longest.
A curriculum chooses the levels of the pairs. Scores see the returns of final policies only; the
score of a level is the mean of its pair's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import Open_ES
from evosax.core.fitness_shaping import identity_fitness_shaping_fn
from flax import struct
from jax.sharding import PartitionSpec

from purejaxrl.algorithm import AgentsLayout, Algorithm, Metrics, Task, require_fit
from purejaxrl.identity import part_name
from purejaxrl.meta.base import (
    InitTheta,
    Insert,
    SampleLifetime,
    check_lifetime,
    collect_nothing,
    count_lost_steps,
    nan_if_diverged,
)
from purejaxrl.meta.lifetime import train_and_play
from purejaxrl.meta.metrics import masked_mean
from purejaxrl.meta.sharding import AXIS, is_sharded, num_shards, shard_index
from purejaxrl.ued.buffer import Visits
from purejaxrl.ued.curriculum import Chosen, Curriculum, check_curriculum_hypers, require_curriculum
from purejaxrl.ued.scores import LevelOutcome
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """What decides a shape or a length. Static."""

    num_pairs: int = 16
    """Antithetic pairs of candidates in a generation."""
    group: int = 2
    """Candidates that a device vmaps at a time; divides 2 * num_pairs. A CPU core is fastest with
    2, a pair, which never wait for each other; an accelerator with as many as its memory holds."""
    num_episodes: int = 16
    """Evaluation episodes of a candidate's last policy."""
    max_steps: int = 10_000
    """Steps after which an evaluation episode is cut."""

    @property
    def num_candidates(self) -> int:
        """Candidates in a generation."""
        return 2 * self.num_pairs

    @property
    def num_groups(self) -> int:
        """Groups in a generation."""
        return self.num_candidates // self.group

    def __post_init__(self):
        require_count(self, "num_pairs", "group", "num_episodes", "max_steps")
        divides = self.num_candidates % self.group == 0
        require(divides, self, "group", f"a divisor of 2 * num_pairs = {self.num_candidates}")


class Hypers(struct.PyTreeNode):
    """What evolution can be vmapped or swept over. Traced."""

    agent: Any = None
    """The inner algorithm's hyperparameters; those that θ stands for are ignored."""
    learning_rate: float = hyper(1e-2, at_least=0)
    """The strategy's step size at the start."""
    decay: float = hyper(0.999, above=0, at_most=1)
    """Factor by which the step size shrinks every generation."""
    least_learning_rate: float = hyper(1e-5, at_least=0)
    """The step size never falls below this."""
    std: float = hyper(0.1, above=0)
    """σ, standard deviation of the candidates."""
    curriculum: Any = None
    """The curriculum's hyperparameters, if it has any."""


class State(NamedTuple):
    """An evolution."""

    params: Any  # θ, the mean
    strategy: Any  # evosax's state
    curriculum: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, generations done
    lost_steps: jax.Array  # int32, generations in a row without one sound candidate


ShapeFitness = Callable[[jax.Array], jax.Array]
"""`(fitness) -> fitness`, both `[2, num_pairs]`; higher is better."""
MakeStrategy = Callable[[Config, Hypers, Any], Any]
"""`(config, hypers, θ) -> strategy`, one of evosax's, which minimise; candidates i and
i + num_pairs are a pair."""


def rank_within_pair(fitness: jax.Array) -> jax.Array:
    """Rank within the pair: 1 for the better, 0 for the other, 1/2 for equals; `[2, num_pairs]`."""
    return 0.5 * (1 + jnp.sign(fitness - fitness[::-1]))


def rank_unsound_last(fitness: jax.Array, sound: jax.Array) -> jax.Array:
    """Give candidates that diverged the least fitness of the others, less 1: `[2, num_pairs]`."""
    least = jnp.where(sound, fitness, jnp.inf).min()
    return jnp.where(sound, fitness, jnp.where(jnp.isfinite(least), least - 1, 0.0))


def open_es(config: Config, hypers: Hypers, theta: Any) -> Any:
    """Make OpenAI's evolution strategy with Adam; free to rebuild wherever it is traced."""

    def rate(generation: jax.Array) -> jax.Array:
        decayed = hypers.learning_rate * hypers.decay**generation
        return jnp.maximum(decayed, hypers.least_learning_rate)

    return Open_ES(
        config.num_candidates,
        theta,
        optimizer=optax.adam(rate),
        std_schedule=lambda _: jnp.float32(hypers.std),
        fitness_shaping_fn=identity_fitness_shaping_fn,
    )


class Setup(NamedTuple):
    """What an evolution is made of: the arguments of `make` by the same names."""

    config: Config
    inner: Algorithm
    env: Any
    init_theta: InitTheta
    insert: Insert
    curriculum: Curriculum
    sample_lifetime: SampleLifetime
    strategy: MakeStrategy
    shape: ShapeFitness


def make(
    config: Config,
    inner: Algorithm,
    env: Any,
    *,
    init_theta: InitTheta,
    insert: Insert,
    curriculum: Curriculum,
    sample_lifetime: SampleLifetime,
    strategy: MakeStrategy = open_es,
    shape: ShapeFitness = rank_within_pair,
) -> Algorithm:
    """Make a learner that evolves an inner algorithm's hyperparameters.

    `run` shards the groups of candidates over all devices; outside of `run`, one device has all of
    them. It has diverged, and `run` freezes it, when θ is not finite, or when no candidate was
    sound in several generations in a row (`base.PATIENCE`).

    Args:
        config: static settings.
        inner: the algorithm of the agents.
        env: the agents' environment, for evaluation.
        init_theta: draws the first θ.
        insert: puts θ into the agents' hyperparameters.
        curriculum: chooses the level of each pair.
        sample_lifetime: draws the length of a life.
        strategy: makes the evolution strategy.
        shape: turns returns into the fitness that the strategy sees.

    Raises:
        ValueError: if the parts do not fit each other, or a life is shorter than one update.
    """
    require_fit("inner", inner, "evolution", "act", "steps_per_update")
    provided = {"returns", "best_return"}
    require_curriculum(curriculum, "evolution", config.num_pairs, provided)
    check_lifetime(sample_lifetime)
    setup = Setup(
        config, inner, env, init_theta, insert, curriculum, sample_lifetime, strategy, shape
    )
    parts = env, init_theta, insert, curriculum, sample_lifetime, strategy, shape
    return Algorithm(
        config,
        partial(init, setup),
        collect_nothing,
        partial(learn, setup),
        policy=lambda state: state.params,
        vital=vital,
        agents=AgentsLayout(State(*[PartitionSpec()] * 7), config.num_groups),
        made_of=(part_name(inner.config), *inner.made_of, *map(part_name, parts)),
    )


def init(setup: Setup, key: jax.Array, hypers: Hypers, task: Task) -> State:
    """Draw the first θ."""
    check_curriculum_hypers(setup.curriculum, hypers)
    theta_key, strategy_key, key, curriculum_key = jax.random.split(key, 4)
    theta = setup.init_theta(theta_key)
    es = setup.strategy(setup.config, hypers, theta)
    state = es.init(strategy_key, theta, es.default_params)
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)  # not weak
    curriculum = setup.curriculum.init(curriculum_key, hypers.curriculum, setup.config.num_pairs)
    return State(theta, state, curriculum, task, key, jnp.int32(0), jnp.int32(0))


def learn(setup: Setup, state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
    """Run one generation: draw candidates and levels, evaluate the candidates, and move θ."""
    config = setup.config
    keys = jax.random.split(state.key, 7)
    ask_key, tell_key, level_key, life_key, pair_key, key, score_key = keys
    split = lambda key: jax.random.split(key, config.num_pairs)  # noqa: E731
    curriculum, draw = setup.curriculum.sample(
        level_key, state.curriculum, hypers.curriculum, jnp.ones(config.num_pairs, bool), None
    )
    tasks = Task(draw.chosen.level, jax.vmap(setup.sample_lifetime)(split(life_key)))
    es = setup.strategy(config, hypers, state.params)
    candidates, strategy_state = es.ask(ask_key, state.strategy, es.default_params)
    fitness, returns = evaluate_pairs(setup, candidates, hypers, split(pair_key), tasks)

    sound = jnp.isfinite(fitness)
    shaped = setup.shape(rank_unsound_last(fitness, sound))
    strategy_state, _ = es.tell(
        tell_key, candidates, -shaped.ravel(), strategy_state, es.default_params
    )
    theta = es.get_mean(strategy_state)
    lost_steps = count_lost_steps(state.lost_steps, sound.sum())
    metrics = generation_metrics(setup, fitness, tasks.horizon)
    if setup.curriculum.score:
        visits = score_levels(setup, score_key, draw.chosen, returns)
        curriculum = setup.curriculum.report(curriculum, hypers.curriculum, visits)
        metrics["score"] = masked_mean(visits.score, jnp.isfinite(visits.score))
    state = State(theta, strategy_state, curriculum, state.task, key, state.step + 1, lost_steps)
    return state, metrics | setup.curriculum.metrics(curriculum)


def score_levels(setup: Setup, key: jax.Array, chosen: Chosen, returns: jax.Array) -> Visits:
    """Score the level of each pair by the mean of its candidates' scores.

    Args:
        setup: what the evolution is made of.
        key: typed key.
        chosen: the levels, leaves `[num_pairs, ...]`.
        returns: float32 `[2, num_pairs, num_episodes]`; NaN where an episode was cut.
    """
    pairs = returns.shape[:2]
    best = jnp.fmax(chosen.best_return, jnp.nanmax(returns, axis=(0, 2)))
    outcomes = LevelOutcome(returns, jnp.broadcast_to(best, pairs))
    scores = jax.vmap(jax.vmap(setup.curriculum.score))(jax.random.split(key, pairs), outcomes)
    mean = jax.vmap(masked_mean, in_axes=1)(scores, jnp.isfinite(scores))
    return Visits(chosen.slot, chosen.level, mean, best, jnp.ones(pairs[1], bool))


def generation_metrics(setup: Setup, fitness: jax.Array, horizon: jax.Array) -> Metrics:
    """Summarise a generation from fitness `[2, num_pairs]` and horizons `[num_pairs]`."""
    config, sound = setup.config, jnp.isfinite(fitness)
    updates = 2 * horizon.sum()
    longest = jnp.sort(jnp.repeat(horizon, 2)).reshape(-1, config.group)[:, -1]
    return {
        "return": masked_mean(fitness, sound),
        "episodes": jnp.int32(config.num_candidates * config.num_episodes),
        "best": jnp.nanmax(jnp.where(sound, fitness, jnp.nan)),
        "unsound": (~sound).sum(),
        "masked": 1 - updates / (config.group * longest.sum()),
        "env_steps": (updates * setup.inner.steps_per_update).astype(jnp.int32),
    }


def vital(state: State, metrics: Metrics) -> tuple:
    """Return what is finite as long as the evolution has not diverged."""
    return state.params, nan_if_diverged(state.lost_steps)


def evaluate_pairs(
    setup: Setup, candidates: Any, hypers: Hypers, keys: jax.Array, tasks: Task
) -> tuple[jax.Array, jax.Array]:
    """Train and evaluate all candidates.

    Args:
        setup: what the evolution is made of.
        candidates: leaves `[2 * num_pairs, ...]`; i and i + num_pairs are a pair.
        hypers: the evolution's.
        keys: a key for each pair.
        tasks: a task for each pair.

    Returns:
        Fitness, float32 `[2, num_pairs]`, and the returns of the evaluation episodes, float32
        `[2, num_pairs, num_episodes]`, NaN where an episode was cut.
    """
    num_pairs = setup.config.num_pairs
    order = jnp.argsort(tasks.horizon)
    pair = jnp.repeat(order, 2)  # both of a pair side by side, the shortest lives first
    which = jnp.stack([order, order + num_pairs], axis=1).ravel()
    at = lambda tree, index: jax.tree.map(lambda x: x[index], tree)  # noqa: E731
    found = evaluate_sorted(setup, at(candidates, which), hypers, keys[pair], at(tasks, pair))

    def unsort(x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x).at[which].set(x).reshape(2, num_pairs, *x.shape[1:])

    return jax.tree.map(unsort, found)


def evaluate_sorted(
    setup: Setup, candidates: Any, hypers: Hypers, keys: jax.Array, tasks: Task
) -> tuple[jax.Array, jax.Array]:
    """Evaluate candidates that are sorted by horizon, leaves `[num_candidates, ...]`.

    Devices take groups in turn, in the order 0, 1, 1, 0, 0, 1, …, so that all devices get short
    lives and long ones.
    """
    config = setup.config
    turns = np.arange(config.num_groups).reshape(-1, num_shards())
    turns[1::2] = turns[1::2, ::-1]
    mine = jnp.asarray(turns)[:, shard_index()]
    grouped = lambda x: x.reshape(config.num_groups, config.group, *x.shape[1:])[mine]  # noqa: E731

    def evaluate(group: tuple[Any, jax.Array, Task]) -> tuple[jax.Array, jax.Array]:
        thetas, keys, tasks = group
        agents = jax.vmap(setup.insert, in_axes=(0, None))(thetas, hypers.agent)
        played = train_and_play(
            setup.inner, setup.env, keys, agents, tasks,
            num_episodes=config.num_episodes, max_steps=config.max_steps,
        )  # fmt: skip
        return played.ret.mean(-1), jnp.where(played.finished, played.ret, jnp.nan)

    found = jax.lax.map(evaluate, jax.tree.map(grouped, (candidates, keys, tasks)))
    if is_sharded():
        found = jax.lax.all_gather(found, AXIS, axis=1, tiled=True)

    def restore_order(x: jax.Array) -> jax.Array:
        """Apply the same permutation again."""
        x = x.reshape(config.num_groups, config.group, *x.shape[2:])
        return x[turns.ravel()].reshape(config.num_candidates, *x.shape[2:])

    return jax.tree.map(restore_order, found)
