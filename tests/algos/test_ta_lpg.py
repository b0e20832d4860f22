"""TA-LPG: what the rule reads about age; otherwise it is LPG."""

import jax
import jax.numpy as jnp
import numpy as np

from algos import lpg, ta_lpg
from algos.rules import load_rule, save_rule
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.algorithm import Task, update
from tests.helpers import assert_equal, init_rule

SIZES = dict(num_envs=4, num_steps=5, num_predictions=3, rule_width=6, rule_embedding=4)
CONFIG = ta_lpg.Config(**SIZES)
ENV = GridWorld(LEVELS["small"].sample)


class Clock:
    """A hand-made rule whose π̂ is one of its inputs."""

    def __init__(self, read):
        self.read = read

    def apply(self, _, x: lpg.RuleInputs) -> lpg.Target:
        return lpg.Target(self.read(x) + 0 * x.reward, jnp.log(x.prediction))


def inputs_over_a_life(read, horizon):
    algorithm = ta_lpg.make(CONFIG, ENV, Clock(read))
    task = Task(ENV.default_params, jnp.int32(horizon))
    state = jax.jit(algorithm.init)(jax.random.key(0), lpg.Hypers(), task)
    step, seen = jax.jit(lambda s: update(algorithm, s, lpg.Hypers())), []
    for _ in range(horizon):
        state, metrics = step(state)
        seen.append(float(metrics["pi_hat_square"]) ** 0.5)
    return seen


def test_the_rule_reads_the_fraction_of_updates_done_and_their_number():
    rule = CONFIG.make_rule()
    age = inputs_over_a_life(lambda x: rule.extra_inputs(x)[0], 5)
    np.testing.assert_allclose(age, [0, 0.2, 0.4, 0.6, 0.8], atol=1e-6)
    log_length = inputs_over_a_life(lambda x: jnp.log(ta_lpg.MIDDLE) + rule.extra_inputs(x)[1], 5)
    np.testing.assert_allclose(log_length, np.log(5), rtol=1e-6)


def inputs(age, horizon):
    key = jax.random.key(0)
    x = jax.random.normal(key, (5, 4))
    y = jax.nn.softmax(jax.random.normal(key, (5, 4, 3)))
    return lpg.RuleInputs(
        x, 0.0 * x, x > 2, jnp.float32(0.99), jax.nn.sigmoid(x), y, y, jnp.float32(age),
        jnp.float32(horizon),
    )  # fmt: skip


def test_its_rule_depends_on_age_and_horizon_and_lpgs_on_neither():
    for config, differs in ((CONFIG, True), (lpg.Config(**SIZES), False)):
        params = init_rule(jax.random.key(1), config)
        apply = jax.jit(config.make_rule().apply)
        start, later, longer = (
            apply(params, inputs(*time)).pi for time in ((0.0, 10), (0.5, 10), (0.0, 99))
        )
        assert bool((start != later).any()) == differs
        assert bool((start != longer).any()) == differs


def test_with_zero_weights_on_those_inputs_it_is_lpg():
    params = init_rule(jax.random.key(1), CONFIG)
    plain = jax.tree.map(jnp.copy, params)
    weights = plain["params"]["inputs"]
    assert weights.shape == (8, 18)
    plain["params"]["inputs"] = weights[:6]
    blind = jax.tree.map(jnp.copy, params)
    blind["params"]["inputs"] = weights.at[6:].set(0)
    a = CONFIG.make_rule().apply(blind, inputs(0.3, 50))
    b = lpg.Config(**SIZES).make_rule().apply(plain, inputs(0.3, 50))
    np.testing.assert_allclose(a.pi, b.pi, rtol=1e-5, atol=1e-6)


def test_a_saved_rule_comes_back_with_its_config(tmp_path):
    params = init_rule(jax.random.key(1), CONFIG)
    save_rule(tmp_path / "rule.npz", CONFIG, params)
    loaded = load_rule(tmp_path / "rule.npz")
    assert loaded.config == CONFIG and type(loaded.config) is ta_lpg.Config
    assert_equal(loaded.params, params)
    x = inputs(0.5, 20)
    assert_equal(loaded.network.apply(loaded.params, x), CONFIG.make_rule().apply(params, x))
