import os
import subprocess
import sys
from pathlib import Path

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from purejaxrl.parts.wrappers import Wrapper


def test_names_are_sorted_and_of_both_kinds():
    names = envs.names()
    assert list(names) == sorted(set(names))
    assert {"CartPole-v1", "Breakout-MinAtar", "ant", "inverted_pendulum"} <= set(names)
    assert "MNISTBandit-bsuite" not in names  # needs a download


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("cartpole", "CartPole-v1"), ("CartPole", "CartPole-v1"), ("half_cheetah", "halfcheetah")],
)
def test_an_unknown_name_gets_a_suggestion(name, suggestion):
    with pytest.raises(
        ValueError, match=f"unknown environment '{name}'; did you mean: .*{suggestion}"
    ):
        envs.make(name)


def test_an_environment_that_is_left_out_is_unknown():
    with pytest.raises(ValueError, match="unknown environment 'MNISTBandit-bsuite'"):
        envs.make("MNISTBandit-bsuite")


def test_cartpole_is_gymnax_own_with_its_default_level():
    env, params = envs.make("CartPole-v1")
    theirs, their_params = gymnax.make("CartPole-v1")
    assert isinstance(env, type(theirs))
    assert params == their_params
    obs, state = env.reset(jax.random.key(0), params)
    obs, _, reward, terminated, truncated, _ = env.step(jax.random.key(1), state, 0, params)
    assert obs.shape == (4,)
    assert (reward, terminated, truncated) == (1.0, False, False)


def test_settings_reach_the_constructor():
    assert envs.make("Catch-bsuite", rows=7)[0].rows == 7
    assert envs.make("UmbrellaChain-bsuite", n_distractor=2)[0].n_distractor == 2
    assert envs.make("garnet", num_states=5)[0].num_states == 5


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("CartPole-v1", {"backend": "mjx"}, "environment 'CartPole-v1'.*'backend'.* takes: none"),
        ("Catch-bsuite", {"row": 3}, "environment 'Catch-bsuite'.*'row'.* takes: rows, columns"),
        ("UmbrellaChain-bsuite", {"n": 3}, "'UmbrellaChain-bsuite'.*'n'.* takes: n_distractor"),
        ("maze-25", {"size": 3}, "environment 'maze-25'.*'size'.* takes: view_size"),
        ("gridworld-small", {"observation": "plane"}, "unknown observation 'plane'.*planes"),
        ("inverted_pendulum", {"backend": "warp"}, "backend: 'warp' is not valid; .*spring, mjx"),
        ("inverted_pendulum", {"gravity": 1}, "environment 'inverted_pendulum'.*takes: backend"),
    ],
)
def test_a_setting_that_the_environment_does_not_take_is_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        envs.make(name, **settings)


@pytest.mark.slow
def test_brax_is_made_without_noise(tmp_path):
    """Brax and MuJoCo print deprecations at every use, and MuJoCo writes a file about them."""
    code = "import envs; envs.make('halfcheetah')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_every_environment_has_one_family():
    assert sum(map(len, envs.FAMILIES.values())) == len(set(envs.names()))
    assert envs.family("Breakout-MinAtar") == "MinAtar"
    with pytest.raises(ValueError, match="unknown environment 'ants'; did you mean: ant"):
        envs.family("ants")


ROOT = Path(__file__).parents[2]
LIMIT = 3


class Pendulum:
    """Brax's pendulum at the start of an episode, and its compiled step."""

    def __init__(self):
        self.env, self.params = envs.make("inverted_pendulum", backend="spring")
        self.short = self.params.replace(max_steps_in_episode=LIMIT)
        self.step = jax.jit(self.env.step)
        self.obs, self.state = self.env.reset(jax.random.key(0), self.params)

    def play(self, params, action, num_steps):
        state, steps = self.state, []
        for i in range(num_steps):
            steps.append(self.step(jax.random.key(i), state, jnp.full(1, action), params))
            state = steps[-1][1]
        return steps


@pytest.fixture(scope="module")
def pendulum():
    return Pendulum()


def flags(steps):
    return [(bool(terminated), bool(truncated)) for _, _, _, terminated, truncated, _ in steps]


RUNNING, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def test_brax_has_the_name_backend_spaces_and_level_of_its_task(pendulum):
    env, params = pendulum.env, pendulum.params
    assert (env.name, env.backend) == ("inverted_pendulum", "spring")
    assert params.max_steps_in_episode == 1000
    action_space, obs_space = env.action_space(params), env.observation_space(params)
    assert isinstance(action_space, spaces.Box)
    assert (action_space.low, action_space.high, action_space.shape) == (-1, 1, (1,))
    assert obs_space.shape == pendulum.obs.shape == (4,)


