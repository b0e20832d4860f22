"""The score of a finished life, of agents that earn what they are told to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.algorithm import Task
from purejaxrl.meta.agents import Agent
from purejaxrl.meta.assessment import Assessment, assess
from purejaxrl.meta.worlds import World
from purejaxrl.parts.returns import ValueEstimates
from purejaxrl.ued.buffer import NOT_KEPT
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params
from tests.purejaxrl.meta.hand_made import ENV, by_hand, level, life_of

AGENT = by_hand(lambda theta, task, age: theta)
ANTAGONIST = by_hand(lambda theta, task, age: 2 * theta)
ESTIMATES = ValueEstimates(jnp.zeros((1, 1)), jnp.zeros((1, 1)))


def regret(key, outcome):
    """The regret without `nanmean`, so that an episode that is cut makes it NaN."""
    return outcome.antagonist_returns.mean() - outcome.returns.mean()


CURRICULUM = uniform(level)._replace(score=regret)


def assessed(agent, antagonist, known=-jnp.inf, length=1, max_steps=10):
    """Score and best return on a level of some steps, where the two earn these returns."""
    task = Task(Params(length=length, max_steps_in_episode=length), jnp.int32(1))
    key, assessment = jax.random.key(0), Assessment(ANTAGONIST, 4, max_steps)
    world = World("hand", AGENT, ENV, CURRICULUM, life_of(1), assessment=assessment)
    finished = Agent(
        state=AGENT.init(key, jnp.float32(agent), task), hypers=(), critic=(),
        antagonist=ANTAGONIST.init(key, jnp.float32(antagonist / 2), task), slot=NOT_KEPT,
        best_return=jnp.float32(known), late_return=jnp.nan, whole=True,
    )  # fmt: skip
    score, best_return = jax.jit(lambda: assess(key, world, finished, ESTIMATES))()
    return float(score), float(best_return)


@pytest.mark.parametrize(("agent", "antagonist"), [(1.0, 3.0), (3.0, 1.0)])
def test_the_regret_is_what_the_antagonist_earns_more_than_the_agent(agent, antagonist):
    score, best_return = assessed(agent, antagonist)
    assert score == antagonist - agent
    assert best_return == 3.0


def test_the_best_return_is_kept_where_it_is_higher():
    assert assessed(1.0, 3.0, known=2.0) == (2.0, 3.0)
    assert assessed(1.0, 3.0, known=5.0) == (2.0, 5.0)


def test_episodes_that_are_cut_have_no_returns():
    assert assessed(1.0, 3.0, length=2) == (4.0, 6.0)
    score, best_return = assessed(1.0, 3.0, known=2.0, length=2, max_steps=1)
    assert np.isnan(score) and best_return == 2.0
