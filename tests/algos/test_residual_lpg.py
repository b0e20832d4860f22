"""Residual LPG: it starts as a hand-made rule, and its four corrections do what they are named."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import hand_rules, residual_lpg, ta_residual_lpg
from algos.hand_rules import ActorCritic, Unbounded
from algos.lpg_rule import RuleInputs

HAND = ActorCritic()
STARTS = {  # values at a bound are moved inside of it
    module: Unbounded.of(module.Rule.start).settings() for module in (residual_lpg, ta_residual_lpg)
}
START = STARTS[residual_lpg]
GAIN, OFFSET, SHIFT, WIDTH = range(4)


def inputs(age=0.3):
    draw = np.random.default_rng(0)
    shape, bins = (12, 5), 16
    array = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    terminated = draw.random(shape) < 0.1
    y, after = draw.dirichlet(np.full(bins, 0.3), (2, *shape))
    return RuleInputs(
        reward=array(draw.normal(size=shape)),
        terminated=array(terminated),
        done=jnp.asarray(terminated | (draw.random(shape) < 0.1)),
        gamma=jnp.float32(0.98),
        prob=array(draw.uniform(0.05, 1, shape)),
        prediction=array(y),
        next_prediction=array(after * ~terminated[..., None]),
        age=jnp.float32(age),
        horizon=jnp.float32(100),
    )


@cache
def untrained(module):
    """A compiled rule, and its parameters."""
    config = module.Config()
    draw = jax.jit(module.init_rule, static_argnums=1)
    return jax.jit(config.make_rule().apply), draw(jax.random.key(0), config)


def corrected(params, **corrections):
    """Set what the last layer always outputs."""
    bias = [corrections.get(name, 0.0) for name in ("gain", "offset", "shift", "width")]
    dense = params["params"]["Dense_0"] | {"bias": jnp.array(bias)}
    return {"params": params["params"] | {"Dense_0": dense}}


@pytest.mark.parametrize("module", STARTS)
def test_an_untrained_rule_is_the_hand_made_one(module):
    rule, params = untrained(module)
    x = inputs()
    expected = jax.jit(HAND.apply)(STARTS[module], x)
    for a, b in zip(rule(params, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_corrections_are_those_of_the_formula():
    rule, params = untrained(residual_lpg)
    x = inputs()
    before = jax.jit(HAND.apply)(START, x)
    after = rule(corrected(params, gain=0.5, offset=-0.2), x)
    np.testing.assert_allclose(after.pi, 1.5 * before.pi - 0.2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.log_y, before.log_y, rtol=1e-4, atol=1e-4)

    after = rule(corrected(params, shift=0.3, width=0.4), x)
    advantage, value = HAND.estimate(START, x)
    z, center = HAND.values(16), hand_rules.symlog(advantage + value) + 0.3
    width = START.target_width * np.exp(0.4) * (z[1] - z[0])
    density = np.exp(-0.5 * ((z - center[..., None]) / width) ** 2)
    expected = density / density.sum(-1, keepdims=True)
    np.testing.assert_allclose(np.exp(after.log_y), expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(after.pi, before.pi, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", STARTS)
def test_other_settings_make_it_the_hand_made_rule_of_these(module):
    rule, params = untrained(module)
    settings = hand_rules.TEACHER.replace(entropy_decay=0.5, scale_power=0.3)
    changed = residual_lpg.with_settings(params, Unbounded.of(settings))
    x = inputs()
    read = x if module is ta_residual_lpg else x._replace(age=jnp.float32(0))
    expected = jax.jit(HAND.apply)(settings, read)
    for a, b in zip(rule(changed, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert residual_lpg.settings_of(changed) == Unbounded.of(settings)


@pytest.mark.parametrize(("module", "reads"), [(residual_lpg, False), (ta_residual_lpg, True)])
def test_only_the_temporally_aware_rule_reads_age(module, reads):
    rule, params = untrained(module)
    noise = lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape)  # noqa: E731
    params = jax.tree.map(noise, params)
    young, old = (rule(params, inputs(age)).pi for age in (0.1, 0.9))
    assert (young != old).any() == reads


def test_every_parameter_has_a_gradient_once_the_last_layer_is_not_zero():
    rule, params = untrained(ta_residual_lpg)
    noise = lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape)  # noqa: E731

    def loss(params):
        target = rule(params, inputs())
        return (target.pi**2).mean() + (jnp.exp(target.log_y) ** 2).sum(-1).mean()

    grads = jax.jit(jax.grad(loss))(jax.tree.map(noise, params))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and (grad != 0).any(), path


@pytest.mark.parametrize("settings", [*STARTS.values(), hand_rules.Settings()])
def test_unbounded_numbers_give_the_settings_back(settings):
    found = Unbounded.of(settings).settings()
    for name, value in vars(settings).items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-3, atol=1.1e-3)
