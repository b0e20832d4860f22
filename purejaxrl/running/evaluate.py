"""Evaluation on new episodes, during a run and after it, and policies that act outside of runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from optax.tree_utils import tree_where

from purejaxrl.algorithm import Algorithm, Metrics, Task, is_finite, require_fit
from purejaxrl.identity import part_name
from purejaxrl.parts.rollout import Act, reset, uniform
from purejaxrl.running import checkpoint
from purejaxrl.running.devices import map_members
from purejaxrl.validation import COUNT, is_count

MAX_STEPS = 10_000
"""Steps after which an episode is cut, by default."""

Play = Callable[[Algorithm, jax.Array, Any, Any], Metrics]
"""`(algorithm, key, policy, env_params) -> metrics`: scalars, among them `return`, the score of the
policy, and `episodes` (int32), over which it is averaged."""


class Evaluator(NamedTuple):
    """How a run evaluates the policies of its members."""

    play: Play
    name: str
    """It is part of a run's identity."""
    needs: tuple[str, ...] = ("act",)
    """What it needs of an `Algorithm`, besides `policy`."""


class Best(NamedTuple):
    """The best policy of a member so far."""

    policy: Any
    score: jax.Array  # float32, its `return`; -inf before the first evaluation
    update: jax.Array  # int32, when it was evaluated

    @classmethod
    def start(cls, policy: Any) -> "Best":
        """Begin with a policy that has not been evaluated."""
        return cls(policy, jnp.float32(-jnp.inf), jnp.int32(0))


def keep_best(
    algorithm: Algorithm,
    evaluator: Evaluator,
    when: tuple[jax.Array, jax.Array],
    member: tuple[Any, jax.Array],
    best: Best,
) -> tuple[Best, Metrics]:
    """Evaluate the policy of one member, and keep it if it is the best so far.

    Args:
        algorithm: the member's algorithm.
        evaluator: how to evaluate.
        when: typed key, the same for all members, and int32, the update.
        member: its state, and whether it is alive: a frozen member's best policy stays.
        best: the best policy before.

    Returns:
        The best policy now, and the metrics.
    """
    (key, update), (state, alive) = when, member
    policy, env_params = algorithm.policy(state), state.task.env_params
    metrics = evaluator.play(algorithm, own_key(key, state.key), policy, env_params)
    score = metrics["return"].astype(jnp.float32)
    now = Best(policy, score, update)
    return tree_where(alive & (score > best.score), now, best), metrics | {"alive": alive}


def own_key(key: jax.Array, of_member: jax.Array) -> jax.Array:
    """Return the key of one member's evaluation.

    Each member plays episodes of its own, so that intervals over members include the
    variance that episodes add. Members of one seed, as in a sweep, play the same ones.

    Args:
        key: typed key of the evaluation.
        of_member: the typed key in the member's state; it is only folded into `key` as
            integers, to tell members apart, and no random number is drawn with it.
    """
    for word in jax.random.key_data(of_member).ravel():
        key = jax.random.fold_in(key, word)
    return key


def on_episodes(
    env: Any,
    *,
    num_episodes: int = 16,
    greedy: bool = False,
    max_steps: int = MAX_STEPS,
) -> Evaluator:
    """Evaluate on new episodes.

    Args:
        env: gymnax environment; the level is the member's own.
        num_episodes, greedy, max_steps: see `evaluate`. Episodes that `max_steps` cuts short are
            left out of the mean, so it must be at least the level's time limit.
    """
    how = {"num_episodes": num_episodes, "greedy": greedy, "max_steps": max_steps}

    def play(algorithm: Algorithm, key: jax.Array, policy: Any, env_params: Any) -> Metrics:
        played = evaluate(algorithm, env, key, policy, env_params, **how)
        count = played.finished.sum(dtype=jnp.int32)
        mean = lambda x: jnp.where(played.finished, x, 0.0).sum() / count  # noqa: E731
        return {"episodes": count, "return": mean(played.ret), "length": mean(played.length)}

    return Evaluator(play, f"on_episodes({part_name(env)}, {how})")


