"""PAIRED: what the teacher sees, does and earns; and a test for each fault of published code."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import a2c, paired, ppo, ppo_rnn
from envs import maze
from envs.maze_editor import MazeEditor
from purejaxrl.algorithm import Task
from purejaxrl.identity import is_named
from purejaxrl.parts import rollout
from purejaxrl.parts.rollout import Experience, Transition
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.ued import student as students
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import require_curriculum
from purejaxrl.ued.student import OwnLevel
from tests.helpers import mostly_slow

NUM_ENVS, NUM_STEPS, SIZE, KEY = 3, 240, 3, jax.random.key(0)
TASK = Task((), jnp.int32(20))
ENV = OwnLevel(FlattenObservation(maze.Maze()))
BUILDER = Builder(FlattenObservation(MazeEditor(SIZE, num_walls=2, max_steps=12)), noise_size=4)
STUDENT = ppo.make(ppo.Config(NUM_ENVS, NUM_STEPS, num_minibatches=1, hidden=(4,)), ENV)
TEACHES = ppo.Config(NUM_ENVS, num_steps=5, num_minibatches=1, num_epochs=1, hidden=(8,))
TEACHER = ppo.make(TEACHES, BUILDER)
HYPERS = paired.hypers(ppo.Hypers(), ppo.Hypers(gamma=1.0, gae_lambda=1.0))


def by_hand(choose):
    """A student that learns nothing, with actions `choose(key)`."""

    def collect(state, hypers):
        key, act_key = jax.random.split(state.key)
        act = lambda memory, obs, first, key: (choose(key), memory, ())  # noqa: E731
        there, seen = rollout.collect(act_key, ENV, (), state.interaction, act, NUM_STEPS, 1.0)
        return state._replace(interaction=there, key=key), seen

    def learn(state, hypers, experience):
        return state, experience.episodes | {"env_steps": STUDENT.steps_per_update}

    return STUDENT._replace(collect=collect, learn=learn, estimate=None)


RANDOM = by_hand(lambda key: jax.random.randint(key, (NUM_ENVS,), 0, 3))
TURNING = by_hand(lambda key: jnp.zeros(NUM_ENVS, jnp.int32))
RECORDING = TEACHER._replace(learn=lambda state, hypers, seen: (seen.transitions.reward, {}))


def compose(protagonist=STUDENT, antagonist=STUDENT, teacher=TEACHER, builder=BUILDER, **options):
    curriculum = paired.curriculum(teacher, antagonist, ENV, builder, **options)
    return students.make(protagonist, ENV, curriculum)


WHOLE = compose()
BEGIN = jax.jit(lambda: WHOLE.init(KEY, HYPERS, TASK))
COLLECT = jax.jit(lambda state: WHOLE.collect(state, HYPERS))
LEARN = jax.jit(lambda state, experience: WHOLE.learn(state, HYPERS, experience))


def episodes(experience, i):
    """Returns of the episodes that finished in an environment, by counting."""
    seen, total, found = experience.transitions, 0.0, []
    done = np.asarray(seen.terminated | seen.truncated)
    for reward, ends in zip(np.asarray(seen.reward[:, i]), done[:, i], strict=True):
        total += reward
        if ends:
            found, total = [*found, total], 0.0
    return np.array(found)


FORMULAS = {
    "mean-max": lambda p, a: a.max() - p.mean(),
    "mean-mean": lambda p, a: a.mean() - p.mean(),
    "flexible": lambda p, a: max(p.max(), a.max()) - (p if a.max() >= p.max() else a).mean(),
}


@pytest.mark.parametrize("better", mostly_slow(["antagonist", "protagonist"], {"protagonist"}))
def test_the_teacher_earns_exactly_the_regret_of_its_level_at_its_last_step(better):
    pair = (TURNING, RANDOM) if better == "antagonist" else (RANDOM, TURNING)
    student = compose(*pair, teacher=RECORDING)
    state, experience = jax.jit(lambda state: student.collect(state, HYPERS))(BEGIN())
    own, others = (
        [episodes(seen, i) for i in range(NUM_ENVS)]
        for seen in (experience, experience.extras.draw.lesson.antagonist)
    )
    for name, formula in FORMULAS.items():
        student = compose(*pair, teacher=RECORDING, regret=paired.REGRETS[name])
        after, metrics = jax.jit(lambda *x: student.learn(x[0], HYPERS, x[1]))(state, experience)  # noqa: B023
        regret = [formula(*each) for each in zip(own, others, strict=True)]
        reward = np.asarray(after.curriculum.teacher)
        assert reward.shape == (5, NUM_ENVS) and not reward[:-1].any()
        np.testing.assert_allclose(reward[-1], regret, atol=1e-6)
        assert np.ptp(regret) > 0  # levels differ
        assert (min(regret) < 0) == (better == "protagonist" and name != "flexible")
        assert metrics["regret"] == pytest.approx(np.mean(regret), abs=1e-6)


def test_all_three_play_the_levels_of_the_teacher_and_learn():
    state = before = BEGIN()
    for i in range(2):
        state, experience = COLLECT(state)
        built = state.curriculum.teacher.interaction.env_state.built
        for agent in (state.agent, state.curriculum.antagonist):
            np.testing.assert_array_equal(agent.interaction.env_state.level.walls, built.walls)
        for one in range(NUM_ENVS):
            maze.check(jax.tree.map(lambda x: x[one], built))  # noqa: B023
        assert state.curriculum.teacher.task.horizon == 20
        state, metrics = LEARN(state, experience)
        assert metrics["env_steps"] == 2 * NUM_ENVS * NUM_STEPS  # of both students
        assert state.curriculum.teacher.step == state.curriculum.antagonist.step == i + 1
    for agent in ("teacher", "antagonist"):
        old, new = (getattr(x.curriculum, agent).params for x in (before, state))
        assert any((x != y).any() for x, y in zip(*map(jax.tree.leaves, (old, new)), strict=True))


def test_what_follows_the_last_edit_is_not_bootstrapped_from():
    """JaxUED adds the value of the next level's first observation to the final regret."""
    state, experience = COLLECT(BEGIN())
    state, experience = state.curriculum.teacher, experience.extras.draw.lesson.teacher
    estimate = jax.jit(lambda seen: TEACHER.estimate(state, HYPERS.curriculum.teacher, seen))
    for regret in ([0.5, -0.25, 0.0], [0.0, 0.0, 1.0]):
        paid = paired.pay(experience, jnp.array(regret))
        found = estimate(paid)
        np.testing.assert_allclose(found.target, np.broadcast_to(regret, (5, 3)), atol=1e-5)


