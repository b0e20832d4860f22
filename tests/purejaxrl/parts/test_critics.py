"""Values by both critics, against the same networks in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.parts import networks
from purejaxrl.parts.critics import ContinuousCritics, DiscreteCritics
from purejaxrl.parts.wrappers import for_network
from tests.algos.chain import Chain
from tests.algos.probes import Probe

OBS = np.array([[1.0, 1.0], [-1.0, 1.0], [0.5, 1.0]], np.float32)


def probe(continuous):
    return for_network(Probe(lambda state, action: jnp.float32(0), continuous=continuous))


def outputs_of(params, inputs):
    """Outputs of two networks with one hidden layer of ReLUs, `[2, n, features]`."""
    p = jax.tree.map(np.float64, params["params"])
    hidden, last = p["layers_0"]["Dense_0"], p["layers_1"]
    before = [inputs @ hidden["kernel"][i] + hidden["bias"][i] for i in range(2)]
    return [np.maximum(x, 0) @ last["kernel"][i] + last["bias"][i] for i, x in enumerate(before)]


def test_each_of_two_critics_values_continuous_actions_with_its_own_parameters():
    critics = ContinuousCritics(probe(True), networks.MLP((4,), "relu"))
    params, action = critics.init(jax.random.key(0), OBS), np.array([[-0.5], [0.0], [0.9]])
    expected = np.stack(outputs_of(params, np.concatenate([OBS, action], -1)))[..., 0]
    assert (np.abs(expected[0] - expected[1]) > 1e-3).all()
    np.testing.assert_allclose(critics.q(params, OBS, action), expected, rtol=1e-4, atol=1e-6)


def test_each_of_two_critics_values_discrete_actions_with_its_own_parameters():
    critics = DiscreteCritics(probe(False), networks.MLP((4,), "relu"))
    params, action = critics.init(jax.random.key(0), OBS), np.array([0, 1, 1])
    expected = np.stack(outputs_of(params, OBS))[:, np.arange(3), action]
    assert (np.abs(expected[0] - expected[1]) > 1e-3).all()
    np.testing.assert_allclose(critics.q(params, OBS, action), expected, rtol=1e-4, atol=1e-6)


def test_two_tables_are_read_at_the_state_and_the_action():
    critics = DiscreteCritics(Chain(), None)
    rows = np.arange(12.0).reshape(2, 3, 2)  # [critic, state, action]
    q = critics.q({"params": {"rows": rows}}, np.array([2, 0, 1]), np.array([1, 0, 1]))
    np.testing.assert_array_equal(q, [[5, 0, 3], [11, 6, 9]])
