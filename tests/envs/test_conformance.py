"""What every environment promises.

An environment is compiled once, as a scan over time of a vmap over keys and levels. It is played
three times with random actions: `wild` for long on many levels, `short` with the same keys and
tight time limits, and `twins` on one level with every key used in two environments. The scan
compares each step with `step_env`, `is_truncated` and a reset, and the tests check the results.
`KNOWN` lists what gymnax's environments get wrong.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from purejaxrl.parts.returns import Episode, episode_metrics
from purejaxrl.parts.wrappers import Restarting
from tests.envs.simulate import assert_shaped_like, close, digest, is_finite, strong

QUICK = {"gridworld-small", "maze-60", "chain-long-noisy", "bandit-contextual", "CartPole-v1"}
QUICK |= {"token-countdown"}
"""What the quick suite compiles: one of a kind. All the others are marked slow."""

CHUNK = 100
"""Steps of the program that is compiled."""

WATCHED = 1
"""The environment whose every observation is kept."""

COSTLY = ("MinAtar", "Pong", "gridworld-rand")
"""What takes longer to run unoptimised than to optimise."""

DETERMINISTIC = {"maze-25", "maze-60", "maze-perfect", "gridworld-sparse", "chain-short"}
DETERMINISTIC |= {"chain-long", "DeepSea-bsuite", "DiscountingChain-bsuite", "Pong-misc"}
DETERMINISTIC |= {"SpaceInvaders-MinAtar"}
DETERMINISTIC |= set(envs.FAMILIES["Token tasks"])
"""Environments that leave nothing to chance once the level is drawn."""

QUIET = {f"gridworld-{name}" for name in ("dense", "long", "long_dense", "mazes", "tabular")}
QUIET |= {f"gridworld-rand_{name}" for name in ("dense", "long", "sparse", "very_dense")}
QUIET |= {"gridworld-medium"}
"""Grid-worlds on whose default level the random agent reaches no object within a play, which is
when chance comes in."""

KNOWN = {
    ("test_rewards_are_floats", "BernoulliBandit-misc"): "int32",
    ("test_rewards_are_floats", "UmbrellaChain-bsuite"): "int32",
    **{
        ("test_observations_have_the_shape_and_type_of_their_space", name): "another shape or type"
        for name in ("Catch-bsuite", "FourRooms-misc")
    },
    **{
        ("test_observations_lie_in_their_space", name): "beyond its bounds"
        for name in ("GaussianBandit-misc", "MemoryChain-bsuite", "MetaMaze-misc")
    },
    ("test_after_an_episode_the_next_begins", "DeepSea-bsuite"): "keeps sums over its auto-reset",
}
"""By test and environment."""


class Script(NamedTuple):
    """The randomness of a play, and its levels."""

    reset_key: jax.Array  # [num_envs]
    act_key: jax.Array  # [num_steps, num_envs]
    step_key: jax.Array  # [num_steps, num_envs]
    levels: Any  # [num_envs, ...]


class Play(NamedTuple):
    """What came of it, `[num_steps, num_envs]` each."""

    reward: Any
    terminated: Any
    truncated: Any
    finite: Any  # observations, state and reward
    inside: Any  # the observation lies in its space, and so does the final one
    digest: Any  # of the observation
    agrees: dict[str, Any]  # with the step's parts
    watched: Any  # (obs, action, reward, terminated, truncated, final_obs) of one environment


def keys_of(env: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The keys of a step and of the reset after it: a restart needs none."""
    return (key, key) if isinstance(env, Restarting) else tuple(jax.random.split(key))


def restart(env: Any, key: jax.Array, state: Any, level: Any) -> tuple[Any, Any]:
    """Begin the next episode, as the environment knows how."""
    return env.restart(state, level) if isinstance(env, Restarting) else env.reset_env(key, level)


def step_and_compare(env: Any, level: Any, state: Any, act_key: jax.Array, step_key: jax.Array):
    """Step one environment, and take the same step apart."""
    action = env.action_space(level).sample(act_key)
    obs, after, reward, terminated, truncated, info = env.step(step_key, state, action, level)
    final_obs = info["final_observation"]

    step_key, reset_key = keys_of(env, step_key)
    stepped_obs, stepped, _, ended, _ = env.step_env(step_key, state, action, level)
    out_of_time = env.is_truncated(stepped, level)
    fresh_obs, fresh = restart(env, reset_key, stepped, level)
    next_obs, next_state = jax.tree.map(
        lambda a, b: jnp.where(ended | out_of_time, a, b),
        (fresh_obs, fresh),
        (stepped_obs, stepped),
    )
    space = env.observation_space(level)
    return after, Play(
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        finite=is_finite((obs, final_obs, after, reward)),
        inside=space.contains(obs) & space.contains(final_obs),
        digest=digest(obs),
        agrees={
            "terminated": terminated == ended,
            "truncated": truncated == out_of_time,
            "final_observation": close(final_obs, stepped_obs),
            "obs": close(obs, next_obs),
            "state": close(after, next_state),
        },
        watched=(obs, action, reward, terminated, truncated, final_obs),
    )


