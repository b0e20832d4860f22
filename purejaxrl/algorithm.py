"""The contract: an algorithm is a handful of pure functions, a training run one more.

Everything that decides a shape, a length or a branch sits in a static `Config`;
every float is a traced leaf of `Hypers`; the level is a traced leaf of `Task`.
So a run can be jitted, and vmapped over keys, hyperparameters and levels.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.validation import COUNT, check_hypers, is_count

Metrics = dict[str, jax.Array]


class Task(NamedTuple):
    """What an agent is set to do. Both leaves are traced and vmappable."""

    env_params: Any  # the level
    horizon: jax.Array  # int32 [], length of this life in updates; annealing reads it


def _no_memory(num_envs: int) -> tuple:
    return ()


class Algorithm(NamedTuple):
    """An algorithm as pure functions over its `State` and `Hypers`.

    A `State` is a NamedTuple of arrays with at least `task` and `step` (int32, updates done), and
    `params` where `vital` is the default. One iteration, `update`, is `collect` then `learn`.
    """

    config: Any
    """The static, hashable dataclass it was made with; checkpoints are compared against it."""
    init: Callable
    """(key, hypers, task) -> State"""
    collect: Callable
    """(state, hypers) -> (State, Trajectory). Actions are detached here, nothing later."""
    learn: Callable
    """(state, hypers, trajectory) -> (State, Metrics). Metrics are scalars of one update; they
    include `env_steps` (int32), `episodes` (finished ones) and `return` (their mean, or NaN)."""
    policy: Callable
    """(state) -> policy: what acting needs, parameters and frozen normaliser statistics."""
    act: Callable
    """(policy, memory, obs, first, key, greedy) -> (action, memory), over any leading batch
    axis. `first` marks an episode's first observation; `greedy` is static."""
    memory: Callable = _no_memory
    """(num_envs) -> the memory with which an episode starts; () where there is none."""
    vital: Callable = lambda state, metrics: state.params
    """(state, metrics) -> the leaves that must stay finite; a member where one fails is frozen."""
    log_prob: Callable | None = None
    """(state, trajectory) -> (log_prob, entropies), differentiable in `state.params`: of the
    trajectory's actions `[num_steps, num_envs]`, and the means of the state's entropies on it, by
    name. A meta-gradient needs it."""
    estimate: Callable | None = None
    """(state, hypers, trajectory) -> ValueEstimates, values and advantages `[num_steps, num_envs]`.
    Scores of levels need it."""
    partition: Any = None
    """Of a meta-learner: PartitionSpecs, a prefix of its `State`, that lay its agents over the
    mesh axis `agents`; `init` sees all agents, `collect` and `learn` a device's share."""
    num_agents: int = 1
    """How many agents there are to lay."""
    made_of: tuple[str, ...] = ()
    """`part_name` of the environment and of everything else it was made with that decides a
    result. A run is resumed only where these and `config` are equal."""


def update(algorithm: Algorithm, state: Any, hypers: Any) -> tuple[Any, Metrics]:
    """Run one iteration: collect experience, then learn from it."""
    state, trajectory = algorithm.collect(state, hypers)
    return algorithm.learn(state, hypers, trajectory)


def make_train(algorithm: Algorithm, num_updates: int) -> Callable:
    """Make the whole run one pure function.

    Args:
        algorithm: what to run.
        num_updates: length of the run; also the horizon that annealing sees.

    Returns:
        `train(key, hypers, env_params) -> (State, Metrics)`, the metrics stacked
        to `[num_updates]`: jit it, and vmap it over any of its arguments.
    """
    if not is_count(num_updates):
        raise ValueError(f"num_updates: {num_updates!r} is not valid; it must be {COUNT}")

    def train(key: jax.Array, hypers: Any, env_params: Any) -> tuple[Any, Metrics]:
        check_hypers(hypers)
        task = Task(env_params, jnp.int32(num_updates))
        state = algorithm.init(key, hypers, task)
        return jax.lax.scan(
            lambda state, _: update(algorithm, state, hypers), state, length=num_updates
        )

    return train
