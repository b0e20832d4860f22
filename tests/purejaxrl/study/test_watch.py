import jax
import numpy as np
import pytest
from PIL import Image

import envs
from algos import ppo
from purejaxrl.algorithm import Task
from purejaxrl.parts.wrappers import Wrapper
from purejaxrl.running import commandline
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.watch import (
    Episodes,
    Settings,
    captions,
    frame,
    main,
    play,
    watch,
)
from tests.helpers import ENV, ENV_PARAMS, PPO, assert_equal, population, train

STEPS = 30


@pytest.fixture(scope="module")
def state():
    task = Task(ENV_PARAMS, np.int32(1))
    return jax.jit(PPO.init)(jax.random.key(0), ppo.Hypers(), task)


def test_an_agent_plays_with_auto_reset(state):
    """CartPole pays 1 a step, and here an episode has at most seven."""
    params = ENV_PARAMS.replace(max_steps_in_episode=7)
    episodes = jax.jit(lambda state: play(PPO, ENV, state, params, num_steps=STEPS))(state)
    assert episodes.reward.tolist() == [1.0] * STEPS
    time = np.asarray(episodes.env_state.time)
    assert time.tolist() == [step % 7 for step in range(STEPS)]
    assert np.flatnonzero(episodes.done).tolist() == [6, 13, 20, 27]


def test_captions_count_episodes_steps_and_returns():
    done = np.array([False, True, False])
    texts = captions(Episodes(None, np.array([0.5, 1.0, 2.0]), done))
    assert texts == [
        "episode 1   step 0   return 0",
        "episode 1   step 1   return 0.5",
        "episode 2   step 0   return 0",
    ]


def test_a_gif_has_a_frame_for_every_step(state, tmp_path):
    path = watch(PPO, ENV, state, ENV_PARAMS, tmp_path / "new" / "a=0.1", num_steps=STEPS)
    assert path == tmp_path / "new" / "a=0.1.gif"
    with Image.open(path) as picture:
        assert picture.n_frames == STEPS
        assert np.asarray(picture.convert("RGB")).std() > 0


def test_a_legend_is_written_below_the_picture():
    picture = np.full((40, 360, 3), 250, np.uint8)
    bare, explained = frame(picture, "text"), frame(picture, "text", {"agent": (1, 2, 200)})
    assert bare.width == explained.width == 360
    assert explained.height > bare.height
    pixels = np.asarray(explained).reshape(-1, 3).tolist()
    assert [1, 2, 200] in pixels and [1, 2, 200] not in np.asarray(bare).reshape(-1, 3).tolist()


def test_small_pictures_are_enlarged():
    assert frame(np.zeros((10, 20, 3), np.uint8), "").width == 360


def test_an_environment_with_a_viewer_becomes_a_page(state, tmp_path):
    class Viewed(Wrapper):
        def render_html(self, states):
            return f"{len(states)} states"

    path = watch(PPO, Viewed(ENV), state, ENV_PARAMS, tmp_path / "page", num_steps=STEPS)
    assert path.name == "page.html" and path.read_text() == f"{STEPS} states"


def test_an_environment_that_cannot_draw_itself_is_refused_by_name(tmp_path):
    env, params = envs.make("bandit-gaussian")
    with pytest.raises(ValueError, match="env: 'gaussian_bandit' cannot be watched"):
        watch(PPO, env, None, params, tmp_path / "x")


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(out, 2, members=2)
    job = commandline.Job(PPO, ENV_PARAMS, 2, ENV)
    return commandline.Plan(None, job, population(2), RunOptions(str(out)), ())


def test_the_command_writes_a_gif_of_the_member(plan, monkeypatch):
    monkeypatch.setattr(commandline, "rebuild", lambda out: plan)
    main(Settings(plan.options.folder, member="seed=1", steps=5))
    with Image.open(plan.options.folder / "watch-seed=1.gif") as picture:
        assert picture.n_frames == 5


def test_members_are_loaded_from_the_checkpoint(plan):
    result = train(plan.options.folder, 2, members=2, resume=True)
    states, alive = commandline.load_members(plan)
    assert_equal(jax.tree.map(lambda x: x[1], states), result.member(1))
    np.testing.assert_array_equal(alive, result.alive)


def test_an_unknown_member_is_refused_with_a_suggestion(plan, monkeypatch):
    monkeypatch.setattr(commandline, "rebuild", lambda out: plan)
    with pytest.raises(ValueError, match="unknown member 'seed=7'; did you mean: seed="):
        main(Settings(plan.options.folder, member="seed=7"))


def test_a_run_without_an_environment_cannot_be_watched(plan, monkeypatch):
    blind = plan._replace(job=plan.job._replace(env=None))
    monkeypatch.setattr(commandline, "rebuild", lambda out: blind)
    with pytest.raises(ValueError, match="without an environment to watch"):
        main(Settings(plan.options.folder))


def test_steps_are_positive():
    with pytest.raises(ValueError, match="steps: 0 is not valid"):
        Settings("run", steps=0)
