"""Agents learn by every shipped rule, and a setting that does not fit it is named."""

import jax
import numpy as np
import pytest

import envs
from algos import disco, lpg, lpo, optimistic_lpg, residual_lpg, ta_lpg, ta_lpo
from algos.rules import FOLDER, load_rule, save_rule
from purejaxrl.algorithm import make_train
from purejaxrl.parts.wrappers import for_network
from tests.helpers import mostly_slow

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.npz"))
QUICK = {"xla_backend_optimization_level": 0}  # compiling is all that these tests spend time on
SMALL = dict(num_envs=2, num_steps=4, hidden=(4,))  # settings of agents, quick to compile
ONE_STEP = {  # of gradient descent, for each kind of rule
    lpg: dict(optimizer="sgd"),
    optimistic_lpg: dict(optimizer="sgd"),
    ta_lpg: dict(optimizer="sgd"),
    lpo: dict(num_minibatches=1, num_epochs=1),
    ta_lpo: dict(num_minibatches=1, num_epochs=1),
    disco: dict(num_trajectories=2, replay_capacity=2, head_width=4, num_bins=3),
}


@pytest.mark.parametrize(
    "env_name", mostly_slow(["Catch-bsuite", "gridworld-small"], {"Catch-bsuite"})
)
@pytest.mark.parametrize("name", mostly_slow(SHIPPED, {"lpg", "lpo"}))
def test_agents_learn_by_every_shipped_rule(name, env_name):
    """On arrays and on a table, which a network reads as a vector."""
    rule = load_rule(name)
    env, level = envs.make(env_name)
    env = for_network(env, tables=rule.shared == ("rule",))
    settings = SMALL | ONE_STEP[rule.kind.algorithm]
    algorithm, hypers = rule.agent(env, **settings, learning_rate=0.25)
    assert (algorithm.config.num_envs, algorithm.config.hidden) == (2, (4,))
    assert hypers.learning_rate == 0.25
    assert getattr(hypers, *rule.shared) is rule.params
    train = jax.jit(make_train(algorithm, 1), compiler_options=QUICK)
    learned, _ = train(jax.random.key(0), hypers, level)
    same, _ = train(jax.random.key(0), hypers.replace(learning_rate=0.0), level)
    pairs = zip(jax.tree.leaves(same.params), jax.tree.leaves(learned.params), strict=True)
    assert any((a != b).any() for a, b in pairs)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(learned.params))


def test_an_agent_has_the_settings_of_the_rules_config_by_default():
    algorithm, hypers = load_rule("ta_lpg").agent(envs.make("gridworld-small")[0])
    assert algorithm.config == load_rule("ta_lpg").config
    assert hypers.learning_rate == lpg.Hypers().learning_rate


def test_agents_with_a_table_make_one_pass_by_lpg_and_as_configured_by_rules_evolved_so(tmp_path):
    env, _ = envs.make("gridworld-small")
    config = residual_lpg.Config(num_epochs=3)
    save_rule(tmp_path / "r.npz", config, residual_lpg.init_rule(jax.random.key(0), config))
    assert load_rule("lpg").agent(env)[0].config.num_epochs == 1
    assert load_rule("lpg").agent(env, num_epochs=2)[0].config.num_epochs == 2
    assert load_rule("lpg").config.num_epochs > 1
    assert load_rule(tmp_path / "r.npz").agent(env)[0].config.num_epochs == 3


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "lpg",
            dict(num_env=3),
            r"unknown setting of an agent of rule 'lpg' 'num_env'; .* num_envs",
        ),
        ("lpg", dict(rule=None), r"unknown setting of an agent of rule 'lpg' 'rule'"),
        ("lpg", dict(vf_coef=0.1), r"unknown setting of an agent of rule 'lpg' 'vf_coef'"),
        ("lpg", dict(num_envs=0), r"Config.num_envs: 0 is not valid"),
        ("lpg", dict(learning_rate=-1.0), r"Hypers.learning_rate: -1.0 is not valid"),
        (
            "lpg",
            dict(rule_width=8),
            r"rule_width: 8 is not valid; .* with 48, which decides",
        ),
        ("ta_lpo", dict(drift_clip=0.2), r"drift_clip: 0.2 is not valid; .* 'ta_lpo' .* inf"),
        ("lpo", dict(num_envs=16), r"observation_space: Dict\(row, time\) is not valid"),
    ],
)
def test_a_setting_that_does_not_fit_the_rule_is_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load_rule(name).agent(envs.make("gridworld-small")[0], **settings)


def test_settings_are_valid_together():
    """Five minibatches divide a rollout of 5 × 8 steps, but not the rule's own of 16 × 64."""
    settings = dict(num_envs=5, num_steps=8, num_minibatches=5)
    algorithm, _ = load_rule("lpo").agent(for_network(envs.make("Catch-bsuite")[0]), **settings)
    assert algorithm.config.num_minibatches == 5


def test_a_setting_of_the_network_may_be_repeated():
    algorithm, _ = load_rule("lpg").agent(envs.make("gridworld-small")[0], rule_width=48)
    assert algorithm.config.rule_width == 48


@pytest.mark.parametrize(
    ("name", "settings", "passes"),
    [("gridworld-small", {}, 1), ("gridworld-small", {"num_epochs": 3}, 3), ("CartPole-v1", {}, 4)],
)
def test_agents_with_a_table_make_one_pass(name, settings, passes):
    algorithm, _ = load_rule("lpg").agent(envs.make(name)[0], **settings)
    assert algorithm.config.num_epochs == passes
