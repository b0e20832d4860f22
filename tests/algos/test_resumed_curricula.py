"""Curricula: a run that was stopped ends where an unbroken one does."""

import functools

import jax
import numpy as np
import pytest

from algos import accel, paired, plr, ppo, sfl
from envs.maze_domain import mazes
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import run
from purejaxrl.ued import student as students
from purejaxrl.ued.curriculum import uniform
from purejaxrl.ued.scores import true_regret
from tests.helpers import assert_equal, run_options, whole_and_resumed

LEVELS = mazes(max_walls=8, size=5, max_steps=10, num_edits=4)
CONFIG = ppo.Config(num_envs=4, num_steps=12, num_epochs=1, num_minibatches=1, hidden=(8,))
AGENT = ppo.make(CONFIG, LEVELS.env)
HYPERS = ppo.Hypers(learning_rate=1e-3)
MUTATE = functools.partial(LEVELS.mutate, num_edits=3)
SEARCH = sfl.Config(every=3, batch_size=8, num_batches=2, num_steps=12, num_kept=6)


def with_teacher():
    config = ppo.Config(num_envs=4, num_steps=7, num_minibatches=1, hidden=(8,))
    teacher = ppo.make(config, LEVELS.builder)
    return paired.curriculum(teacher, AGENT, LEVELS.env, LEVELS.builder)


CURRICULA = {
    "random": lambda: (uniform(LEVELS.sample), students.Hypers(HYPERS)),
    "plr": lambda: (plr.curriculum(LEVELS.sample, capacity=16), plr.hypers(HYPERS)),
    "accel": lambda: (accel.curriculum(LEVELS.sample, MUTATE, capacity=16), accel.hypers(HYPERS)),
    "sfl": lambda: (sfl.curriculum(SEARCH, LEVELS.sample), sfl.hypers(HYPERS)),
    "plr_regret": lambda: (plr.curriculum(LEVELS.sample, true_regret, 16), plr.hypers(HYPERS)),
    "paired": lambda: (with_teacher(), paired.hypers(HYPERS, HYPERS)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CURRICULA)
def test_resumed_equals_uninterrupted_and_members_are_as_alone(name, tmp_path):
    curriculum, hypers = CURRICULA[name]()
    algorithm = students.make(AGENT, LEVELS.env, curriculum, LEVELS.optimal_return)
    who = populate(seeds(2), hypers, ())
    settings = dict(chunk=4, group=1)
    whole, resumed = whole_and_resumed(tmp_path, algorithm, who, 16, stop=8, **settings)
    assert_equal(resumed.state, whole.state)
    one = run_options(tmp_path / "one", **settings)
    alone = run(algorithm, who.select("seed=1"), 16, one, horizon=16)
    assert_equal(alone.member(0), whole.member(1))


def test_the_state_of_a_curriculum_does_not_grow_with_the_length_of_a_run():
    for make in CURRICULA.values():
        curriculum, hypers = make()
        state = jax.eval_shape(lambda: curriculum.init(jax.random.key(0), hypers.curriculum, 4))  # noqa: B023
        assert sum(np.prod(x.shape) for x in jax.tree.leaves(state)) < 1e5