def test_no_edit_of_a_hundred_thousand_is_illegal():
    """JaxUED computes the mask and does not apply it."""
    builder = Builder(FlattenObservation(MazeEditor(4, num_walls=5)), noise_size=2)
    config = ppo.Config(num_envs=2000, num_steps=8, num_minibatches=1, hidden=(4,))
    teacher = ppo.make(config, builder)

    state = jax.jit(lambda: teacher.init(KEY, ppo.Hypers(), Task(builder.default_params, 1)))()
    collect = jax.jit(lambda state: teacher.collect(state, ppo.Hypers()))
    steep = jax.tree.map(lambda x: 30 * x, state.params)  # also where it is sure of itself
    num_edits, built = 0, []
    for params in (state.params, steep, *[state.params] * 5):
        state, experience = collect(state._replace(params=params))
        seen = jax.device_get(experience.transitions)
        legal = np.take_along_axis(seen.obs[..., -16:], seen.action[..., None], -1)
        assert (legal == 1).all()
        num_edits += legal.size
        built.append(state.interaction.env_state.built)
    assert num_edits > 1e5
    levels = jax.tree.map(lambda *x: np.concatenate(x), *jax.device_get(built))
    cells = np.arange(levels.walls.shape[0])
    assert not levels.walls[cells, *levels.goal_pos.T].any()
    assert not levels.walls[cells, *levels.agent_pos.T].any()
    assert (levels.agent_pos != levels.goal_pos).any(1).all()
    assert len(np.unique(np.asarray(levels.walls).reshape(len(cells), -1), axis=0)) > 1000


def test_the_teacher_sees_other_random_numbers_for_every_level():
    """JaxUED's are 0 unless one asks for zeros."""
    state, noise = BEGIN(), []
    for _ in range(2):
        state, experience = COLLECT(state)
        noise.append(np.asarray(experience.extras.draw.lesson.teacher.transitions.obs[..., :4]))
    noise = np.stack(noise)
    assert (noise == noise[:, :1]).all()  # the same during an episode
    assert len(np.unique(noise[:, 0].reshape(-1, 4), axis=0)) == 2 * NUM_ENVS
    assert (abs(noise) <= 1).all() and abs(noise).min() > 0


