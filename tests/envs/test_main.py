import jax
import numpy as np
import pytest
from PIL import Image

import envs
from envs import gallery
from envs.__main__ import Settings, main


def test_the_names_are_listed(capsys):
    main(Settings())
    assert capsys.readouterr().out.split() == list(envs.names())


def test_an_environment_is_shown_and_its_levels_are_drawn(tmp_path, capsys):
    out = tmp_path / "new" / "levels.png"
    main(Settings("gridworld-small", levels=3, out=out))
    text = capsys.readouterr().out
    assert "Discrete(5" in text and "respawn_prob" in text
    assert np.asarray(Image.open(out)).std() > 0


def test_an_environment_without_pictures_is_shown(tmp_path, capsys):
    main(Settings("bandit-bernoulli", out=tmp_path / "levels.png"))
    assert "env.optimal_return" in capsys.readouterr().out
    assert not (tmp_path / "levels.png").exists()


def test_a_misspelt_name_is_answered_with_a_suggestion(capsys):
    with pytest.raises(SystemExit) as stop:
        main(Settings("gridworld-smal"))
    assert stop.value.code == 2 and "gridworld-small" in capsys.readouterr().out


def test_a_rollout_becomes_a_gif(tmp_path):
    env, params = envs.make("maze-25")
    gallery.gif(env, params, tmp_path / "maze.gif", num_steps=5, act=lambda obs, key: 2)
    with Image.open(tmp_path / "maze.gif") as picture:
        state = env.reset(jax.random.key(0), params)[1]
        height, width, _ = env.render(state, params).shape
        assert picture.size == (width, height) and picture.n_frames >= 1
