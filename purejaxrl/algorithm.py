"""The contract: an algorithm is a handful of pure functions, and a run is one more.

Everything that decides a shape, a length or a branch sits in a static `Config`;
every float is a traced leaf of `Hypers`; the level is a traced leaf of `Task`.
So a run can be jitted, and vmapped over keys, hyperparameters and levels.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purejaxrl.validation import COUNT, check_hypers, is_count

Metrics = dict[str, jax.Array]

EPISODE_MEANS = ("return", "discounted_return", "length")
"""Metrics of `parts.rollout.collect` that are means over the episodes finished in an update."""


class Task(NamedTuple):
    """What an agent is set to do. Both leaves are traced and vmappable."""

    env_params: Any  # the level
    horizon: jax.Array  # int32 [], length of this life in updates; annealing reads it


class AgentsLayout(NamedTuple):
    """How a meta-learner's agents are sharded over the mesh axis `agents`."""

    partition: Any
    """PartitionSpecs, a prefix of the meta-learner's `State`."""
    num_agents: int
    """Number of agents to shard."""


def _no_memory(num_envs: int) -> tuple:
    return ()


class Algorithm(NamedTuple):
    """An algorithm as pure functions over its `State` and `Hypers`.

    A `State` is a NamedTuple of arrays. It has `task` (`Task`), `key` (a typed key), `step` (int32,
    updates done) and, where `vital` is the default, `params`. If the algorithm acts while it learns
    (`num_envs` is not None), it also has `interaction` (`parts.rollout.Interaction`). One
    iteration, `update`, is `collect` then `learn`. A State that contains the state of another
    algorithm passes its own `task.horizon` down at `collect`, because the horizon of a run that is
    resumed can change.
    """

    config: Any
    """The static, hashable dataclass it was made with; checkpoints are compared against it."""
    init: Callable
    """(key, hypers, task) -> State"""
    collect: Callable
    """(state, hypers) -> (State, experience). No gradient flows through the actions that it draws;
    `learn` can be differentiated in `params` and `hypers`. If the algorithm acts, the experience is
    a `parts.rollout.Experience`."""
    learn: Callable
    """(state, hypers, experience) -> (State, Metrics). Metrics are scalars of one update; they
    include `env_steps` (int32, so an update must make fewer than 2**31), `episodes` (finished ones)
    and `return` (their mean, or NaN)."""
    policy: Callable
    """(state) -> policy: what acting needs, parameters and frozen normaliser statistics."""
    act: Callable | None = None
    """(policy, memory, obs, first, key, greedy) -> (action, memory), over any leading batch
    axis. `first` marks an episode's first observation. `greedy` (static) asks for the most likely
    action, otherwise for a sample; deterministic policies have one action for both. None: it cannot
    act."""
    memory: Callable = _no_memory
    """(num_envs) -> the memory with which an episode starts; () where there is none."""
    vital: Callable = lambda state, metrics: state.params
    """(state, metrics) -> the leaves that must stay finite; a member where one fails is frozen."""
    log_prob: Callable | None = None
    """(state, experience) -> (log_prob, entropies), both differentiable in `state.params`:
    log-probabilities of the experience's actions `[num_steps, num_envs]`, and the policy's mean
    entropies over the experience, by name. A meta-gradient needs it."""
    estimate: Callable | None = None
    """(state, hypers, experience) -> ValueEstimates, values and advantages `[num_steps, num_envs]`.
    Scores of levels need it."""
    num_envs: int | None = None
    """Environments that it acts in at a time. None: its `State` has no `interaction`."""
    steps_per_update: int | None = None
    """Environment steps of one update; None where that varies."""
    warmup_steps: int = 0
    """Environment steps that `init` makes, such as those that fill a replay buffer. The first
    update counts them in its `env_steps`."""
    in_place: tuple[str, ...] = ()
    """Fields of `State` that every update writes in place and nothing copies, such as a replay
    buffer with its cursor. A dot reaches into a nested state (`agent.replay`). These fields are not
    rolled back where a member is frozen or a life is over."""
    differentiable: tuple[str, ...] = ("params", "opt_state")
    """Fields of `State` through which a meta-gradient flows; `collect` leaves them as they are."""
    episode_means: tuple[str, ...] = EPISODE_MEANS
    """Metrics that are means over the episodes finished in an update. Averages over several updates
    weight them by `episodes`."""
    agents: AgentsLayout | None = None
    """Only a meta-learner has one. `init` sees all agents; `collect` and `learn` see those of one
    device."""
    made_of: tuple[str, ...] = ()
    """`part_name` of the environment and of everything else it was made with that decides a
    result. A run is resumed only where these and `config` are equal."""


