"""Every part that decides a result is among the names that a run is identified by."""

import jax
import jax.numpy as jnp
import pytest

from algos import a2c, accel, domain_randomization, groove, lpg, plr, ppo
from envs import maze_levels
from envs.gridworld_levels import LEVELS
from envs.maze import Maze
from purejaxrl.identity import is_named
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.assessment import Assessment
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued.buffer import in_proportion
from purejaxrl.ued.curriculum import fixed, replay, uniform
from purejaxrl.ued.scores import l1_value_loss, positive_value_loss
from purejaxrl.ued.student import OwnLevel
from tests.purejaxrl.meta.small import AGENT, ENV, INNER

SMALL, LONG = LEVELS["small"], LEVELS["all_vrandlife"]
MAZE = OwnLevel(FlattenObservation(Maze()))
CONFIG = ppo.Config(num_envs=2, num_steps=4, num_minibatches=2, hidden=(8,))
STUDENT = ppo.make(CONFIG, MAZE)
MAZES = maze_levels.uniform(20)


def init_theta(key, config=AGENT):
    return lpg.init_rule(key, config)


def doubled(rule, hypers):
    return lpg.with_rule(jax.tree.map(lambda x: 2 * x, rule), hypers)


def make_gradient(critic=None, assessment=None, **changes):
    critic = critic or networks.readout(ENV.observation_space(), None, 1)
    parts = dict(
        init_theta=init_theta, insert=lpg.with_rule, curriculum=uniform(SMALL.sample),
        sample_lifetime=SMALL.sample_lifetime,
    )  # fmt: skip
    if assessment:
        parts["curriculum"] = replay(SMALL.sample)
    settings = parts | changes
    return gradient.make(gradient.Config(2), INNER, critic, assessment=assessment, **settings)


def make_evolution(**changes):
    parts = dict(
        init_theta=init_theta, insert=lpg.with_rule, sample_level=SMALL.sample,
        sample_lifetime=SMALL.sample_lifetime,
    )  # fmt: skip
    return evolution.make(evolution.Config(2), INNER, ENV, **parts | changes)


def make_groove(**changes):
    config = groove.Config(num_agents=2, **{"capacity": 8} | changes)
    return groove.make(config, AGENT, ENV, ENV.sample_level, SMALL.sample_lifetime)


def other_strategy(config, hypers, theta):
    return evolution.open_es(config, hypers, theta)


def levels(seed):
    return jax.vmap(SMALL.sample)(jax.random.split(jax.random.key(seed), 3))


def scored(**settings):
    return make_gradient(assessment=Assessment(**{"score": l1_value_loss, "env": ENV} | settings))


ANTAGONIST = a2c.Config(num_envs=AGENT.num_envs, num_steps=AGENT.num_steps)
CHANGES = {
    "critic": (make_gradient, lambda: make_gradient(networks.Table(3, 1))),
    "insert": (make_gradient, lambda: make_gradient(insert=doubled)),
    "lifetime": (
        make_gradient,
        lambda: make_gradient(sample_lifetime=LONG.sample_lifetime),
    ),
    "levels": (make_gradient, lambda: make_gradient(curriculum=uniform(LONG.sample))),
    "fixed levels": (
        lambda: make_gradient(curriculum=fixed(levels(0))),
        lambda: make_gradient(curriculum=fixed(levels(1))),
    ),
    "priority": (
        lambda: scored(score=l1_value_loss),
        lambda: make_gradient(
            assessment=Assessment(l1_value_loss, ENV),
            curriculum=replay(SMALL.sample, priority=in_proportion),
        ),
    ),
    "score": (scored, lambda: scored(score=positive_value_loss)),
    "evaluation": (scored, lambda: scored(max_steps=7)),
    "antagonist": (scored, lambda: scored(antagonist=a2c.make(ANTAGONIST, ENV))),
    "strategy": (make_evolution, lambda: make_evolution(strategy=other_strategy)),
    "shape": (make_evolution, lambda: make_evolution(shape=jnp.sign)),
    "evolved levels": (make_evolution, lambda: make_evolution(sample_level=LONG.sample)),
    "theta": (make_evolution, lambda: make_evolution(init_theta=lambda key: jnp.zeros(3))),
    "groove's slots": (make_groove, lambda: make_groove(slots=3)),
    "groove's episodes": (make_groove, lambda: make_groove(num_episodes=3)),
    "groove's capacity": (make_groove, lambda: make_groove(capacity=9)),
    "frozen rule": (
        lambda: lpg.make(AGENT, ENV, lpg.Frozen(AGENT, init_theta(jax.random.key(0)))),
        lambda: lpg.make(AGENT, ENV, lpg.Frozen(AGENT, init_theta(jax.random.key(1)))),
    ),
    "mazes": (
        lambda: domain_randomization.make(STUDENT, MAZE, MAZES),
        lambda: domain_randomization.make(STUDENT, MAZE, maze_levels.uniform(21)),
    ),
    "level score": (
        lambda: plr.make(plr.Config(4), STUDENT, MAZE, MAZES),
        lambda: plr.make(plr.Config(4), STUDENT, MAZE, MAZES, l1_value_loss),
    ),
    "edits": (
        lambda: accel.make(plr.Config(4), STUDENT, MAZE, MAZES, lambda key, x: x),
        lambda: accel.make(plr.Config(4), STUDENT, MAZE, MAZES, maze_levels.mutate),
    ),
    "policy loss": (
        lambda: ppo.make(CONFIG, MAZE),
        lambda: ppo.make(CONFIG, MAZE, lambda log_ratio, advantage, hypers: -log_ratio),
    ),
}


@pytest.mark.parametrize("part", CHANGES)
def test_another_part_has_another_name_and_the_same_part_the_same(part):
    before, after = (make().made_of for make in CHANGES[part])
    assert before == CHANGES[part][0]().made_of
    assert before != after
    assert all(map(is_named, (*before, *after)))
