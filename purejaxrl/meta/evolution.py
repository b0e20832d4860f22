"""Evolution: learn hyperparameters, rules among them, by comparing whole lives.

Every generation, candidates are drawn in antithetic pairs, θ + σε and θ - σε. Both candidates of a
pair train an agent for one whole life: on the same level, for the same number of updates, from the
same initialisation, with the same random stream. A candidate's fitness is the return of its agent's
last policy (Jackson et al. 2024, arXiv 2402.05828, section 4.2; evolution strategies: Salimans et
al. 2017, arXiv 1703.03864). The learner is itself an `Algorithm`, over any inner one.

Candidates are grouped by the length of their lives, because a group lasts as long as its longest.
Every world has its share of the pairs, and a curriculum that chooses their levels. Scores see only
the returns of final policies. A level's score is the mean over the two candidates that lived on it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from evosax.algorithms import Open_ES
from flax import struct
from jax.sharding import PartitionSpec

from purejaxrl.algorithm import AgentsLayout, Algorithm, Metrics, Task
from purejaxrl.identity import part_name
from purejaxrl.meta.base import (
    InitTheta,
    Insert,
    collect_nothing,
    count_lost_steps,
    nan_if_diverged,
)
from purejaxrl.meta.candidates import (
    CandidateSetup,
    Lives,
    evaluate_pairs,
    generation_metrics,
    require_evolvable,
    score_levels,
    set_up,
)
from purejaxrl.meta.metrics import masked_mean
from purejaxrl.meta.worlds import (
    World,
    check_worlds,
    draw_hypers,
    hypers_in,
    join_metrics,
)
from purejaxrl.running.evaluate import MAX_STEPS
from purejaxrl.ued.curriculum import check_curriculum_hypers
from purejaxrl.validation import hyper, require, require_count, require_hypers

SUMMED = ("env_steps", "episodes", "unsound")
"""Metrics that are added up over worlds; the others are averaged."""


@dataclass(frozen=True)
class Config:
    """Settings that decide a shape or a length. Static."""

    num_pairs: int = 16
    """Antithetic pairs of candidates in a generation. The environment steps of all their lives are
    counted in an int32: there must be fewer than 2**31."""
    group: int | None = None
    """Candidates that a device vmaps at a time; it divides the candidates of every world. The
    default on a CPU is 2, which is fastest: the two of a pair live equally long, so neither waits
    for the other. The default on an accelerator is all candidates of one device."""
    num_episodes: int = 16
    """Evaluation episodes of a candidate's last policy."""
    max_steps: int = MAX_STEPS
    """Steps after which an evaluation episode is cut."""

    @property
    def num_candidates(self) -> int:
        """Candidates in a generation."""
        return 2 * self.num_pairs

    def __post_init__(self):
        require_count(self, "num_pairs", "num_episodes", "max_steps")
        if self.group is not None:
            require_count(self, "group")
            divides = self.num_candidates % self.group == 0
            require(divides, self, "group", f"a divisor of 2 * num_pairs = {self.num_candidates}")


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced.

    Where worlds differ, `agent` and `curriculum` are `{world's name: value}`.
    """

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
    """The state of an evolution."""

    params: Any  # θ, the mean
    strategy: Any  # evosax's state
    curricula: tuple  # their states, one for each world
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
    """Rank within the pair: 1 for the better, 0 for the other, 1/2 for a tie; `[2, num_pairs]`."""
    return 0.5 * (1 + jnp.sign(fitness - fitness[::-1]))


def rank_unsound_last(fitness: jax.Array, sound: jax.Array) -> jax.Array:
    """Give candidates that diverged the lowest fitness of the others minus 1: `[2, num_pairs]`."""
    least = jnp.where(sound, fitness, jnp.inf).min()
    return jnp.where(sound, fitness, jnp.where(jnp.isfinite(least), least - 1, 0.0))


def open_es(config: Config, hypers: Hypers, theta: Any) -> Any:
    """Make OpenAI's evolution strategy with Adam; to rebuild it in traced code costs nothing."""

    def rate(generation: jax.Array) -> jax.Array:
        decayed = hypers.learning_rate * hypers.decay**generation
        return jnp.maximum(decayed, hypers.least_learning_rate)

    return Open_ES(
        config.num_candidates,
        theta,
        optimizer=optax.adam(rate),
        std_schedule=lambda _: jnp.float32(hypers.std),
        fitness_shaping_fn=subtract_pair_means,
    )


def subtract_pair_means(_: Any, fitness: jax.Array, *__: Any) -> jax.Array:
    """Subtract the mean of each pair from fitness `[2 * num_pairs]`, for evosax.

    OpenAI's estimate stays the same. But where the two of a pair are equal, they add exactly
    zero to it. Otherwise Adam could scale rounding errors up to a whole step.
    """
    pairs = fitness.reshape(2, -1)
    return (pairs - pairs.mean(0)).ravel()


class Setup(NamedTuple):
    """What an evolution is made of: the arguments of `make` by the same names."""

    config: Config
    candidates: Sequence[CandidateSetup]  # one for each world
    init_theta: InitTheta
    strategy: MakeStrategy
    shape: ShapeFitness