def experience_of(reward, done):
    reward, done = np.array(reward, np.float32).T, np.array(done, bool).T
    return Experience(Transition((), (), reward, done, done & False, (), (), (), ()), {})


def test_returns_below_0_stay_below_0_and_an_unfinished_episode_has_none():
    """minimax's highest return is at least 0; its regret and DCD's are, too."""
    found = paired.returns_of(experience_of(
        [[-1, -2, -5, 9], [-3, 0, 0, 0], [1, 1, 1, 1]],
        [[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
    ))  # fmt: skip
    np.testing.assert_array_equal(found.best, [-3, -3, np.nan])
    np.testing.assert_array_equal(found.mean, [-4, -3, np.nan])
    ends = experience_of([[0, 0], [0, 0], [0, 0]], [[0, 1]] * 3)
    paid = paired.pay(ends, jnp.array([-2.0, 3.0, jnp.nan])).transitions.reward
    np.testing.assert_array_equal(paid, [[0, 0, 0], [-2, 3, 0]])


@pytest.mark.slow
def test_a_teacher_with_a_memory_begins_anew_with_every_level():
    config = ppo_rnn.Config(NUM_ENVS, 5, num_minibatches=1, hidden=(4,), memory_size=4)
    teacher, hypers = ppo_rnn.make(config, BUILDER), ppo.Hypers()
    compose(teacher=teacher)
    state = teacher.init(KEY, hypers, Task(BUILDER.default_params, 1))
    collect = jax.jit(lambda state: teacher.collect(state, hypers))
    for _ in range(2):
        state, experience = collect(state)
        first = experience.transitions.first
        assert first[0].all() and not first[1:].any()


def test_it_can_be_resumed_and_what_it_costs_is_known():
    assert all(map(is_named, WHOLE.made_of)) and WHOLE.steps_per_update is None
    assert paired.curriculum(TEACHER, STUDENT, ENV, BUILDER).extra_steps == NUM_ENVS * NUM_STEPS
    state = BEGIN()
    diverged = state.curriculum.teacher._replace(params=jnp.nan)
    state = state._replace(curriculum=state.curriculum._replace(teacher=diverged))
    losses = {"policy_loss": 0.0, "value_loss": 0.0}
    assert any(np.isnan(x).any() for x in jax.tree.leaves(WHOLE.vital(state, losses)))


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="builder: OwnLevel is not valid; it must be a Builder"):
        compose(builder=ENV)
    with pytest.raises(ValueError, match="env: Maze is not valid; its steps must return the level"):
        Builder(FlattenObservation(maze.Maze()))
    with pytest.raises(ValueError, match="action_space: MaskedDiscrete.* illegal at times"):
        a2c.make(a2c.Config(), BUILDER)
    with pytest.raises(ValueError, match="normalize_obs: True is not valid; .* legal"):
        ppo.make(ppo.Config(normalize_obs=True), BUILDER)
    other = Builder(FlattenObservation(MazeEditor(SIZE, num_walls=3)))
    with pytest.raises(ValueError, match="teacher: it must be made with the builder"):
        compose(builder=other)
    short = ppo.make(ppo.Config(NUM_ENVS, 5, num_minibatches=1), other)
    with pytest.raises(ValueError, match="teacher: 15 steps .* must be 6, which a level takes"):
        compose(builder=other, teacher=short)
    scaled = ppo.make(replace(TEACHES, normalize_reward=True), BUILDER)
    with pytest.raises(ValueError, match="teacher: normalize_reward=True is not valid"):
        compose(teacher=scaled)
    with pytest.raises(ValueError, match="teacher: algos.ppo .* PAIRED needs its `estimate`"):
        compose(teacher=TEACHER._replace(estimate=None))
    with pytest.raises(ValueError, match="antagonist: algos.ppo is not valid; it writes replay"):
        compose(antagonist=STUDENT._replace(in_place=("replay",)))
    with pytest.raises(ValueError, match="antagonist: 2 environments are not valid; .* 3"):
        compose(antagonist=STUDENT._replace(num_envs=2))
    curriculum = paired.curriculum(TEACHER, STUDENT, ENV, BUILDER)
    with pytest.raises(ValueError, match="its teacher learns .* which evolution cannot provide"):
        require_curriculum(curriculum, "evolution", NUM_ENVS, {"returns", "best_return"})
    with pytest.raises(ValueError, match="its teacher makes 3 levels at a time, and a student"):
        config = ppo.Config(num_envs=4, num_steps=20, num_minibatches=1)
        students.make(ppo.make(config, ENV), ENV, curriculum)
