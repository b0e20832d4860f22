"""A2C by hand and on probes: it learns, and keeps termination and truncation apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c
from purejaxrl.algorithm import Task, make_train
from purejaxrl.parts import networks
from tests.algos.chain import GAMMA, Chain
from tests.algos.probes import Params, Probe
from tests.helpers import begin

SMALL = a2c.Config(num_envs=8, num_steps=16, hidden=(16,))
FAST = a2c.Hypers(learning_rate=1e-2)


def train(env, params, updates=250, config=SMALL, hypers=FAST):
    run = jax.jit(make_train(a2c.make(config, env), updates))
    return run(jax.random.key(0), hypers, params)


def test_it_learns_to_act_on_what_it_sees():
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    _, metrics = train(env, Params())
    assert metrics["return"][-5:].mean() > 0.9


def test_a_terminated_episode_is_not_bootstrapped_and_a_truncated_one_is():
    env = Probe(lambda state, action: jnp.float32(1))
    hypers = FAST.replace(gamma=0.5, gae_lambda=0.5)
    critic = networks.readout(env.observation_space(), networks.MLP((16,)), 1)
    seen = jnp.array([[1.0, 1.0], [-1.0, 1.0]])

    run = jax.jit(make_train(a2c.make(SMALL, env), 400))

    def values(params):
        state, _ = run(jax.random.key(0), hypers, params)
        return critic.apply(state.params.critic, seen)[..., 0]

    np.testing.assert_allclose(values(Params(length=1)), 1.0, atol=0.05)
    truncating = Params(length=100, max_steps_in_episode=1)
    np.testing.assert_allclose(values(truncating), 2.0, atol=0.1)


def gradients_by_hand(actor, critic, action):
    """Of actor and critic, in float64, over five steps on the chain.

    The policy's loss is −log π(a|s) A, the value's is half a square, with the weight 0.7, and the
    entropy's bonus has the weight 0.3.
    """
    of_actor, of_critic = np.zeros((3, 2)), np.zeros((3, 1))
    for obs, taken, target in zip([0, 1, 0, 1, 0], action, [6.5, 2, 14, 24, 11], strict=True):
        p = np.exp(actor[obs]) / np.exp(actor[obs]).sum()
        entropy = -(p * np.log(p)).sum()
        advantage = target - critic[obs, 0]
        of_actor[obs] += (advantage * (p - np.eye(2)[taken]) + 0.3 * p * (np.log(p) + entropy)) / 5
        of_critic[obs] += 0.7 * -advantage / 5
    return of_actor, of_critic


def test_an_update_descends_all_three_losses_along_their_clipped_gradient():
    config = a2c.Config(num_envs=1, num_steps=5, optimizer="sgd")
    agent = a2c.make(config, Chain())
    hypers = a2c.Hypers(
        learning_rate=0.5, gamma=GAMMA, gae_lambda=0.5, value_coef=0.7, entropy_coef=0.3
    )
    actor, critic = np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 0.0]]), np.array([[10], [20], [40]])
    tables = a2c.Params(*({"params": {"rows": jnp.float32(x)}} for x in (actor, critic)))
    before = begin(agent, hypers, Task(Chain().default_params, jnp.int32(9)))
    before, experience = jax.jit(agent.collect)(before._replace(params=tables), hypers)
    grads = gradients_by_hand(actor, critic, experience.transitions.action[:, 0])
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    for max_norm, scale in ((jnp.inf, 1.0), (0.1, 0.1 / norm)):
        after, _ = jax.jit(agent.learn)(before, hypers.replace(max_grad_norm=max_norm), experience)
        for found, table, grad in zip(after.params, (actor, critic), grads, strict=True):
            expected = table - 0.5 * scale * grad
            np.testing.assert_allclose(found["params"]["rows"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_tables_learn(optimizer):
    env, level = envs.make("gridworld-small")
    config = a2c.Config(num_envs=16, optimizer=optimizer)
    rate = {"adam": 0.1, "sgd": 10.0}[optimizer]
    hypers = a2c.Hypers(learning_rate=rate, max_grad_norm=jnp.inf)
    _, metrics = train(env, level, 100, config, hypers)
    first, last = jnp.nanmean(metrics["return"][:5]), jnp.nanmean(metrics["return"][-20:])
    assert last > first + 0.5


@pytest.mark.slow
def test_vmapped_over_seeds_equals_looped():
    env, params = envs.make("CartPole-v1")
    run = jax.jit(make_train(a2c.make(SMALL, env), 3))
    keys = jax.random.split(jax.random.key(0), 2)
    together, _ = jax.jit(jax.vmap(run, in_axes=(0, None, None)))(keys, FAST, params)
    alone, _ = run(keys[1], FAST, params)
    for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"), [("num_envs", 0), ("torso", "rnn"), ("hidden", ()), ("optimizer", "lion")]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field}: .* is not valid"):
        a2c.Config(**{field: value})


def test_continuous_actions_are_refused():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(ValueError, match="action_space: .*must be Discrete"):
        a2c.make(SMALL, env)
