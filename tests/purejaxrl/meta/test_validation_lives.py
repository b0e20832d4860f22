"""Validation against a reference: whole lives in pairs, whose winners are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.meta import evolution
from purejaxrl.meta.validation import against
from purejaxrl.meta.worlds import World
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.ued.curriculum import replay, uniform
from purejaxrl.ued.scores import algorithmic_regret, learnability
from tests.purejaxrl.meta.hand_made import CONFIG, ENV, GOAL, by_hand, level, lifetime

ZERO = jnp.zeros(3)
LIVES = evolution.Config(num_pairs=16, group=4, num_episodes=1)


def near_the_goal(theta, task, age):
    return -((theta - GOAL) ** 2).sum()


def first_is_best(theta, task, age):
    """What θ's first number says, on long lives only."""
    return jnp.where(task.horizon > 10, theta[0], 0.0)


def sometimes_nan(theta, task, age):
    return jnp.where(theta[0] > 5, jnp.nan, 1.0)


def world(worth, name="one"):
    return World(name, by_hand(worth), ENV, uniform(level), lifetime)


def insert(theta, hypers):
    return theta


def evaluate(theta, worlds, reference=ZERO):
    evaluator = against(reference, LIVES, worlds, insert, evolution.Hypers())
    return jax.jit(lambda theta: evaluator.play(None, jax.random.key(0), theta, ()))(theta)


def test_the_reference_itself_scores_one_half():
    assert evaluate(ZERO, world(near_the_goal))["return"] == 0.5


def test_a_better_theta_wins_every_life_and_a_worse_one_none():
    assert evaluate(GOAL, world(near_the_goal))["return"] == 1
    assert evaluate(-GOAL, world(near_the_goal))["return"] == 0


def test_a_world_that_cannot_be_validated_is_refused_when_it_is_composed():
    """Its curriculum reads what antagonists earn, and there are none."""
    curriculum = replay(level, algorithmic_regret)
    of_regret = world(near_the_goal)._replace(curriculum=curriculum)
    with pytest.raises(ValueError, match="antagonist_returns, which a validation does not provide"):
        against(ZERO, LIVES, of_regret, insert, evolution.Hypers())
    of_returns = of_regret._replace(curriculum=replay(level, learnability))
    with pytest.raises(ValueError, match="curriculum: None is not valid"):
        against(ZERO, LIVES, of_returns, insert, evolution.Hypers())


def test_ties_count_one_half():
    score = float(evaluate(ZERO.at[0].set(1.0), world(first_is_best))["return"])
    wins = 2 * (score - 0.5) * LIVES.num_pairs  # lives longer than 10 updates
    assert 0 < wins < LIVES.num_pairs and wins == pytest.approx(round(wins))


def test_the_lives_are_the_same_at_every_evaluation():
    one = against(ZERO, LIVES, world(first_is_best), insert, evolution.Hypers())
    a, b = (one.play(None, jax.random.key(i), ZERO.at[0].set(1.0), ()) for i in (0, 1))
    assert a["return"] == b["return"]


def test_a_theta_whose_agents_diverge_loses():
    assert evaluate(ZERO.at[0].set(9.0), world(sometimes_nan))["return"] == 0


def test_lives_that_cannot_be_divided_among_devices_are_evaluated_by_each(tmp_path):
    here, lives = world(near_the_goal), evolution.Config(num_pairs=3, group=2, num_episodes=1)
    learner = evolution.make(CONFIG, here, init_theta=lambda key: GOAL, insert=insert)
    hypers = evolution.Hypers(learning_rate=0.0)
    evaluator, found = against(ZERO, lives, here, insert, hypers), []
    for n in (1, 2):
        options = RunOptions(str(tmp_path / str(n)), eval_every=1)
        who, devices = populate(seeds(1), hypers, ()), jax.devices()[:n]
        found.append(run(learner, who, 1, options, devices=devices, evaluator=evaluator))
    assert [one.evaluations["return"].item() for one in found] == [1.0, 1.0]


def test_lives_that_groups_cannot_hold_are_named():
    lives = evolution.Config(num_pairs=6, group=4, num_episodes=1)
    worlds = [world(near_the_goal, "near"), world(first_is_best, "first")]
    with pytest.raises(ValueError, match="group: 4 is not valid; .* 6 candidates of world 'near'"):
        against(ZERO, lives, worlds, insert, evolution.Hypers())


@pytest.mark.slow
def test_the_score_is_the_mean_over_worlds():
    worlds = [world(near_the_goal, "near")._replace(share=3), world(first_is_best, "first")]
    found = evaluate(GOAL, worlds)
    assert found["near/better"] == 1 and 0.5 < found["first/better"] < 1
    np.testing.assert_allclose(found["return"], (found["near/better"] + found["first/better"]) / 2)


@pytest.mark.slow
def test_a_run_keeps_the_best(tmp_path):
    """At σ and a step size that overshoot, the last θ is not the best."""
    here = world(near_the_goal)
    learner = evolution.make(CONFIG, here, init_theta=lambda key: ZERO, insert=insert)
    hypers = evolution.Hypers(learning_rate=2.0, decay=1.0, std=0.1)
    evaluator = against(ZERO, LIVES, here, insert, hypers)
    options = RunOptions(str(tmp_path), eval_every=1, chunk=4)
    result = run(learner, populate(seeds(1), hypers, ()), 12, options, evaluator=evaluator)
    scores = result.evaluations["return"].to_numpy()
    assert result.best.score[0] == scores.max() and len(scores) == 12
    assert result.best.update[0] == 1 + scores.argmax()
