"""Arrays that all members share, levels of their own, and the true horizon at the start."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
from algos import lpg, ppo
from purejaxrl.algorithm import Algorithm, Task
from purejaxrl.running import chunk
from purejaxrl.running.population import grid, populate, seeds
from purejaxrl.running.runner import RunOptions, run
from tests.helpers import ENV_PARAMS, PPO, assert_equal, init_rule, population, train

GRID, LEVEL = envs.make("gridworld-small")
CONFIG = lpg.Config(num_envs=2, num_steps=4, rule_width=32)
LPG = lpg.make(CONFIG, GRID)
RULE = init_rule(jax.random.key(0), CONFIG)
RULE_BYTES = sum(x.nbytes for x in jax.tree.leaves(RULE))


def learners(members, rule=RULE, shared=("rule",), **levels):
    return populate(seeds(members), lpg.Hypers(rule=rule), LEVEL, shared=shared, **levels)


def options(out, **changes):
    return RunOptions(str(out), progress=False, **changes)


@pytest.mark.slow
def test_a_shared_rule_teaches_as_one_of_their_own(tmp_path):
    shared = run(LPG, learners(3), 3, options(tmp_path / "shared"))
    own = run(LPG, learners(3, shared=()), 3, options(tmp_path / "own"))
    for a, b in zip(jax.tree.leaves(shared.state.params), jax.tree.leaves(own.state.params),
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_shared_rule_is_held_once_whatever_the_number_of_members():
    def planned(members, **changes):
        who = learners(members, **changes)
        plan = chunk.plan_for(LPG, who, None, jax.devices()[:1])
        carry = chunk.start(LPG, who, plan, 3)
        program = chunk.compile_chunk(LPG, who, plan, 2, carry)
        held = [*program.shared, *jax.tree.leaves(program.own)]
        return sum(x.nbytes for x in held if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key))

    assert planned(16) - planned(1) < 0.05 * RULE_BYTES
    assert planned(16, shared=()) > 16 * RULE_BYTES


def test_a_selection_keeps_what_is_shared():
    one = learners(3).select("seed=2")
    assert_equal(one.hypers.rule, RULE)
    assert one.hypers.gamma.shape == (1,)


@pytest.mark.slow
def test_another_rule_is_refused_by_its_content(tmp_path):
    run(LPG, learners(2), 1, options(tmp_path))
    same = jax.tree.map(np.array, RULE)
    run(LPG, learners(2, same), 2, options(tmp_path, resume=True))
    other = init_rule(jax.random.key(1), CONFIG)
    with pytest.raises(ValueError, match=r"another run: hypers\.rule\.params\..* was .*, now"):
        run(LPG, learners(2, other), 3, options(tmp_path, resume=True))


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        (("rul",), "unknown .* field 'rul'; did you mean: rule"),
        (("gamma",), "shared: 'gamma' is not valid; it must hold an array"),
        ("rule", "shared: 'rule' is not valid; it must be a tuple of names"),
    ],
)
def test_what_cannot_be_shared_is_named(shared, message):
    with pytest.raises(ValueError, match=message):
        learners(2, shared=shared)


class Table(struct.PyTreeNode):
    values: jax.Array
    scale: float = 1.0


class WithTable(struct.PyTreeNode):
    table: Table


def test_what_members_share_cannot_be_swept():
    rows, hypers = seeds(1) * grid(**{"table.scale": [1.0, 2.0]}), WithTable(Table(jnp.ones(3)))
    populate(rows, hypers, (), shared=("table.values",))
    with pytest.raises(ValueError, match=r"shared: 'table' is not valid; rows set 'table\.scale'"):
        populate(rows, hypers, (), shared=("table",))


@pytest.mark.slow
def test_members_can_have_levels_of_their_own(tmp_path):
    levels = jax.vmap(GRID.sample_level)(jax.random.split(jax.random.key(0), 3))
    who = learners(3, levels=levels)
    assert_equal(run(LPG, who, 1, options(tmp_path)).state.task.env_params, levels)
    with pytest.raises(ValueError, match=r"levels: .* first axis must have the size 2"):
        learners(2, levels=levels)


class Container(NamedTuple):
    """The state of an algorithm that holds another's, and does not look into it."""

    inside: Any
    task: Task
    key: jax.Array
    step: jax.Array

    @property
    def params(self):
        return self.inside.params


def contain(inner: Algorithm) -> Algorithm:
    def init(key, hypers, task):
        return Container(inner.init(key, hypers, task), task, key, jnp.int32(0))

    def collect(state, hypers):
        task = state.inside.task._replace(horizon=state.task.horizon)
        inside, experience = inner.collect(state.inside._replace(task=task), hypers)
        return state._replace(inside=inside), experience

    def learn(state, hypers, experience):
        inside, metrics = inner.learn(state.inside, hypers, experience)
        return state._replace(inside=inside, step=inside.step), metrics

    return Algorithm(inner.config, init, collect, learn, lambda s: inner.policy(s.inside))


@pytest.mark.slow
def test_an_algorithm_inside_another_sees_the_true_horizon(tmp_path):
    """Its step size is annealed over it."""
    alone = train(tmp_path / "alone", 4)
    within = run(contain(PPO), population(), 4, options(tmp_path / "within", chunk=2))
    assert_equal(within.state.inside.params, alone.state.params)


def test_the_horizon_is_true_when_a_member_starts(tmp_path):
    seen = PPO._replace(
        init=lambda key, hypers, task: PPO.init(
            key, hypers.replace(gamma=1.0 * task.horizon), task
        )._replace(step=task.horizon)
    )
    who = populate(seeds(2), ppo.Hypers(), ENV_PARAMS)
    assert run(seen, who, 3, options(tmp_path)).state.step.tolist() == [6, 6]
