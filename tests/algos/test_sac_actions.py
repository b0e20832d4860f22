"""The values that SAC considers, with known critics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.sac_actions import ContinuousActions, DiscreteActions
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import for_network
from tests.algos.probes import Probe

TORSO = networks.MLP((2,), "relu")
OBS = jnp.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]])


def started(kind, continuous):
    env = for_network(Probe(lambda state, action: jnp.float32(0), continuous=continuous))
    actions = kind(TORSO, env)
    params = [part.init(jax.random.key(0), OBS) for part in (actions.actor, actions.critics)]
    return actions, *jax.tree.map(jnp.zeros_like, params)


def with_bias(params, bias):
    """Make the outputs of a network's last layer these, whatever it reads."""
    params["params"]["layers_1"]["bias"] = jnp.asarray(bias)
    return params


@pytest.mark.parametrize("twins", [(1.0, 3.0), (3.0, 1.0)])
def test_a_continuous_action_has_the_lower_value_of_both_critics(twins):
    actions, actor, critic = started(ContinuousActions, continuous=True)
    critic = with_bias(critic, np.array(twins)[:, None])
    considered = actions.consider(actor, critic, OBS, jax.random.key(0))
    np.testing.assert_array_equal(considered.q, np.ones((3, 1)))
    np.testing.assert_array_equal(considered.weight, np.ones((3, 1)))


def test_each_discrete_action_has_the_lower_value_of_both_critics():
    actions, actor, critic = started(DiscreteActions, continuous=False)
    critic = with_bias(critic, [[1.0, 3.0], [4.0, 2.0]])
    actor = with_bias(actor, np.log([0.2, 0.8]))
    considered = actions.consider(actor, critic, OBS, jax.random.key(0))
    np.testing.assert_array_equal(considered.q, np.tile([1.0, 2.0], (3, 1)))
    np.testing.assert_allclose(considered.weight, np.tile([0.2, 0.8], (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(considered.log_prob, np.log(considered.weight), rtol=1e-5)


def test_the_value_and_the_density_of_a_continuous_action_are_those_after_the_tanh():
    """Critics that say a + 1 tell which action was sampled. Its mean is tanh 2."""
    actions, actor, critic = started(ContinuousActions, continuous=True)
    hidden = critic["params"]["layers_0"]["Dense_0"]
    hidden["kernel"] = hidden["kernel"].at[:, -1, 0].set(1.0)  # the action
    hidden["bias"] = hidden["bias"].at[:, 0].set(1.0)
    critic["params"]["layers_1"]["kernel"] = jnp.ones((2, 2, 1))
    actor = with_bias(actor, [2.0, 0.0])
    obs = jnp.tile(OBS[:1], (999, 1))
    considered = actions.consider(actor, critic, obs, jax.random.key(0))
    action = np.float64(considered.q[:, 0]) - 1
    assert np.abs(action).max() < 1
    std = np.exp(-1.5)  # half way between the bounds of log σ, -5 and 2
    u = np.arctanh(action)
    np.testing.assert_allclose([u.mean(), u.std()], [2.0, std], atol=0.03)
    normal = -0.5 * ((u - 2.0) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(
        considered.log_prob[:, 0], normal - np.log(1 - action**2), rtol=1e-2, atol=1e-2
    )