class World:
    """An environment and its plays."""

    def __init__(self, name: str):
        self.name, self.is_brax = name, envs.family(name) == "Brax"
        self.num_envs, num_steps = (10, CHUNK) if self.is_brax else (100, 1000)
        self.env, self.params = envs.make(name)
        costly = any(word in name for word in COSTLY)
        options = None if costly else {"xla_backend_optimization_level": 0}
        self.jit = partial(jax.jit, compiler_options=options)
        self.reset = self.jit(lambda *args: strong(jax.vmap(self.env.reset)(*args)))
        self.steps = self.jit(self._steps)

        everywhere = jax.tree.map(lambda x: jnp.stack([x] * self.num_envs), strong(self.params))
        levels = everywhere
        if hasattr(self.env, "sample_level"):
            keys = jax.random.split(jax.random.key(1), self.num_envs)
            levels = self.jit(jax.vmap(self.env.sample_level))(keys)
        self.limit = 1 + np.arange(self.num_envs) % 7
        tight = levels.replace(
            max_steps_in_episode=jnp.asarray(self.limit, levels.max_steps_in_episode.dtype)
        )
        pair = np.arange(self.num_envs) // 2
        script = self.write(jax.random.key(0), num_steps, levels)
        first = self.write(jax.random.key(0), CHUNK, tight)
        twins = Script(
            script.reset_key[pair],
            first.act_key[:, 0 * pair],
            first.step_key[:, pair],
            everywhere,
        )
        self.script, self.levels, self.tight = script, levels, tight
        self.wild, self.short, self.twins = map(self.play, (script, first, twins))

    def write(self, key: jax.Array, num_steps: int, levels: Any) -> Script:
        """A script whose beginning does not depend on its length."""
        reset_key, key = jax.random.split(key)
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i), (2, self.num_envs)))
        act_key, step_key = jnp.moveaxis(keys(jnp.arange(num_steps)), 1, 0)
        return Script(jax.random.split(reset_key, self.num_envs), act_key, step_key, levels)

    def play(self, script: Script) -> Play:
        _, state = self.reset(script.reset_key, script.levels)
        chunks = []
        for start in range(0, len(script.act_key), CHUNK):
            keys = (x[start : start + CHUNK] for x in (script.act_key, script.step_key))
            state, chunk = self.steps(state, script.levels, *keys)
            chunks.append(jax.device_get(chunk))
        return jax.tree.map(lambda *x: np.concatenate(x), *chunks)

    def _steps(self, state: Any, levels: Any, act_key: jax.Array, step_key: jax.Array):
        step_each = jax.vmap(partial(step_and_compare, self.env))

        def step(state, keys):
            state, play = step_each(levels, state, *keys)
            return state, play._replace(watched=jax.tree.map(lambda x: x[WATCHED], play.watched))

        return jax.lax.scan(step, state, (act_key, step_key))


def names() -> list[Any]:
    slow = set(envs.names()) - QUICK
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in slow)) for n in envs.names()]


@pytest.fixture(scope="module", params=names())
def world(request) -> World:
    return World(request.param)


@pytest.fixture(autouse=True)
def expect_known_faults(request, world):
    reason = KNOWN.get((request.function.__name__, world.name))
    if reason:
        known = pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)
        request.applymarker(known)


def shapes(world: World):
    """Of a reset and a step on the default level, its numbers as they come."""
    env, params, key = world.env, world.params, jax.random.key(0)
    action = env.action_space(params).sample(key)
    obs, state = jax.eval_shape(env.reset, key, params)
    return (obs, state), jax.eval_shape(env.step, key, state, action, params)


def test_observations_have_the_shape_and_type_of_their_space(world):
    (first_obs, _), (obs, *_, info) = shapes(world)
    space = world.env.observation_space(world.params)
    for x in (first_obs, obs, info["final_observation"]):
        assert_shaped_like(space, x)


def test_rewards_are_floats(world):
    _, (_, _, reward, _, _, _) = shapes(world)
    assert (reward.shape, reward.dtype) == ((), np.float32)


def test_flags_are_bools(world):
    _, (_, _, _, *flags, _) = shapes(world)
    assert [(flag.shape, flag.dtype) for flag in flags] == [((), np.bool_)] * 2


def test_the_state_keeps_its_shape(world):
    (_, state), (_, after, *_) = shapes(world)
    described = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert described(after) == described(state)


