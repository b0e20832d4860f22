"""A replay buffer is written in place: nothing copies or selects it, and memory holds it once."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import dqn, sac
from purejaxrl.algorithm import Task
from purejaxrl.meta import gradient
from purejaxrl.meta.lifetime import train_and_play
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.running import chunk
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.ued.curriculum import uniform
from tests.helpers import ENV, ENV_PARAMS, assert_equal, mostly_slow

CAPACITY = 12_344  # a size that nothing else has
WIDTH = 4  # numbers in an observation of CartPole
SIZES = {
    **{"num_envs": 2, "num_steps": 4, "capacity": CAPACITY, "warmup_steps": 8},
    **{"batch_size": 8, "hidden": (4,)},
}
LEARNER = dqn.make(dqn.Config(**SIZES), ENV)
BUFFER = CAPACITY * (2 * WIDTH * 4 + 4 + 4 + 1 + 1)  # bytes: both observations, and the rest


def touched(text: str) -> list[str]:
    """Return the instructions of compiled loops that copy or select a buffer."""
    inside = text[: text.index("\nENTRY")]
    shape = rf"f32\[(?:\d+,)*{CAPACITY},{WIDTH}\]"
    assert re.search(shape, inside)  # the buffer is there
    return re.findall(rf"\S+ = {shape}\S* (?:copy|select)\(.*", inside)


def program_of(members: int, group: int):
    who = populate(seeds(members), dqn.Hypers(), ENV_PARAMS)
    plan = chunk.plan_for(LEARNER, who, group, jax.devices()[:1])
    carry = chunk.start(LEARNER, who, plan, 8)
    return chunk.compile_chunk(LEARNER, who, plan, 4, carry)


@pytest.mark.parametrize("group", mostly_slow([1, 8], {8}))
def test_a_run_does_not_copy_it(group):
    assert not touched(program_of(group, group).chunk.as_text())


@pytest.mark.parametrize("group", mostly_slow([1, 8], {8}))
def test_memory_holds_all_buffers_once(group):
    """A second group adds its buffers, and no more intermediate results."""
    one, two = (program_of(n * group, group) for n in (1, 2))
    assert two.num_bytes - one.num_bytes <= 1.1 * group * BUFFER
    assert one.chunk.memory_analysis().temp_size_in_bytes < 0.5 * BUFFER


@pytest.mark.parametrize("group", mostly_slow([1, 8], {8}))
def test_lives_of_different_lengths_do_not_copy_it(group):
    def lives(keys, horizons):
        levels, hypers = (
            jax.tree.map(lambda x: jnp.broadcast_to(x, (group, *jnp.shape(x))), tree)
            for tree in (ENV_PARAMS, dqn.Hypers())
        )
        tasks = Task(levels, horizons)
        return train_and_play(LEARNER, ENV, keys, hypers, tasks, num_episodes=1, max_steps=2).ret

    keys, horizons = jax.random.split(jax.random.key(0), group), jnp.arange(1, group + 1)
    assert not touched(jax.jit(lives).lower(keys, horizons).compile().as_text())


@pytest.mark.slow
@pytest.mark.parametrize("group", [1, 8])
def test_a_meta_step_does_not_copy_it(group):
    world = World(
        "cart",
        sac.make(sac.Config(**SIZES), ENV),  # DQN has no log-probabilities
        ENV,
        uniform(lambda key: ENV_PARAMS),
        sample_lifetime=lambda key: jnp.int32(3),
        critic=networks.readout(ENV.observation_space(ENV_PARAMS), networks.MLP((4,)), 1),
    )
    learner = gradient.make(
        gradient.Config(num_agents=8, num_updates=2, group=group),
        world,
        init_theta=lambda key: jnp.float32(-6.0),
        insert=lambda theta, hypers: hypers.replace(actor_rate=jnp.exp(theta)),
    )
    hypers = gradient.Hypers(agent=sac.DiscreteHypers())
    state = jax.eval_shape(lambda: learner.init(jax.random.key(0), hypers, Task((), jnp.int32(8))))

    def steps(state):
        return jax.lax.scan(lambda s, _: learner.learn(s, hypers, ()), state, length=2)[0]

    assert not touched(jax.jit(steps, donate_argnums=0).lower(state).compile().as_text())


@pytest.mark.slow
def test_a_checkpoint_holds_it(tmp_path):
    who = populate(seeds(2), dqn.Hypers(), ENV_PARAMS)
    options = {"chunk": 2, "checkpoint_every": 1, "progress": False}
    whole = run(LEARNER, who, 6, RunOptions(str(tmp_path / "whole"), **options))
    run(LEARNER, who, 3, RunOptions(str(tmp_path / "parts"), **options), horizon=6)
    parts = RunOptions(str(tmp_path / "parts"), resume=True, **options)
    resumed = run(LEARNER, who, 6, parts)
    assert_equal(whole.state, resumed.state)
    kept, num_written = np.asarray(whole.state.replay.contents.obs), 8 + 6 * 8  # the warm-up's, too
    assert (kept[:, :num_written] != 0).any(-1).all()
    assert not kept[:, num_written:].any()


@pytest.mark.slow
def test_a_frozen_member_keeps_its_parameters_though_its_buffer_is_written(tmp_path):
    who = populate(seeds(2), dqn.Hypers(), ENV_PARAMS)
    broken = who._replace(hypers=who.hypers.replace(learning_rate=jnp.array([0.001, 3e38])))
    with pytest.warns(UserWarning, match="'seed=1' is frozen"):
        done = run(LEARNER, broken, 4, RunOptions(str(tmp_path), progress=False))
    sound, frozen = done.member(0), done.member(1)
    assert done.alive.tolist() == [True, False] and frozen.step < sound.step == 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(frozen.params))
    assert frozen.replay.written == sound.replay.written == 8 + 4 * 8
