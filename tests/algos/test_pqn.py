"""PQN's targets by hand, probes, and its properties as a pure function."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import pqn
from purejaxrl.algorithm import Task, make_train
from purejaxrl.parts import networks
from tests.algos.chain import GAMMA, ONE_STEP, Chain, Q
from tests.algos.probes import Params, Probe, assert_bootstraps_only_where_truncated, pay_one
from tests.helpers import assert_members_differ_and_are_as_alone

SMALL = pqn.Config(num_envs=8, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(16,))
FAST = pqn.Hypers(learning_rate=5e-3, epsilon_end=0.05, exploration=0.5, reward_scale=1.0)


def begun(agent, hypers):
    """The state of an agent on the chain, at the beginning."""
    task = Task(Chain().default_params, jnp.int32(9))
    return jax.jit(agent.init)(jax.random.key(0), hypers, task)


@pytest.mark.parametrize(
    ("q_lambda", "expected"),
    [
        pytest.param(0.0, [*ONE_STEP, 11.0], marks=pytest.mark.slow),
        (0.5, [6.5, 2.0, 14.0, 24.0, 11.0]),  # 1 + γ (20 + 2) / 2; 2; 3 + γ (20 + 24) / 2; …
        pytest.param(1.0, [2.0, 2.0, 15.0, 24.0, 11.0], marks=pytest.mark.slow),
    ],
)
def test_targets_on_a_chain_with_a_terminal_and_a_truncated_step(q_lambda, expected):
    """Of five steps; a target that is carried a step too far, or over a reset, is another one."""
    config = dataclasses.replace(SMALL, num_envs=1, num_steps=5, num_minibatches=1)
    agent = pqn.make(config, Chain())
    hypers = pqn.Hypers(gamma=GAMMA, q_lambda=q_lambda, reward_scale=1.0)
    state = begun(agent, hypers)._replace(params={"params": {"rows": Q}})
    state, experience = jax.jit(agent.collect)(state, hypers)
    seen, last_value = experience.transitions, Q[state.interaction.obs].max(-1)
    found = pqn.q_lambda(seen, last_value, hypers)[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_rewards_are_scaled_for_the_targets_alone():
    agent = pqn.make(dataclasses.replace(SMALL, num_envs=1), Chain())
    hypers = pqn.Hypers(gamma=0.0, reward_scale=0.1)
    _, experience = jax.jit(agent.collect)(begun(agent, hypers), hypers)
    found = pqn.q_lambda(experience.transitions, jnp.zeros(1), hypers)[:, 0]
    np.testing.assert_allclose(found, np.tile([0.1, 0.2, 0.3, 0.4], 2), rtol=1e-6)
    assert experience.episodes["return"] == 5  # 1 + 2, 3 + 4


def test_gradients_are_clipped_by_their_norm():
    """RAdam's first step is along the gradient."""
    radam = pqn.optimizer(pqn.Hypers(learning_rate=0.1, max_grad_norm=1.0), jnp.float32(0))
    grads = {"x": jnp.float32(6), "y": jnp.float32(8)}
    update, _ = radam.update(grads, radam.init(grads))
    np.testing.assert_allclose([update["x"], update["y"]], [-0.06, -0.08], rtol=1e-5)


def train(env, params, updates=60, config=SMALL, hypers=FAST):
    run = jax.jit(make_train(pqn.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


def test_it_learns_to_act_on_what_it_sees():
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    _, metrics = train(env, Params())
    assert metrics["return"][-10:].mean() > 0.85  # ε is 0.05


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    hypers = FAST.replace(gamma=0.5, q_lambda=0.5)
    assert_bootstraps_only_where_truncated(pqn.make(SMALL, Probe(pay_one)), hypers, 150)


def test_layers_are_normalised_over_all_of_an_image():
    images = 5.0 + jax.random.normal(jax.random.key(0), (3, 10, 10, 4))
    torso = networks.CNN((8,), layer_norm=True)
    params = jax.jit(torso.init)(jax.random.key(1), images)
    apply = jax.jit(torso.apply)
    assert params["params"]["LayerNorm_0"]["scale"].shape == (8 * 8 * 16,)
    np.testing.assert_allclose(apply(params, images), apply(params, 100 * images), atol=1e-4)


@pytest.mark.slow
def test_members_of_different_seeds_differ_and_equal_themselves_alone():
    env, params = envs.make("CartPole-v1")
    kept = lambda state: (state.params, state.interaction.obs)  # noqa: E731
    assert_members_differ_and_are_as_alone(pqn.make(SMALL, env), FAST, params, kept)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"action_space: .*Discrete"):
        pqn.make(SMALL, envs.make("Pendulum-v1")[0])
    with pytest.raises(ValueError, match="num_minibatches: 5 is not valid; .*divisor"):
        dataclasses.replace(SMALL, num_minibatches=5)
    env, params = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"Hypers\.epsilon_end: 1\.5 is not valid"):
        make_train(pqn.make(SMALL, env), 1)(jax.random.key(0), pqn.Hypers(epsilon_end=1.5), params)
