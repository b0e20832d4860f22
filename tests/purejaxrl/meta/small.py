"""A meta-gradient learner small enough for tests."""

import jax
import jax.numpy as jnp

from algos import lpg, meta_lpg
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.meta import gradient
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.ued.curriculum import uniform
from tests.helpers import begin

AGENT = lpg.Config(
    num_envs=3, num_steps=5, num_predictions=3, rule_width=6, rule_embedding=4, optimizer="sgd",
    normalize_reward=False,
)  # fmt: skip
ENV = GridWorld(LEVELS["small"].sample)
INNER = lpg.make(AGENT, ENV)
HYPERS = gradient.Hypers(
    agent=lpg.Hypers(learning_rate=3.0, gamma=0.9),
    regularizer=meta_lpg.Regularizer(),
    critic_learning_rate=0.01,
)


def world(inner=INNER, env=ENV, lifetime=10, name="levels", **parts):
    parts = {
        "curriculum": uniform(LEVELS["small"].sample),
        "sample_lifetime": lambda key: jnp.int32(lifetime),
        "critic": networks.readout(env.observation_space(), None, 1),
    } | parts
    return World(name, inner, env, **parts)


def make(
    num_agents=2, num_updates=2, lifetime=10, inner=INNER, env=ENV, rule=AGENT,
    **settings,
):  # fmt: skip
    return gradient.make(
        gradient.Config(num_agents, num_updates, **settings),
        world(inner, env, lifetime),
        init_theta=lambda key: lpg.init_rule(key, rule),
        insert=lpg.with_rule,
    )


def start(learner, hypers=HYPERS, seed=0):
    """The state at the beginning."""
    return begin(learner, hypers, seed=seed)


def first_gradient(state):
    """Adam's first moment after its first step is a tenth of the gradient."""
    return jax.tree.map(lambda mu: 10 * mu, state.opt_state[0].mu)


def agents_of(state):
    """The agents of a meta-learner in one world."""
    return state.worlds[0].agents


def with_agents(state, agents):
    """The same meta-learner with other agents."""
    return state._replace(worlds=(state.worlds[0]._replace(agents=agents),))
