"""The static experiment of GROOVE: which levels the rules of each arm learn on."""

import jax
import numpy as np
import pytest

from algos import lpg
from algos.rules import FOLDER, load_rule
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.identity import part_name
from purejaxrl.study import regret
from purejaxrl.study.regret import Regrets
from purejaxrl.ued.curriculum import fixed


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


@pytest.fixture
def settings(experiment, tmp_path):
    return experiment.Settings(
        levels="sparse", num_levels=10, num_replicates=2, num_chosen=3, rules=2,
        agent=lpg.Config(num_envs=3, num_steps=7, rule_width=4), out=tmp_path,
    )  # fmt: skip


def randomness(keys, count):
    """The content of keys, and of those that a life may split them into."""
    split = jax.vmap(lambda key: jax.random.split(key, count))(keys.ravel())
    found = np.concatenate([jax.random.key_data(x).reshape(-1, 2) for x in (keys, split)])
    return set(map(tuple, found.tolist()))


def test_the_lives_that_choose_levels_are_not_those_that_measure_them_again(
    experiment, settings, monkeypatch
):
    """Else the luck by which a level was chosen would be in its regret once more."""
    measured, rng = [], np.random.default_rng(0)

    def measure(agent, antagonist, *, levels, keys, **_):
        measured.append((agent, antagonist, levels, keys))
        return Regrets(*rng.normal(size=(2, *keys.shape)))

    monkeypatch.setattr(regret, "measure", measure)
    monkeypatch.setattr(experiment, "draw_levels", lambda *_: None)
    monkeypatch.setattr(experiment, "optimal_returns", lambda *_: 1.0)
    levels, chosen = experiment.measure_regrets(settings, load_rule("lpg"))
    (*_, every, keys), (*_, ours, other_keys) = measured
    assert keys.shape == (2, 10) and other_keys.shape == (2, len(chosen))
    assert randomness(keys, 10).isdisjoint(randomness(other_keys, 10))
    jax.tree.map(np.testing.assert_array_equal, every, levels)
    expected = regret.at(levels, chosen["level"].to_numpy())
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    for agent, antagonist, *_ in measured:
        for one in agent, antagonist:
            assert (one.algorithm.config.num_envs, one.algorithm.config.num_steps) == (3, 7)
        assert agent.hypers.learning_rate == antagonist.hypers.learning_rate


def test_every_rule_learns_on_its_own_levels_and_from_its_own_seed(
    experiment, settings, monkeypatch
):
    learned = []

    def learn_rules(learner, *_, num_rules, out, first_seed=0, **__):
        learned.append((out.name, num_rules, first_seed, learner.made_of))
        return [FOLDER / "lpg.npz"]

    monkeypatch.setattr(experiment, "learn_rules", learn_rules)
    sample = GridWorld(LEVELS["sparse"].sample).sample_level
    levels = jax.vmap(sample)(jax.random.split(jax.random.key(0), 10))
    found = returns(np.random.default_rng(0).normal(size=10))
    chosen = experiment.choose(found, settings.arms, num_rules=2, num_chosen=3)
    for arm in settings.arms:
        assert len(experiment.learn_arm(settings, arm, levels, chosen)) == 2
    names = [(arm, rule) for arm in settings.arms for rule in range(2)]
    assert [x[:3] for x in learned] == [(arm, 1, rule) for arm, rule in names]
    for (arm, rule), (*_, made_of) in zip(names, learned, strict=True):
        own = regret.at(levels, np.array(levels_of(chosen, arm, rule)))
        assert part_name(fixed(own)) in made_of
    assert len({made_of for *_, made_of in learned}) == 4
