"""Distillation: a small student learns a hand-made rule, and what does not fit is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import distillation, hand_rules, lpg, meta_lpg
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from envs.random_mdp import RandomMDP
from purejaxrl.algorithm import Task, is_finite
from purejaxrl.parts import networks
from purejaxrl.ued import scores
from purejaxrl.ued.curriculum import replay
from tests.helpers import assert_equal, begin, init_rule

GRID, MDP = GridWorld(LEVELS["small"].sample), RandomMDP(num_states=8)
AGENT = lpg.Config(
    num_envs=4, num_steps=6, num_predictions=8, rule_width=16, rule_embedding=4, hidden=(8,)
)
HYPERS = distillation.Hypers(
    agent=lpg.Hypers(learning_rate=0.1), teacher=hand_rules.Settings(), learning_rate=1e-2
)


def world(env=MDP, name="mdp", agent=AGENT, **parts):
    return meta_lpg.world(agent, env, lambda key: jnp.int32(10), name, **parts)


def make(worlds, num_agents=8, teacher=hand_rules.ActorCritic(), **parts):  # noqa: B008
    return distillation.make(distillation.Config(num_agents), AGENT, teacher, worlds, **parts)


def train(learner, hypers, num_steps):
    task = Task((), jnp.int32(num_steps))
    state = begin(learner, hypers, task)
    step = lambda state, _: learner.learn(state, hypers, ())  # noqa: E731
    return jax.jit(lambda state: jax.lax.scan(step, state, length=num_steps))(state)


@pytest.mark.slow
def test_the_student_comes_to_explain_the_teacher():
    _, metrics = train(make(world()), HYPERS, 400)
    unexplained = np.asarray(metrics["error"]) / np.asarray(metrics["variance"])
    assert np.median(unexplained[:10]) > 0.5 and np.median(unexplained[-40:]) < 0.25
    assert metrics["kl"][-40:].mean() < 0.3 * metrics["kl"][:10].mean()


def test_a_student_that_is_the_teacher_has_no_error():
    """The teacher is a network too, and the student starts as it is."""
    theta = init_rule(jax.random.key(3), AGENT)
    teacher = AGENT.make_rule()
    learner = make(world(), teacher=teacher, init_theta=meta_lpg.start_from(theta, AGENT))
    _, metrics = train(learner, HYPERS.replace(teacher=theta, learning_rate=0.0), 3)
    np.testing.assert_allclose(metrics["error"], 0, atol=1e-10)
    np.testing.assert_allclose(metrics["kl"], 0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_agents_live_by_student_or_teacher(share):
    """Those that follow the teacher are as agents of the teacher alone."""
    learner = make(world(), num_agents=2)
    hypers = HYPERS.replace(by_student=share, learning_rate=0.0)
    task = Task((), jnp.int32(3))
    state = begin(learner, hypers, task)
    before = jax.tree.map(lambda x: x[1], state.agents[0])  # the second: its life is longer
    after, _ = jax.jit(learner.learn)(state, hypers, ())
    rule = hand_rules.ActorCritic() if share == 0 else None
    alone = lpg.make(AGENT, MDP, rule)
    advice = hypers.teacher if share == 0 else state.params
    own = before.hypers.replace(rule=advice)
    moved, experience = alone.collect(before.state, own)
    moved, _ = jax.jit(alone.learn)(moved, own, experience)
    found = jax.tree.map(lambda x: x[1], after.agents[0]).state.params
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(moved.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_worlds_have_metrics_of_their_own_and_lives_end():
    learner = make([world(), world(GRID, "grid")])
    state, metrics = train(learner, HYPERS, 25)
    assert {"mdp/error", "grid/error", "error", "mdp/kl", "return"} <= metrics.keys()
    expected = (metrics["mdp/loss"] + metrics["grid/loss"]) / 2
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    for agents in state.agents:
        assert (agents.state.step < 10).all()
    again, _ = train(learner, HYPERS, 25)
    assert_equal(state, again)


def test_worlds_with_another_number_of_predictions_are_refused():
    other = world(agent=dataclasses.replace(AGENT, num_predictions=5), name="other")
    with pytest.raises(
        ValueError, match="num_predictions of world 'other': 5 is not valid; it must be 8"
    ):
        make(other)


def test_a_student_without_hyperparameters_of_the_agents_is_refused():
    with pytest.raises(ValueError, match=r"Hypers\.agent: None is not valid"):
        make(world()).init(jax.random.key(0), HYPERS.replace(agent=None), None)


def test_agents_that_cannot_be_divided_are_refused():
    with pytest.raises(ValueError, match=r"num_agents: 4 is not valid; .* multiple of 3"):
        make([world(share=2), world(GRID, "grid")], num_agents=4)


def test_a_curriculum_by_scores_and_a_torso_are_refused():
    """Distillation makes agents anew, of their config, on new levels."""
    scored = world(curriculum=replay(MDP.sample_level, scores.random, 4))
    env, _ = envs.make("random-mdp-features")
    other = world(env)._replace(inner=lpg.make(AGENT, env, torso=networks.MLP((4,))))
    for one in (scored, other):
        with pytest.raises(ValueError, match="world 'mdp' is not valid; in a distillation"):
            make(one)


def test_an_agent_that_diverged_is_replaced():
    learner = make(world())
    state = begin(learner, HYPERS, Task((), jnp.int32(9)))
    theirs = state.agents[0]
    is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    poisoned = jax.tree.map(
        lambda x: x.at[2].set(jnp.nan) if is_float(x) else x, theirs.state.opt_state
    )
    state = state._replace(
        agents=(theirs._replace(state=theirs.state._replace(opt_state=poisoned)),)
    )
    after, _ = jax.jit(learner.learn)(state, HYPERS, ())
    after, metrics = jax.jit(learner.learn)(after, HYPERS, ())
    assert after.agents[0].state.step[2] == 1 and bool(is_finite((after.params, metrics["loss"])))
