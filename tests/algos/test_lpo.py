"""LPO, DPO and TA-LPO: the properties of a drift, and PPO as a special case."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algos import dpo, lpo, ppo, ta_lpo
from algos.ppo import LossInputs
from algos.rules import load_rule, save_rule
from purejaxrl.algorithm import Task, make_train, update
from tests.helpers import ENV, ENV_PARAMS, begin

SIZES = dict(num_envs=4, num_steps=16, num_epochs=2, num_minibatches=2, hidden=(8,))
FAMILY = {"lpo": lpo, "ta_lpo": ta_lpo}
floats = st.floats(-3, 3, width=32)


def random_drift(algorithm, seed, scale):
    """A drift network with random parameters."""
    config = algorithm.Config(**SIZES, drift_width=16)
    start = lpo.init_drift(jax.random.key(0), config)
    leaves, tree = jax.tree.flatten(start)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    drawn = [scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return config.make_drift(), jax.tree.unflatten(tree, drawn)


@cache
def drift_and_slope(name):
    """A drift at log-ratio x, and its derivative there."""
    network = FAMILY[name].Config(**SIZES, drift_width=16).make_drift()

    def drift(x, params, a, age):
        return network.apply(params, LossInputs(x, a, age))

    return jax.jit(lambda params, x, a, age: jax.value_and_grad(drift)(x, params, a, age))


@pytest.mark.parametrize("name", FAMILY)
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    scale=st.floats(0.1, 30),
    x=floats,
    a=floats,
    age=st.floats(0, 1),
)
def test_every_network_is_a_drift(name, seed, scale, x, a, age):
    """A drift is never negative; its value and gradient are 0 at the old policy."""
    _, params = random_drift(FAMILY[name], seed, scale)
    drift = drift_and_slope(name)
    assert drift(params, x, a, age)[0] >= 0
    value, slope = drift(params, 0.0, a, age)
    assert value == 0 and slope == 0


def test_a_drift_reads_the_inputs_of_the_paper():
    """log r, (log r)², 1 - r, (1 - r)², and each times A."""
    found = lpo.features(jnp.log(1.5), jnp.float32(2.0))
    expected = [0.4054651, 0.1644020, -0.5, 0.25, 0.8109302, 0.3288039, -1.0, 0.5]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_a_random_drift_equals_its_formula(name):
    network, params = random_drift(FAMILY[name], 5, 1.0)
    rng, age = np.random.default_rng(0), 0.3
    log_ratio, a = rng.normal(size=(2, 200)).astype(np.float32)
    found = network.apply(params, LossInputs(log_ratio, a, age))

    first, second = (np.float64(params["params"][f"Dense_{i}"]["kernel"]) for i in (0, 1))
    r, log_r, a = np.exp(np.float64(log_ratio)), np.float64(log_ratio), np.float64(a)
    x = np.stack([log_r, log_r**2, 1 - r, (1 - r) ** 2], axis=1)
    x = np.concatenate([x, x * a[:, None]], axis=1)
    if name == "ta_lpo":
        x = np.concatenate([x, age * x], axis=1)
    learned = (np.tanh(x @ first) @ second)[:, 0]
    clipped = np.maximum((r - np.clip(r, 0.8, 1.2)) * a, 0)
    expected = np.maximum(clipped + learned - 1e-4, 0)
    assert 50 < (expected > 0).sum() < 200
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


dpos_drift_and_slope = jax.jit(jax.value_and_grad(lambda x, a: dpo.drift(x, a, 2.0, 0.6)))


@settings(max_examples=200, deadline=None)
@given(x=floats, a=floats)
def test_dpos_drift_is_a_drift_and_equals_its_closed_form(x, a):
    found, _ = dpos_drift_and_slope(x, a)
    gain, loss = (np.exp(x) - 1) * a, x * a
    expected = gain - 2 * np.tanh(gain / 2) if a >= 0 else loss - 0.6 * np.tanh(loss / 0.6)
    np.testing.assert_allclose(found, max(expected, 0.0), rtol=1e-3, atol=1e-5)
    value, slope = dpos_drift_and_slope(0.0, a)
    assert found >= 0 and value == 0 and slope == 0


def test_dpos_loss_is_the_objective_of_mirror_learning():
    rng = np.random.default_rng(0)
    log_ratio, advantage = (jnp.float32(rng.normal(size=50)) for _ in range(2))
    found = dpo.policy_loss(LossInputs(log_ratio, advantage, 0.0), dpo.Hypers())
    penalty = dpo.drift(log_ratio, advantage, 2.0, 0.6)
    np.testing.assert_allclose(found, -(jnp.exp(log_ratio) * advantage - penalty), rtol=1e-6)


def test_with_ppos_clip_for_a_drift_lpo_is_ppo_step_for_step():
    hypers = lpo.Hypers(learning_rate=1e-2)
    clip = lambda _, x: lpo.clipping(x.log_ratio, x.advantage, 0.2)  # noqa: E731
    ours = make_train(lpo.make(lpo.Config(**SIZES), ENV, clip), 5)
    plain = make_train(ppo.make(ppo.Config(**SIZES), ENV), 5)
    key = jax.random.key(0)
    a, _ = jax.jit(ours)(key, hypers, ENV_PARAMS)
    b, _ = jax.jit(plain)(key, ppo.Hypers(learning_rate=1e-2), ENV_PARAMS)
    for x, y in zip(*map(jax.tree.leaves, (a.params, b.params)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip", [0.1, 0.2, np.inf])
@pytest.mark.parametrize("name", FAMILY)
def test_an_untrained_drift_clips_as_ppo_does_up_to_the_margin(name, clip):
    config = FAMILY[name].Config(**SIZES, drift_width=16, drift_clip=clip)
    network, params = config.make_drift(), lpo.init_drift(jax.random.key(0), config)
    log_ratio = jnp.linspace(-1, 1, 41)
    for advantage in (-1.5, 0.5):
        a = jnp.full(41, advantage)
        found = network.apply(params, LossInputs(log_ratio, a, 0.5))
        expected = lpo.clipping(log_ratio, a, clip)
        assert clip < np.inf or not expected.any()
        np.testing.assert_allclose(found, jnp.maximum(expected - lpo.MARGIN, 0), atol=1e-6)


def test_only_the_drift_of_ta_lpo_depends_on_age():
    x, a = jnp.linspace(-1, 1, 11), jnp.full(11, 0.7)
    for name, differs in (("lpo", False), ("ta_lpo", True)):
        network, params = random_drift(FAMILY[name], 3, 1.0)
        early, late = (network.apply(params, LossInputs(x, a, age)) for age in (0.0, 0.9))
        assert bool((early != late).any()) == differs


def test_at_age_0_ta_lpo_reads_what_lpo_reads():
    x = lpo.features(jnp.linspace(-1, 1, 11), jnp.ones(11))
    network = ta_lpo.Drift(4, 0.2)
    np.testing.assert_array_equal(network.extra_inputs(x, 0.0), 0)
    np.testing.assert_array_equal(network.extra_inputs(x, 0.25), 0.25 * x)


def test_the_age_is_the_fraction_of_updates_done_and_at_most_1():
    seen = []

    def drift(_, x):
        return x.age + 0 * x.log_ratio  # a loss that is the age, less the objective

    algorithm = lpo.make(lpo.Config(**SIZES), ENV, drift)
    state = begin(algorithm, lpo.Hypers(), Task(ENV_PARAMS, jnp.int32(4)))
    step = jax.jit(lambda state, hypers: update(algorithm, state, hypers))
    zero = lpo.Hypers(learning_rate=0.0)  # the objective stays that of the old policy: 0 on average
    for _ in range(6):
        state, metrics = step(state, zero)
        seen.append(float(metrics["policy_loss"]))
    np.testing.assert_allclose(seen, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILY)
def test_vmapped_over_drifts_equals_looped(name):
    algorithm = FAMILY[name]
    train = make_train(algorithm.make(algorithm.Config(**SIZES, drift_width=16), ENV), 3)
    drifts = [random_drift(algorithm, seed, 1.0)[1] for seed in range(2)]
    stacked = lpo.Hypers(drift=jax.tree.map(lambda *x: jnp.stack(x), *drifts))
    axes = lpo.Hypers(**{f: None for f in lpo.Hypers.__dataclass_fields__} | {"drift": 0})
    key = jax.random.key(5)
    together, _ = jax.jit(jax.vmap(train, in_axes=(None, axes, None)))(key, stacked, ENV_PARAMS)
    alone, _ = jax.jit(train)(key, lpo.Hypers(drift=drifts[1]), ENV_PARAMS)
    for x, y in zip(*map(jax.tree.leaves, (together.params, alone.params)), strict=True):
        np.testing.assert_allclose(x[1], y, rtol=1e-4, atol=1e-6)


def test_dpos_first_step_equals_ppos():
    """At the old policy both have the same gradient."""
    sizes = SIZES | {"num_epochs": 1, "num_minibatches": 1}
    a, _ = make_train(dpo.make(ppo.Config(**sizes), ENV), 1)(
        jax.random.key(0), dpo.Hypers(), ENV_PARAMS
    )
    b, _ = make_train(ppo.make(ppo.Config(**sizes), ENV), 1)(
        jax.random.key(0), ppo.Hypers(), ENV_PARAMS
    )
    for x, y in zip(*map(jax.tree.leaves, (a.params, b.params)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FAMILY)
def test_a_saved_drift_is_loaded_unchanged(name, tmp_path):
    config = FAMILY[name].Config(**SIZES, drift_width=16, drift_clip=np.inf)
    _, params = random_drift(FAMILY[name], 7, 1.0)
    save_rule(tmp_path / "drift.npz", config, params)
    loaded = load_rule(tmp_path / "drift.npz")
    assert loaded.config == config
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_a_clip_range_of_0_is_refused():
    with pytest.raises(ValueError, match=r"Config\.drift_clip: 0\.0 is not valid"):
        lpo.Config(drift_clip=0.0)


@pytest.mark.parametrize("drift", [None, lpo.Config(**SIZES, drift_width=8)])
def test_a_drift_that_is_not_the_configs_is_refused(drift):
    params = drift and lpo.init_drift(jax.random.key(0), drift)
    algorithm = lpo.make(lpo.Config(**SIZES, drift_width=16), ENV)
    with pytest.raises(ValueError, match=r"Hypers\.drift: .* is not valid; it must"):
        algorithm.init(jax.random.key(0), lpo.Hypers(drift=params), Task(ENV_PARAMS, 4))