class Evaluation(NamedTuple):
    """Evaluation episodes, all `[num_episodes]`."""

    ret: jax.Array  # sum of rewards; NaN: the policy is not finite
    length: jax.Array  # int32, steps
    finished: jax.Array  # bool; False if `max_steps` cut the episode


def evaluate(
    algorithm: Algorithm,
    env: Any,
    key: jax.Array,
    policy: Any,
    env_params: Any,
    *,
    num_episodes: int,
    greedy: bool,
    max_steps: int,
) -> Evaluation:
    """Play one episode in each of `num_episodes` environments; jit it, and vmap it over policies.

    A policy that holds NaN or infinity has no returns. Its actions would look valid: a categorical
    distribution of NaN samples -1, which indexes the last action.

    Args:
        algorithm: its `act` chooses actions.
        env: gymnax environment.
        key: typed key.
        policy: `algorithm.policy(state)`.
        env_params: the level.
        num_episodes: episodes, side by side.
        greedy: take the distribution's mode rather than a sample.
        max_steps: steps after which an episode is cut.

    Raises:
        ValueError: if `num_episodes` or `max_steps` is not an integer >= 1.
    """
    require_fit("algorithm", algorithm, "evaluation", "act")

    def act(memory: Any, obs: Any, first: jax.Array, key: jax.Array):
        return *algorithm.act(policy, memory, obs, first, key, greedy), ()

    memory = algorithm.memory(num_episodes)
    played = _play(env, key, env_params, act, memory, num_episodes, max_steps)
    return played._replace(ret=jnp.where(is_finite(policy), played.ret, jnp.nan))


def play_at_random(env: Any, key: jax.Array, env_params: Any, *, num_episodes: int) -> Evaluation:
    """Play episodes with uniformly random actions: the least that a policy should reach.

    Args:
        env, key, env_params, num_episodes: see `evaluate`.

    Raises:
        ValueError: see `evaluate`.
    """
    return _play(env, key, env_params, uniform(env, env_params), (), num_episodes, MAX_STEPS)


def _play(
    env: Any,
    key: jax.Array,
    env_params: Any,
    act: Act,
    memory: Any,
    num_episodes: int,
    max_steps: int,
) -> Evaluation:
    """Play one episode in each of `num_episodes` environments; arguments as in `evaluate`."""
    for name, value in (("num_episodes", num_episodes), ("max_steps", max_steps)):
        if not is_count(value):
            raise ValueError(f"evaluate: {name}: {value!r} is not valid; it must be {COUNT}")
    reset_key, key = jax.random.split(key)
    obs, env_state = reset(reset_key, env, env_params, num_episodes)

    class Play(NamedTuple):
        key: jax.Array
        env_state: Any
        obs: Any
        first: jax.Array
        memory: Any
        step: jax.Array
        result: Evaluation

    def is_unfinished(play: Play) -> jax.Array:
        return (play.step < max_steps) & ~play.result.finished.all()

    def step(play: Play) -> Play:
        key, act_key, env_key = jax.random.split(play.key, 3)
        action, memory, _ = act(play.memory, play.obs, play.first, act_key)
        obs, env_state, reward, terminated, truncated, _ = jax.vmap(
            env.step, in_axes=(0, 0, 0, None)
        )(jax.random.split(env_key, num_episodes), play.env_state, action, env_params)
        result = play.result
        counts = ~result.finished  # an environment resets itself; only its first episode counts
        done = terminated | truncated
        ret = result.ret + jnp.where(counts, reward, 0.0)
        result = Evaluation(ret, result.length + counts, result.finished | done)
        return Play(key, env_state, obs, done, memory, play.step + 1, result)

    nothing = Evaluation(
        jnp.zeros(num_episodes),
        jnp.zeros(num_episodes, jnp.int32),
        jnp.zeros(num_episodes, bool),
    )
    first = jnp.ones(num_episodes, bool)
    play = Play(key, env_state, obs, first, memory, jnp.int32(0), nothing)
    return jax.lax.while_loop(is_unfinished, step, play).result