def make(
    config: Config,
    worlds: World | Sequence[World],
    *,
    init_theta: InitTheta,
    insert: Insert,
    strategy: MakeStrategy = open_es,
    shape: ShapeFitness = rank_within_pair,
) -> Algorithm:
    """Make a learner that evolves an algorithm's hyperparameters in one world or in several.

    `run` shards the groups of candidates over all devices; outside of `run`, one device has all of
    them. It has diverged, and `run` freezes it, when θ is not finite, or when no candidate was
    sound in several generations in a row (`base.PATIENCE`).

    Args:
        config: static settings.
        worlds: where the agents live; each has its share of the pairs.
        init_theta: draws the first θ.
        insert: puts θ into the agents' hyperparameters.
        strategy: makes the evolution strategy.
        shape: turns returns into the fitness that the strategy sees.

    Raises:
        ValueError: if the parts of a world do not fit each other, a life is shorter than one
            update, or pairs or groups cannot be divided among the worlds.
    """
    worlds = check_worlds(worlds)
    candidates = set_up(config, worlds, insert)
    for one in candidates:
        require_evolvable(one, "evolution")
    setup = Setup(config, candidates, init_theta, strategy, shape)
    return Algorithm(
        config,
        partial(init, setup),
        collect_nothing,
        partial(learn, setup),
        policy=lambda state: state.params,
        vital=vital,
        agents=AgentsLayout(
            State(*[PartitionSpec()] * 7), math.gcd(*(one.num_groups for one in candidates))
        ),
        made_of=(
            *map(part_name, (init_theta, insert, strategy, shape)),
            *(name for world in worlds for name in world.made_of),
        ),
    )


def init(setup: Setup, key: jax.Array, hypers: Hypers, task: Task) -> State:
    """Draw the first θ."""
    require_hypers(hypers, Hypers)
    theta_key, strategy_key, key, *curriculum_keys = jax.random.split(
        key, 3 + len(setup.candidates)
    )
    theta, curricula = setup.init_theta(theta_key), []
    for one, curriculum_key in zip(setup.candidates, curriculum_keys, strict=True):
        own, curriculum = hypers_in(one.world, hypers), one.world.curriculum
        check_curriculum_hypers(curriculum, own)
        curricula.append(curriculum.init(curriculum_key, own.curriculum, one.num_pairs))
    es = setup.strategy(setup.config, hypers, theta)
    state = es.init(strategy_key, theta, es.default_params)
    state = jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), state)  # no weak types
    return State(theta, state, tuple(curricula), task, key, jnp.int32(0), jnp.int32(0))


def learn(setup: Setup, state: State, hypers: Hypers, _: tuple) -> tuple[State, Metrics]:
    """Run one generation: draw candidates and levels, evaluate the candidates, and move θ."""
    num_pairs = setup.config.num_pairs
    ask_key, tell_key, key, *world_keys = jax.random.split(state.key, 3 + len(setup.candidates))
    es = setup.strategy(setup.config, hypers, state.params)
    candidates, strategy_state = es.ask(ask_key, state.strategy, es.default_params)
    in_pairs = jax.tree.map(lambda x: x.reshape(2, num_pairs, *x.shape[1:]), candidates)
    found, start = [], 0
    for one, world_key, curriculum in zip(
        setup.candidates, world_keys, state.curricula, strict=True
    ):
        pairs = slice(start, start + one.num_pairs)
        mine = jax.tree.map(lambda x: x[:, pairs], in_pairs)  # noqa: B023
        own = hypers_in(one.world, hypers)
        found.append(live_generation(one, world_key, mine, curriculum, own))
        start += one.num_pairs
    fitness, curricula, metrics = zip(*found, strict=True)
    fitness = jnp.concatenate(fitness, axis=1)

    sound = jnp.isfinite(fitness)
    shaped = setup.shape(rank_unsound_last(fitness, sound))
    strategy_state, _ = es.tell(
        tell_key, candidates, -shaped.ravel(), strategy_state, es.default_params
    )
    theta = es.get_mean(strategy_state)
    lost_steps = count_lost_steps(state.lost_steps, sound.sum())
    metrics = join_metrics([one.world for one in setup.candidates], metrics, SUMMED)
    state = State(theta, strategy_state, curricula, state.task, key, state.step + 1, lost_steps)
    return state, metrics


def live_generation(
    setup: CandidateSetup, key: jax.Array, candidates: Any, curriculum: Any, hypers: Hypers
) -> tuple[jax.Array, Any, Metrics]:
    """Train and evaluate the candidates of one world, and report their scores to its curriculum.

    Args:
        setup: what candidates are evaluated with.
        key: typed key.
        candidates: leaves `[2, num_pairs, ...]`.
        curriculum: the state of the world's curriculum.
        hypers: the evolution's hyperparameters, as they are in this world.

    Returns:
        Fitness, float32 `[2, num_pairs]`; the curriculum's state; and metrics.
    """
    world, num_pairs = setup.world, setup.num_pairs
    level_key, life_key, pair_key, score_key, vary_key = jax.random.split(key, 5)
    split = lambda key: jax.random.split(key, num_pairs)  # noqa: E731
    curriculum, draw = world.curriculum.sample(
        level_key, curriculum, hypers.curriculum, jnp.ones(num_pairs, bool), None
    )
    tasks = Task(draw.chosen.level, jax.vmap(world.sample_lifetime)(split(life_key)))
    draw_each = jax.vmap(partial(draw_hypers, world.vary), in_axes=(0, None))
    agents = draw_each(split(vary_key), hypers.agent)
    lives = Lives(split(pair_key), tasks, agents)
    fitness, returns = evaluate_pairs(setup, candidates, lives)
    metrics = generation_metrics(setup, fitness, tasks.horizon)
    if world.curriculum.score:
        visits = score_levels(setup, score_key, draw.chosen, returns)
        curriculum = world.curriculum.report(curriculum, hypers.curriculum, visits)
        metrics["score"] = masked_mean(visits.score, jnp.isfinite(visits.score))
    return fitness, curriculum, metrics | world.curriculum.metrics(curriculum)


def vital(state: State, metrics: Metrics) -> tuple:
    """Return what is finite as long as the evolution has not diverged."""
    return state.params, nan_if_diverged(state.lost_steps)