def test_observations_lie_in_their_space(world):
    first_obs, _ = world.reset(world.script.reset_key, world.levels)
    contains = lambda obs, level: world.env.observation_space(level).contains(obs)  # noqa: E731
    assert jax.vmap(contains)(first_obs, world.levels).all()
    assert world.wild.inside.all()
    assert world.short.inside.all()


def test_nothing_is_ever_infinite_or_nan(world):
    assert world.wild.finite.size == (1_000 if world.is_brax else 100_000)
    assert world.wild.finite.all()
    assert world.short.finite.all()


def test_an_episode_ends_by_its_own_or_the_time_limit_says_so(world):
    for play in (world.wild, world.short):
        assert play.agrees["terminated"].all()
        assert play.agrees["truncated"].all()


def test_the_final_observation_is_the_episodes_last(world):
    assert world.wild.agrees["final_observation"].all()
    assert world.short.agrees["final_observation"].all()


def test_after_an_episode_the_next_begins(world):
    for play in (world.wild, world.short):
        assert play.agrees["obs"].all()
        assert play.agrees["state"].all()
    assert (world.short.terminated | world.short.truncated).any(axis=0).all()


def test_an_episode_is_cut_at_its_levels_time_limit(world):
    short, limit = world.short, world.limit
    done = short.terminated | short.truncated
    age = np.zeros(done.shape, int)  # steps of the episode, this one included
    for t in range(CHUNK):
        age[t] = 1 + (age[t - 1] * ~done[t - 1] if t else 0)
    assert (age <= limit).all()
    assert done[age == limit].all()
    assert not short.truncated[age < limit].any()


def test_the_time_limit_does_not_terminate(world):
    envs = np.arange(world.num_envs)
    within = np.arange(7)[:, None] < world.limit
    died = (world.wild.terminated[:7] & within).any(0)
    last = world.limit - 1
    np.testing.assert_array_equal(world.short.terminated[last, envs][~died], False)
    np.testing.assert_array_equal(world.short.truncated[last, envs][~died], True)


def test_equal_keys_give_equal_plays(world):
    twins = world.twins
    for x in (twins.digest, twins.reward, twins.terminated, twins.truncated):
        np.testing.assert_array_equal(x[:, ::2], x[:, 1::2])


def test_other_keys_give_other_plays(world):
    """With equal actions on one level: what differs is the environment's own chance."""
    twins = world.twins
    same = all(np.allclose(x, x[:, :1], rtol=1e-5) for x in (twins.digest, twins.reward))
    assert same == (world.name in DETERMINISTIC | QUIET)


def test_levels_are_alike_in_shape_and_differ(world):
    if not hasattr(world.env, "sample_level"):
        return
    for level, default in zip(
        jax.tree.leaves(world.levels), jax.tree.leaves(world.params), strict=True
    ):
        assert (level.shape, level.dtype) == ((world.num_envs, *default.shape), default.dtype)
    assert any((x != x[0]).any() for x in map(np.asarray, jax.tree.leaves(world.levels)))


def test_alone_step_by_step_and_not_jitted_is_the_same(world):
    env, level = world.env, jax.tree.map(lambda x: x[WATCHED], world.tight)
    jit = world.jit if world.is_brax else lambda f: f  # its eager physics takes minutes
    reset_env, step_env = jit(env.reset_env), jit(env.step_env)
    _, state = reset_env(world.script.reset_key[WATCHED], level)
    for t in range(3):  # the limit is two steps
        seen = jax.tree.map(lambda x: x[t], world.short.watched)  # noqa: B023
        key, reset_key = keys_of(env, world.script.step_key[t, WATCHED])
        final_obs, state, reward, terminated, _ = step_env(key, state, seen[1], level)
        truncated = env.is_truncated(state, level)
        obs = final_obs
        if terminated | truncated:
            obs, state = restart(env, reset_key, state, level)
        assert close((obs, seen[1], reward, terminated, truncated, final_obs), seen)


def test_episode_statistics_are_those_of_a_loop(world):
    for play in (world.wild, world.short):
        done, gamma = play.terminated | play.truncated, 0.9
        _, metrics = jax.jit(episode_metrics)(
            Episode.start(world.num_envs), play.reward, done, gamma
        )
        finished = []
        ret, discounted, length = np.zeros((3, world.num_envs))
        for reward, ends in zip(play.reward, done, strict=True):
            ret += reward
            discounted += gamma**length * reward
            length += 1
            finished.append(np.stack([ret, discounted, length])[:, ends])
            ret[ends] = discounted[ends] = length[ends] = 0
        finished = np.concatenate(finished, axis=1)
        assert metrics["episodes"] == finished.shape[1]
        if metrics["episodes"]:
            seen = [metrics[name] for name in ("return", "discounted_return", "length")]
            np.testing.assert_allclose(seen, finished.mean(1), rtol=1e-3, atol=1e-4)
