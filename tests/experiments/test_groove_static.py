"""The static experiment of GROOVE: which levels the rules of each arm learn on."""

import numpy as np

from purejaxrl.study.regret import Regrets


def levels_of(chosen, arm, rule):
    return chosen.loc[(chosen["arm"] == arm) & (chosen["rule"] == rule), "level"].tolist()


def returns(regret, agent=0.0):
    """Two lives on every level, with this regret on average and these returns of the agent."""
    agent = np.broadcast_to(agent, regret.shape)
    return Regrets(np.stack([agent + 1, agent - 1]), np.stack([agent + regret] * 2))


def test_the_highest_levels_are_dealt_in_turn_and_the_first_ones_in_blocks(experiment):
    found = returns(np.array([0.0, 5.0, 1.0, 4.0, 2.0, 3.0]), agent=np.arange(6.0))
    chosen = experiment.choose(found, experiment.ARMS, num_rules=2, num_chosen=2)
    assert levels_of(chosen, "return", 0) == [5, 3] and levels_of(chosen, "return", 1) == [4, 2]
    assert levels_of(chosen, "regret", 0) == [1, 5] and levels_of(chosen, "regret", 1) == [3, 4]
    assert levels_of(chosen, "random", 0) == [0, 1] and levels_of(chosen, "random", 1) == [2, 3]


def test_more_levels_or_rules_leave_the_random_levels_of_a_rule_as_they_are(experiment):
    regret, arms = np.random.default_rng(0).normal(size=50), ("regret", "random")
    few = experiment.choose(returns(regret[:30]), arms, num_rules=2, num_chosen=4)
    many = experiment.choose(returns(regret), arms, num_rules=3, num_chosen=4)
    for rule in (0, 1):
        assert levels_of(few, "random", rule) == levels_of(many, "random", rule)