def test_brax_time_limit_truncates_and_does_not_terminate(pendulum):
    steps = pendulum.play(pendulum.short, 0.0, 2 * LIMIT + 1)
    episode = [RUNNING, RUNNING, TRUNCATED]
    assert flags(steps) == [*episode, *episode, RUNNING]
    assert [int(step[1].time) for step in steps] == [1, 2, 0, 1, 2, 0, 1]


def until_it_falls(pendulum):
    steps = pendulum.play(pendulum.params, 1.0, 60)
    assert TERMINATED in flags(steps)
    return steps[: flags(steps).index(TERMINATED) + 1]


def test_brax_fall_terminates_and_does_not_truncate(pendulum):
    *before, last = until_it_falls(pendulum)
    assert len(before) > 1
    assert set(flags(before)) == {RUNNING}
    assert flags([last]) == [TERMINATED]
    assert abs(last[-1]["final_observation"][1]) > 0.2  # the angle at which it counts as fallen
    assert max(abs(step[0][1]) for step in before) <= 0.2


def test_brax_final_observation_is_the_bodys_and_the_next_one_is_where_it_started(pendulum):
    cut, whole = (pendulum.play(p, 1.0, LIMIT)[-1] for p in (pendulum.short, pendulum.params))
    np.testing.assert_array_equal(cut[-1]["final_observation"], whole[0])
    for last in (cut, until_it_falls(pendulum)[-1]):
        np.testing.assert_array_equal(last[0], pendulum.obs)
        assert not np.array_equal(last[-1]["final_observation"], pendulum.obs)


def test_brax_within_an_episode_the_final_observation_is_the_next_one(pendulum):
    for step in pendulum.play(pendulum.params, 0.5, 2):
        np.testing.assert_array_equal(step[0], step[-1]["final_observation"])


def test_brax_second_episode_repeats_the_first_under_the_same_actions(pendulum):
    steps = pendulum.play(pendulum.short, 1.0, 2 * LIMIT)
    for first, second in zip(steps[:LIMIT], steps[LIMIT:], strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[2], second[2])


def test_brax_environments_start_differently(pendulum):
    other, _ = pendulum.env.reset(jax.random.key(1), pendulum.params)
    assert not np.array_equal(other, pendulum.obs)


def test_brax_actions_beyond_the_box_are_clipped(pendulum):
    far, edge = (pendulum.play(pendulum.params, action, 2)[-1][0] for action in (9.0, 1.0))
    np.testing.assert_array_equal(far, edge)
    inside = pendulum.play(pendulum.params, 0.5, 2)[-1][0]
    assert not np.array_equal(inside, edge)


@pytest.mark.slow
def test_brax_vmapped_over_environments_and_scanned_equals_one_by_one(pendulum):
    state = jax.tree.map(lambda x: jnp.stack([x, x]), pendulum.state)
    action = jnp.array([[0.0], [1.0]])

    def step(state, key):
        obs, state, _, _, truncated, _ = jax.vmap(pendulum.env.step, in_axes=(None, 0, 0, None))(
            key, state, action, pendulum.short
        )
        return state, (obs, truncated)

    _, (obs, truncated) = jax.lax.scan(step, state, jax.random.split(jax.random.key(0), LIMIT + 1))
    assert truncated[:, 0].tolist() == [False, False, True, False]
    for i in range(2):
        alone = pendulum.play(pendulum.short, action[i, 0], LIMIT + 1)
        np.testing.assert_allclose(obs[:, i], [s[0] for s in alone], rtol=1e-4, atol=1e-5)


def test_brax_wrapped_still_restarts_without_resetting_the_simulation(pendulum, monkeypatch):
    resets, reset = [], pendulum.env.brax.reset
    monkeypatch.setattr(pendulum.env.brax, "reset", lambda key: resets.append(key) or reset(key))
    wrapped, key = Wrapper(pendulum.env), jax.random.key(0)
    _, state = jax.eval_shape(wrapped.reset_env, key, pendulum.params)
    assert len(resets) == 1
    jax.eval_shape(wrapped.step, key, state, jnp.zeros(1), pendulum.params)
    assert len(resets) == 1


def test_a_table_is_looked_up_by_name_then_by_family():
    table = {"CartPole-v1": 1, "Classic control": 2}
    assert [envs.look_up(x, table, 3) for x in ("CartPole-v1", "Acrobot-v1", "garnet")] == [1, 2, 3]
    with pytest.raises(ValueError, match="unknown environment 'CartPole'"):
        envs.look_up("CartPole", table, 3)
