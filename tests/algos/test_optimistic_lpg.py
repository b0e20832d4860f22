"""Optimistic LPG: LPG's rule on rewards minus the cost of a step, which is a parameter."""

import jax
import jax.numpy as jnp
import numpy as np

from algos import lpg, optimistic_lpg
from algos.lpg_rule import RuleInputs, charge_steps
from tests.helpers import init_rule

SIZES = dict(num_predictions=3, rule_width=6, rule_embedding=4)
CONFIG = optimistic_lpg.Config(**SIZES)
GAMMA, COST = 0.9, 0.5


def inputs():
    """Three steps in two environments: the first one's episode ends, the second one's is cut."""
    end = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    cut = jnp.array([[0, 0], [0, 1], [0, 0]], bool)
    reward = jax.random.normal(jax.random.key(0), end.shape)
    y = jax.nn.softmax(jax.random.normal(jax.random.key(1), (*end.shape, 3)))
    after = y * (1 - end)[..., None]
    return RuleInputs(reward, end, cut | (end > 0), jnp.float32(GAMMA), 0.3 + 0 * end, y, after)


def rule():
    params = init_rule(jax.random.key(1), CONFIG)["params"]
    return params | {"log_step_cost": jnp.log(COST)}


def test_a_step_costs_once_and_the_end_of_an_episode_costs_all_steps_that_would_follow():
    x = inputs()
    paid = x.reward - charge_steps(x, jnp.float32(COST)).reward
    forever = COST * sum(GAMMA**t for t in range(1000))
    np.testing.assert_allclose(paid, [[COST, COST], [forever, COST], [COST, COST]], rtol=1e-4)


def test_it_is_lpgs_rule_on_rewards_minus_the_cost():
    params = rule()
    network = {name: value for name, value in params.items() if name != "log_step_cost"}
    found = CONFIG.make_rule().apply({"params": params}, inputs())
    charged = charge_steps(inputs(), jnp.float32(COST))
    expected = lpg.Config(**SIZES).make_rule().apply({"params": network}, charged)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, expected)
    free = lpg.Config(**SIZES).make_rule().apply({"params": network}, inputs())
    assert abs(found.pi - free.pi).min() > 1e-4


def test_the_cost_can_be_learned():
    grads = jax.grad(lambda p: CONFIG.make_rule().apply({"params": p}, inputs()).pi.sum())(rule())
    assert abs(grads["log_step_cost"]) > 1e-3
