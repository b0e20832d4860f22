"""Rules and hand-made baselines enter comparisons with grids of one size."""

import shutil

import numpy as np
import pytest

import envs
from algos import hand_rules
from algos.rules import FOLDER, load_rule
from algos.rules.contenders import (
    HAND_MADE,
    NETWORK_RATES,
    TABLE_RATES,
    baselines,
    check_contender,
    contenders_of,
    grid_of,
    of_rule,
    rules_and_a2c,
)
from purejaxrl.parts.wrappers import for_network
from purejaxrl.study.terms import require_equal_budgets


def make(name):
    return for_network(envs.make(name)[0], tables=True)


@pytest.mark.parametrize(
    ("env_name", "rule", "names"),
    [
        ("gridworld-small", "lpg", ["lpg", "A2C"]),
        ("Catch-bsuite", "ta_lpg", ["ta_lpg", "A2C", "PPO"]),
        ("CartPole-v1", "lpo", ["lpo", "A2C", "PPO"]),
        ("Pendulum-v1", "ta_lpo", ["ta_lpo", "PPO"]),
    ],
)
@pytest.mark.parametrize("tune", ["all", "step-size"])
def test_a_rule_and_the_baselines_that_fit_try_equally_many_combinations(
    env_name, rule, names, tune
):
    env = make(env_name)
    rule = load_rule(rule)
    found = [of_rule(rule, env, tune=tune, num_envs=8, hidden=(8,))]
    found += baselines(env, found[0].algorithm.config, tune)
    assert [one.name for one in found] == names
    require_equal_budgets(found)
    assert {len(one.grid) for one in found} == {2 if tune == "all" else 1}
    for one in found:
        config = one.algorithm.config
        assert (config.num_envs, config.num_steps) == (8, rule.config.num_steps)
        assert (config.hidden, config.activation) == ((8,), rule.config.activation)
    assert found[0].shared == rule.shared and not found[-1].shared


def test_rules_of_one_name_are_one_contender_and_a2c_comes_last():
    rule, env = load_rule("lpg"), make("Catch-bsuite")
    found = rules_and_a2c({"x": [rule, rule], "y": [rule]}, env, rule.config, "all")
    assert [one.name for one in found] == ["x", "x", "y", "A2C"]


def test_step_sizes_are_for_tables_or_for_networks():
    rule = load_rule("lpg")
    table, array = make("gridworld-small"), make("CartPole-v1")
    assert of_rule(rule, table).grid["learning_rate"] == TABLE_RATES
    assert of_rule(rule, array).grid["learning_rate"] == NETWORK_RATES
    assert of_rule(rule, array, rates=(0.5,)).grid["learning_rate"] == (0.5,)
    clipped = [baselines(env, rule.config)[0].hypers.max_grad_norm for env in (table, array)]
    assert clipped == [np.inf, 0.5]


def test_a2c_and_ppo_may_do_without_an_entropy_bonus():
    """A2C at 0.01 is a weaker baseline than A2C at 0 on grid-worlds."""
    env = make("CartPole-v1")
    for one in baselines(env, load_rule("lpg").config):
        assert one.grid["entropy_coef"] == (0.0, 1e-3, 1e-2)


def test_no_contender_anneals_its_step_size():
    env = make("CartPole-v1")
    found = [of_rule(load_rule(name), env) for name in ("lpg", "lpo", "ta_lpo")]
    found += baselines(env, load_rule("lpg").config)
    ends = {one.name: getattr(one.hypers, "final_rate_fraction", None) for one in found}
    assert ends == {"lpg": None, "lpo": 1.0, "ta_lpo": 1.0, "A2C": None, "PPO": 1.0}
    annealed = of_rule(load_rule("lpo"), env, final_rate_fraction=0.0)
    assert annealed.hypers.final_rate_fraction == 0.0


def test_the_second_hyperparameter_is_the_loss_coefficient_that_a_contender_has():
    env = make("CartPole-v1")
    for name, second in (
        ("lpg", "entropy_coef"),
        ("lpo", "entropy_coef"),
        ("disco103", "value_coef"),
    ):
        _, hypers = load_rule(name).agent(env)
        assert list(grid_of(env, hypers, "all")) == ["learning_rate", second]


def test_a_kind_of_rule_can_have_step_sizes_of_its_own():
    env = make("Catch-bsuite")
    assert of_rule(load_rule("disco103"), env).grid["learning_rate"] == (3e-4, 1e-3, 3e-3, 1e-2)
    assert of_rule(load_rule("disco103"), env, rates=(0.1,)).grid["learning_rate"] == (0.1,)


def test_a_rule_that_does_not_fit_an_environment_is_refused():
    with pytest.raises(ValueError, match="action_space: .* must be Discrete"):
        of_rule(load_rule("lpg"), make("Pendulum-v1"))
    with pytest.raises(ValueError, match="observation_space: .* must be a Box"):
        of_rule(load_rule("lpo"), make("gridworld-small"))


def test_contenders_by_name_have_equal_budgets_environments_and_networks():
    env, rates = make("CartPole-v1"), (3e-4, 1e-3, 3e-3, 1e-2)
    names = [*HAND_MADE, "lpg", "ta_lpo", "disco103"]
    found = [contenders_of(x, env, rates=rates, num_envs=8, hidden=(8,)) for x in names]
    assert [[one.name for one in part] for part in found] == [[name] for name in names]
    found = [part[0] for part in found]
    require_equal_budgets(found)
    for one in found:
        assert (one.algorithm.config.num_envs, one.algorithm.config.hidden) == (8, (8,))
    used = {one.name: (one.grid["learning_rate"], one.hypers.learning_rate) for one in found}
    assert {tried for tried, _ in used.values()} == {rates}
    by_name = {one.name: one for one in found}
    assert by_name["evolved"].hypers.rule == hand_rules.EVOLVED
    assert by_name["PPO"].hypers.final_rate_fraction == 1.0  # no contender anneals
    made_of = [one.algorithm.made_of for one in found]
    assert made_of[names.index("REINFORCE")] != made_of[names.index("hand")]


def test_the_rules_of_a_folder_are_contenders_of_one_name(tmp_path):
    for name in ("rule-0.npz", "rule-1.npz"):
        shutil.copy(FOLDER / "lpg.npz", tmp_path / name)
    env = make("CartPole-v1")
    assert [one.name for one in contenders_of(str(tmp_path), env)] == 2 * [tmp_path.stem]
    assert [one.name for one in contenders_of(str(tmp_path / "rule-0.npz"), env)] == ["rule-0"]
    assert [one.name for one in contenders_of(str(tmp_path), env, "mine")] == 2 * ["mine"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("A2D", "unknown contender 'A2D'; did you mean: A2C"),
        ("lpgg", "unknown contender 'lpgg'; did you mean: lpg"),
        ("nowhere.npz", "rule: nowhere.npz does not exist"),
    ],
)
def test_an_unknown_contender_is_named(name, message):
    with pytest.raises(ValueError, match=message):
        check_contender(name)
