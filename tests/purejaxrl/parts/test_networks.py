import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from purejaxrl.parts import networks
from purejaxrl.parts.networks import (
    CNN,
    MLP,
    MaskedDiscrete,
    PolicyHead,
    PolicyNetwork,
    ValueNetwork,
    check_torso,
    dense,
    num_actions,
    orthogonal,
)

SHAPES = [(8, 4), (4, 8), (5, 5), (3, 3, 2, 16)]
KEY = jax.random.key(0)


@pytest.mark.parametrize("scale", [1.0, 2**0.5, 0.01])
@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_orthogonal(shape, scale):
    weights = np.asarray(orthogonal(scale)(KEY, shape), np.float64).reshape(-1, shape[-1])
    tall = weights if weights.shape[0] >= weights.shape[1] else weights.T
    np.testing.assert_allclose(tall.T @ tall / scale**2, np.eye(tall.shape[1]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_those_of_flax(shape):
    ours, theirs = orthogonal(2**0.5), nn.initializers.orthogonal(2**0.5)
    np.testing.assert_array_equal(ours(KEY, shape), theirs(KEY, shape))
    assert ours(KEY, shape).dtype == jnp.float32


def test_initialising_vmapped_equals_looped():
    keys = jax.random.split(KEY, 5)
    vmapped = jax.jit(jax.vmap(lambda key: orthogonal(1.0)(key, (6, 3))))(keys)
    for i in range(5):
        np.testing.assert_array_equal(vmapped[i], orthogonal(1.0)(keys[i], (6, 3)))


def test_initialising_under_two_vmaps_equals_looped():
    keys = jax.random.split(KEY, (2, 3))
    vmapped = jax.vmap(jax.vmap(lambda key: orthogonal(1.0)(key, (6, 3))))(keys)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(vmapped[i, j], orthogonal(1.0)(keys[i, j], (6, 3)))


MANY = """
import jax, jax.numpy as jnp
from purejaxrl.parts.networks import MLP, ValueNetwork
critic = ValueNetwork(MLP((64, 64, 32)))
for members in (64, 256):
    keys = jax.random.split(jax.random.key(0), members)
    params = jax.jit(jax.vmap(lambda key: critic.init(key, jnp.zeros(8))))(keys)
    jax.block_until_ready(params)
    print(members, len(jax.tree.leaves(params)), flush=True)
"""


@pytest.mark.slow
def test_many_members_initialise_without_deadlock():
    root = Path(networks.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MANY],
        cwd=root,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["64", "8", "256", "8"]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_torsos_and_critics_keep_leading_axes(batch):
    for network, obs_shape, out_shape in [
        (MLP((8, 6)), (8,), (6,)),
        (CNN((8, 6)), (5, 5, 1), (6,)),
        (ValueNetwork(MLP((8,))), (8,), ()),
        (ValueNetwork(CNN((8,))), (5, 5, 1), ()),
    ]:
        out, _ = jax.eval_shape(network.init_with_output, KEY, jnp.ones((*batch, *obs_shape)))
        assert out.shape == (*batch, *out_shape)


def test_a_layer_starts_with_zero_biases_and_scaled_orthogonal_weights():
    params = dense(3, 2.0).init(KEY, jnp.ones(8))["params"]
    np.testing.assert_array_equal(params["bias"], np.zeros(3))
    np.testing.assert_allclose(params["kernel"].T @ params["kernel"], 4 * np.eye(3), atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_an_mlp_is_the_chain_of_its_layers(activation):
    x = jax.random.normal(KEY, (3, 8))
    out, variables = MLP((8, 4), activation).init_with_output(KEY, x)
    for layer in ("Dense_0", "Dense_1"):
        params = variables["params"][layer]
        x = getattr(jax.nn, activation)(x @ params["kernel"] + params["bias"])
    np.testing.assert_allclose(out, x, rtol=1e-5, atol=1e-6)


def test_a_cnn_reads_every_pixel():
    cnn = CNN((8,))
    image = jnp.zeros((5, 5, 1))
    params = jax.jit(cnn.init)(KEY, image)
    kernel = params["params"]["Conv_0"]["kernel"]
    assert kernel.shape == (3, 3, 1, 16)
    shown = (
        jnp.zeros((25, 5, 5, 1)).at[jnp.arange(25), jnp.arange(25) // 5, jnp.arange(25) % 5].set(1)
    )
    features = jax.jit(cnn.apply)(params, jnp.concatenate([image[None], shown]))
    assert (jnp.abs(features[1:] - features[0]).sum(-1) > 0).all()


def test_a_torso_is_built_by_kind():
    assert networks.build_torso("mlp", (4,), "relu") == MLP((4,), "relu")
    assert networks.build_torso("cnn", (4,), "tanh") == CNN((4,), "tanh")


def test_a_torso_that_suits_the_observations_is_accepted():
    check_torso("mlp", (4,))
    check_torso("cnn", (10, 10, 4))


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (10, 5)), ("mlp", ()), ("cnn", (4,))])
def test_a_torso_that_does_not_suit_the_observations_is_refused(kind, shape):
    with pytest.raises(ValueError) as error:
        check_torso(kind, shape)
    assert f"{kind!r} is not valid for observations of shape {shape}" in str(error.value)


def test_a_discrete_space_gets_a_categorical_policy_near_uniform_at_the_start():
    actor = PolicyNetwork(MLP((8,)), spaces.Discrete(3))
    obs = jax.random.normal(KEY, (2, 5, 8))
    pi, _ = actor.init_with_output(KEY, obs)
    assert pi.logits.shape == (2, 5, 3)
    assert pi.sample(seed=KEY).shape == (2, 5)
    np.testing.assert_allclose(pi.probs, 1 / 3, atol=0.02)
    np.testing.assert_allclose(pi.probs.sum(-1), 1, rtol=1e-5)


def test_illegal_actions_have_no_probability_and_no_gradient():
    actor = PolicyNetwork(MLP((8,)), MaskedDiscrete(3))
    obs = jnp.concatenate([jnp.ones((2, 5)), jnp.array([[1.0, 0, 1], [0, 1, 0]])], axis=1)
    pi, params = actor.init_with_output(KEY, obs)
    assert (pi.probs[0, 1], pi.probs[1, 0], pi.probs[1, 2]) == (0, 0, 0)
    np.testing.assert_allclose(pi.probs.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(pi.entropy(), [np.log(2), 0], atol=1e-3)
    grads = jax.jit(jax.grad(lambda params: actor.apply(params, obs).entropy().sum()))(params)
    bias = grads["params"]["PolicyHead_0"]["Dense_0"]["bias"]
    assert np.isfinite(bias).all() and bias[1] == 0
    with pytest.raises(ValueError, match="MaskedDiscrete.* illegal at times"):
        num_actions(MaskedDiscrete(3))


def gaussian(log_std):
    """A Gaussian policy over two action dimensions with these log-deviations."""
    actor = PolicyNetwork(MLP((8,)), spaces.Box(-1.0, 1.0, (2,)))
    obs = jax.random.normal(KEY, (3, 8))
    params = actor.init(KEY, obs)
    np.testing.assert_array_equal(params["params"]["PolicyHead_0"]["log_std"], np.zeros(2))
    params["params"]["PolicyHead_0"]["log_std"] = jnp.asarray(log_std)
    return actor.apply(params, obs)


def test_the_log_probability_of_a_gaussian_policy_is_the_closed_form():
    std = np.array([0.5, 3.0])
    pi = gaussian(np.log(std))
    mean = np.asarray(pi.mode(), np.float64)
    assert mean.shape == (3, 2)
    action = np.array([[0.3, -2.0], [1.5, 0.0], [-4.0, 5.0]])
    density = -0.5 * ((action - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(pi.log_prob(jnp.asarray(action)), density.sum(-1), rtol=1e-5)


def test_the_entropy_of_a_gaussian_policy_is_the_closed_form():
    std = np.array([0.5, 3.0])
    entropy = (np.log(std) + 0.5 * np.log(2 * np.pi * np.e)).sum()
    np.testing.assert_allclose(gaussian(np.log(std)).entropy(), np.full(3, entropy), rtol=1e-5)


def test_a_gaussian_policy_samples_with_its_own_mean_and_deviation():
    std = np.array([0.5, 3.0])
    pi = gaussian(np.log(std))
    action, log_prob = pi.sample_and_log_prob(seed=KEY, sample_shape=(4000,))
    np.testing.assert_allclose(log_prob, pi.log_prob(action), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(action.std(0), np.broadcast_to(std, (3, 2)), rtol=0.06)
    error = np.abs(action.mean(0) - pi.mode()) / std
    assert error.max() < 5 / 4000**0.5


def test_actor_and_critic_on_one_torso_have_their_own_parameters():
    torso, obs = MLP((8,)), jnp.ones((3, 8))
    actor_key, critic_key = jax.random.split(KEY)
    actor = PolicyNetwork(torso, spaces.Discrete(3)).init(actor_key, obs)["params"]
    critic = ValueNetwork(torso).init(critic_key, obs)["params"]
    assert actor["torso"]["Dense_0"]["kernel"].shape == (8, 8)
    assert not np.array_equal(
        actor["torso"]["Dense_0"]["kernel"], critic["torso"]["Dense_0"]["kernel"]
    )


@pytest.mark.parametrize(
    "space", [spaces.Box(-1.0, 1.0, (2, 2)), spaces.Dict({"a": spaces.Discrete(2)})]
)
def test_an_unsuitable_action_space_is_refused(space):
    with pytest.raises(ValueError, match=r"action_space: .* is not valid; it must be Discrete"):
        PolicyHead(space).init(KEY, jnp.ones(8), jnp.ones(8))


@pytest.mark.parametrize("shape", [(2, 10, 10, 4), (3, 5, 7, 1)])
def test_a_convolution_by_products_is_that_of_xla(shape):
    images = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, shape[-1], 6))
    layout = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(images, kernel, (1, 1), "VALID", None, None, layout)
    found = networks.convolve(images, kernel, (1, 1), "VALID")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