def evaluate_members(
    algorithm: Algorithm,
    env: Any,
    key: jax.Array,
    state: Any,
    env_params: Any,
    *,
    num_episodes: int = 128,
    greedy: bool = True,
) -> Evaluation:
    """Evaluate each member of a population on the same episodes; leaves `[members, episodes]`.

    Args:
        state: leaves `[members, ...]`, such as `result.state`.
        env_params: the level, without a population axis.
        algorithm, env, key, num_episodes, greedy: see `evaluate`.
    """

    def one(state: Any) -> Evaluation:
        return evaluate(
            algorithm,
            env,
            key,
            algorithm.policy(state),
            env_params,
            num_episodes=num_episodes,
            greedy=greedy,
            max_steps=MAX_STEPS,
        )

    return jax.jit(lambda states: map_members(one, states))(state)


class TrainedPolicy:
    """A policy to act with outside of training: `action, memory = policy(obs)`."""

    def __init__(self, algorithm: Algorithm, policy: Any):
        """Act with `algorithm.act` and the parameters `policy`."""
        self.policy = policy
        self._memory = algorithm.memory
        self._act: Callable = jax.jit(algorithm.act, static_argnums=5)

    def __call__(
        self,
        obs: jax.Array,
        memory: Any = None,
        first: bool | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Choose an action for one observation.

        Args:
            obs: `[*obs_shape]`.
            memory: what the last call returned; None at the start of an episode.
            first: whether `obs` is the first of an episode; by default, whether `memory` is None.
            key: samples the action; None takes the most likely one.

        Returns:
            The action, and the memory for the next call.
        """
        first = memory is None if first is None else first
        memory = self._memory(1) if memory is None else memory
        greedy = key is None
        batch = jax.tree.map(lambda x: jnp.asarray(x)[None], obs)
        key = jax.random.key(0) if greedy else key
        action, memory = self._act(self.policy, memory, batch, jnp.asarray([first]), key, greedy)
        return action[0], memory


def save_policy(folder: Path | str, algorithm: Algorithm, policy: Any) -> None:
    """Save one member's policy.

    Args:
        folder: where to; `~` is the home folder.
        algorithm: the algorithm that trained it.
        policy: the last one, `algorithm.policy(result.member(0))`, or `result.best_policy(0)`.

    Raises:
        checkpoint.CheckpointError: if the folder cannot be written.
    """
    checkpoint.save(folder, policy, {"config": part_name(algorithm.config)})


def load_policy(
    folder: Path | str, algorithm: Algorithm, hypers: Any, env_params: Any
) -> TrainedPolicy:
    """Load a policy to act with.

    Args:
        folder: what `save_policy` wrote.
        algorithm: the algorithm it was trained with, made with the same config.
        hypers: any hyperparameters of the algorithm, for their shapes.
        env_params: any level, for its shapes.

    Raises:
        checkpoint.CheckpointError: if it is missing, damaged, no policy, or of another config.
    """
    found = checkpoint.read_manifest(folder)["info"].get("config")
    if found is None:
        raise checkpoint.CheckpointError(
            f"policy {folder}: is a checkpoint of a run and not a policy; load what `save_policy` "
            "wrote"
        )
    config = part_name(algorithm.config)
    if found not in (config, repr(algorithm.config)):  # repr: of older files
        raise checkpoint.CheckpointError(
            f"policy {folder}: was trained with {found}, not with {config}"
        )

    def fresh() -> Any:
        task = Task(env_params, jnp.int32(1))
        return algorithm.policy(algorithm.init(jax.random.key(0), hypers, task))

    policy, _ = checkpoint.load(folder, jax.eval_shape(fresh))
    return TrainedPolicy(algorithm, policy)
