"""The contract, for every algorithm in use: under the runner, and inside each meta-learner."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import maze
from purejaxrl.algorithm import Task
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running import chunk
from purejaxrl.running.evaluate import Evaluator, on_episodes
from purejaxrl.running.population import populate, seeds
from purejaxrl.ued.curriculum import uniform
from tests.algos.algorithms import ALGORITHMS, CART, GRID, PENDULUM
from tests.helpers import assert_equal, mostly_slow

STUDENTS = (
    "domain randomisation", "plr", "accel", "sfl", "frontier", "paired", "regret teacher"
)  # fmt: skip
NOT_EVALUATED = (
    "meta-gradient", "evolution", "groove", "distillation", "trajectory diffusion", "sft", "grpo"
)  # fmt: skip
"""Meta-learners and models, and policies of tokens, whose evaluator is their experiment's."""
ON_PENDULUM = ("sac", "td3", "bc", "td3_bc", "rebrac", "iql", "policy-guided diffusion")
SHORT = {"num_episodes": 2, "max_steps": 30}


def env_of(name):
    if name in ON_PENDULUM:
        return PENDULUM
    return GRID if name.endswith("lpg") else CART


def evaluator_for(name):
    """Evaluate agents where they train, and students in a held-out maze."""
    if name in NOT_EVALUATED:
        return None
    if name not in STUDENTS:
        return on_episodes(env_of(name), **SHORT)
    level = next(iter(maze.held_out().values()))
    in_maze = on_episodes(FlattenObservation(maze.Maze()), **SHORT)
    return Evaluator(lambda a, key, policy, _: in_maze.play(a, key, policy, level), "a maze")


def poison(carry):
    """Make all numbers of the second member NaN."""

    def bad(x):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return np.stack([x[0], np.full_like(x[1], np.nan)]) if floating else x

    return carry._replace(state=jax.tree.map(bad, carry.state))


OFTEN = ("ppo", "lpg", "dqn")
"""Tested at every change; the others compile slowly, and have tests of resuming of their own."""

INSIDE = (*OFTEN, "a2c", "ppo_rnn", "lpo")
"""Tried inside of meta-learners."""


ARRAYS = {
    **dict.fromkeys(("lpg", "disco"), ("rule",)), "lpo": ("drift",), "grpo": ("start",),
    **dict.fromkeys(("bc", "td3_bc", "rebrac", "iql"), ("dataset",)),
    "trajectory diffusion": ("dataset", "starts"), "policy-guided diffusion": ("agent", "model"),
}  # fmt: skip
"""Hyperparameters that are arrays, which all members share: rules, drifts, datasets, models."""


@pytest.mark.parametrize("name", mostly_slow(ALGORITHMS, OFTEN))
def test_it_resumes_shares_arrays_is_evaluated_and_freezes_a_diverged_member(name):
    algorithm, hypers, level = ALGORITHMS[name]()
    arrays = tuple(
        field.name
        for field in dataclasses.fields(hypers)
        if any(np.ndim(x) for x in jax.tree.leaves(getattr(hypers, field.name)))
    )
    assert arrays == ARRAYS.get(name.split("_")[-1], ())  # a fork has those of what it forks
    who, evaluator = populate(seeds(2), hypers, level, shared=arrays), evaluator_for(name)
    plan = chunk.plan_for(algorithm, who, 2, jax.devices()[:1])
    start = lambda: chunk.start(algorithm, who, plan, 4, evaluator is not None)  # noqa: E731
    program = chunk.compile_chunk(
        algorithm, who, plan, 2, start(), evaluator=evaluator, optimize=False
    )

    whole, _ = program(2, start())
    half, _ = program(1, start())
    saved = program.gather(half)
    resumed, metrics = program(1, chunk.place(algorithm, plan, saved, 4))
    assert_equal(program.gather(whole), program.gather(resumed))
    assert metrics["alive"].all()

    after, metrics = program(1, chunk.place(algorithm, plan, poison(saved), 4))
    assert metrics["alive"].tolist() == [[True], [False]]
    sound, frozen = (jax.tree.map(lambda x, i=i: x[i], program.gather(after).state) for i in (0, 1))
    assert_equal(sound, jax.tree.map(lambda x: x[0], program.gather(resumed).state))
    assert frozen.step == saved.state.step[1]

    if evaluator:
        evaluated, found = program.evaluate(2, whole)
        known = np.where(np.isfinite(found["return"]), found["return"], -np.inf)
        np.testing.assert_array_equal(program.gather(evaluated).best.score, known)


@pytest.mark.parametrize("name", mostly_slow(INSIDE, {"ppo", "dqn"}))
@pytest.mark.parametrize("outer", ["meta-gradient", "evolution"])
def test_it_fits_a_meta_learner_or_says_what_it_lacks(name, outer):
    inner, hypers, level = ALGORITHMS[name]()
    env = env_of(name)
    levels, lifetime = uniform(lambda key: level), lambda key: jnp.int32(3)
    world = World("levels", inner, env, levels, lifetime)
    theta = {
        "init_theta": lambda key: jnp.float32(-6.0),
        "insert": lambda theta, hypers: hypers.replace(learning_rate=jnp.exp(theta)),
    }
    if outer == "evolution":
        learner = evolution.make(evolution.Config(num_pairs=2), world, **theta)
        settings = evolution.Hypers(agent=hypers)
    else:
        space = env.observation_space(env.default_params)
        torso = None if networks.num_rows(space) else networks.MLP((4,))
        world = world._replace(critic=networks.readout(space, torso, 1))
        make = lambda: gradient.make(gradient.Config(num_agents=2), world, **theta)  # noqa: E731
        if inner.log_prob is None:
            with pytest.raises(ValueError, match="inner: .* a meta-gradient needs its `log_prob`"):
                make()
            return
        learner, settings = make(), gradient.Hypers(agent=hypers)
    task = Task((), jnp.int32(4))
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), settings, task))
    after, metrics = jax.eval_shape(lambda state: learner.learn(state, settings, ()), state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert {"env_steps", "episodes", "return"} <= metrics.keys()