def require_fit(name: str, algorithm: Algorithm, use: str, *fields: str) -> None:
    """Raise a ValueError unless an algorithm has what a use needs, when the two are composed.

    Args:
        name: what the algorithm is called where it is composed, such as `student`.
        algorithm: the algorithm.
        use: what needs the fields, such as "a score of levels".
        fields: names of fields of `Algorithm` that must not be None.
    """
    for field in fields:
        if getattr(algorithm, field) is None:
            made_with = type(algorithm.config).__module__
            raise ValueError(f"{name}: {made_with} is not valid; {use} needs its `{field}`")


def require_one_step_returns(name: str, algorithm: Algorithm, use: str) -> None:
    """Raise a ValueError if an agent's n-step returns could span a gap in its replay buffer.

    Args:
        name: what the algorithm is called where it is composed.
        algorithm: the algorithm.
        use: what makes the gaps, such as "a curriculum moves it to other levels".
    """
    steps = getattr(algorithm.config, "num_returns", 1)
    if steps > 1:
        raise ValueError(
            f"{name}: num_returns={steps} is not valid; {use}, so rows of its buffer that follow "
            "each other are not always one episode: it must be 1"
        )


def vital_losses(*names: str) -> Callable:
    """Make a `vital` that returns the parameters and the named metrics."""
    return lambda state, metrics: (state.params, *(metrics[name] for name in names))


def update(algorithm: Algorithm, state: Any, hypers: Any) -> tuple[Any, Metrics]:
    """Run one iteration: collect experience, then learn from it."""
    state, experience = algorithm.collect(state, hypers)
    return algorithm.learn(state, hypers, experience)


def check_metrics(algorithm: Algorithm, metrics: Metrics) -> None:
    """Raise a ValueError unless what `learn` returned for one update can be a row of a table."""
    learner = f"metrics of {type(algorithm.config).__module__}"
    if lacking := {"env_steps", "episodes", "return"} - metrics.keys():
        raise ValueError(f"{learner}: {', '.join(sorted(lacking))} must be among them")
    for name, value in metrics.items():
        if jnp.shape(value):
            raise ValueError(
                f"{learner}: {name!r} of shape {jnp.shape(value)} is not valid; it must be a scalar"
            )


def age_of(state: Any) -> jax.Array:
    """Compute n/N, the fraction of an agent's updates that are done: float32 [] in [0, 1]."""
    return jnp.minimum(state.step / state.task.horizon, 1.0)


def is_finite(tree: Any) -> jax.Array:
    """Whether no float of a tree is NaN or infinite: bool []; leaves of other types are ignored."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(jnp.result_type(x), jnp.inexact)]
    return jnp.stack([jnp.bool_(True), *(jnp.isfinite(x).all() for x in floats)]).all()


def missing(metric: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Return the placeholder for a metric without a value: NaN, or 0 for integers."""
    value = jnp.nan if jnp.issubdtype(metric.dtype, jnp.floating) else 0
    return jnp.full(metric.shape, value, metric.dtype)


def no_steps() -> Metrics:
    """Return the metrics that an algorithm that takes no environment steps has to give."""
    return {
        "env_steps": jnp.int32(0),
        "episodes": jnp.int32(0),
        "return": jnp.float32(jnp.nan),
    }


def advance_where(algorithm: Algorithm, condition: jax.Array, after: Any, before: Any) -> Any:
    """Return the state after an update where a condition holds, otherwise the one before it.

    Fields that are written in place are always taken from `after`, because a select would copy
    them.

    Args:
        algorithm: the algorithm that the states belong to.
        condition: bool [].
        after, before: states.
    """
    for path in algorithm.in_place:
        before = replace_at(before, path, attrgetter(path)(after))
    select = lambda new, old: new if new is old else jnp.where(condition, new, old)  # noqa: E731
    return jax.tree.map(select, after, before)


def replace_at(state: Any, path: str, value: Any) -> Any:
    """Replace a field of nested NamedTuples, such as `agent.replay`."""
    field, _, rest = path.partition(".")
    value = replace_at(getattr(state, field), rest, value) if rest else value
    return state._replace(**{field: value})


def make_train(algorithm: Algorithm, num_updates: int) -> Callable:
    """Make the whole run one pure function.

    Args:
        algorithm: what to run.
        num_updates: length of the run; also the horizon that annealing sees.

    Returns:
        `train(key, hypers, env_params) -> (State, Metrics)`, the metrics stacked
        to `[num_updates]`: jit it, and vmap it over any of its arguments. Inside of jit and vmap
        the values of hyperparameters are not known, so that their ranges are not checked: call
        `check_hypers` before, as `run` does.
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
