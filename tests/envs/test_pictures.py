"""Pictures: what environments draw, the galleries of levels, and `python -m envs`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import envs
from envs.__main__ import Settings, describe, main
from envs.maze import ARROWS, Maze, from_text
from envs.rendering import DRAWN
from tests.envs.test_maze import LANDMARKS
from tests.helpers import mostly_slow

ENV = Maze()
RESET_ALIKE = {"Asterix-MinAtar", "Seaquest-MinAtar", "SpaceInvaders-MinAtar", "DeepSea-bsuite"}
RESET_ALIKE |= {"Pong-misc", "Breakout-MinAtar", "FourRooms-misc"}


def test_a_picture_shows_walls_goal_agent_and_what_it_sees():
    level = from_text(LANDMARKS.replace("A", "^"), size=7)
    _, state = ENV.reset(jax.random.key(0), level)
    image = ENV.render(state, level, tile=20)
    assert image.shape == (140, 140, 3) and image.dtype == np.uint8
    corners = image[2::20, 2::20].astype(int)  # of every cell: beside the agent's triangle
    seen = np.zeros((7, 7), bool)
    seen[:4, 1:6] = True
    red, green, _ = np.moveaxis(corners, -1, 0)
    assert green[3, 5] > 2 * red[3, 5]  # the goal
    kinds = [red[level.walls & seen], red[level.walls & ~seen]]
    floor = ~np.asarray(level.walls)
    floor[3, 5] = False
    kinds += [red[floor & seen], red[floor & ~seen]]
    assert [len(set(kind)) for kind in kinds] == [1] * 4  # each its own shade
    lit_wall, wall, lit_floor, dark_floor = (kind[0] for kind in kinds)
    assert lit_wall > wall > lit_floor > dark_floor


def test_the_agent_points_where_it_looks():
    masks = {}
    for arrow in ARROWS:
        level = from_text(LANDMARKS.replace("A", arrow), size=7)
        _, state = ENV.reset(jax.random.key(0), level)
        image = ENV.render(state, level, tile=20).astype(int)
        red = (image[..., 0] > 200) & (image[..., 1] < 100)
        masks[arrow] = red[60:80, 60:80]
        assert red.sum() == masks[arrow].sum() > 40  # nowhere else
    up = masks["^"]
    assert up[:10].sum() < up[10:].sum()  # the tip is above
    for turns, arrow in enumerate("^<v>"):
        np.testing.assert_array_equal(masks[arrow], np.rot90(up, turns))


def colours(picture):
    return {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}


def test_the_legend_of_freeway_calls_the_cars_that_move_most_often_the_fastest():
    """A car of speed v moves every |v| + 1 steps, and its trail is plane 1 + |v|."""
    env, params = envs.make("Freeway-MinAtar")
    _, state = env.reset(jax.random.key(0), params)
    cars = jnp.zeros((8, 4), jnp.int32).at[:, 1].set(jnp.arange(1, 9)).at[:, 3].set(1)
    state = state.replace(cars=cars.at[0, 3].set(5))
    moves = np.zeros(8, int)
    for i in range(12):
        before = np.asarray(state.cars[:, 0])
        _, state, *_ = env.step_env(jax.random.key(i), state, 0, params)
        moves += before != np.asarray(state.cars[:, 0])
    names = list(env.legend)
    assert moves[0] < moves[1] and names[2] == "fastest" and names[6] == "slowest"


def test_the_legend_has_the_colours_of_the_picture():
    for name in ("maze-25", "gridworld-small"):
        env, params = envs.make(name)
        _, state = env.reset(jax.random.key(0), params)
        shown = colours(env.render(state, params))
        assert {env.legend["agent"], env.legend["wall"]} <= shown
        assert len(set(env.legend.values())) == len(env.legend)
        assert "goal" not in env.legend or env.legend["goal"] in shown


QUICK = {"Asterix-MinAtar", "DeepSea-bsuite", "PointRobot-misc"}
"""One of a kind; the others are marked slow."""


@pytest.mark.parametrize("name", mostly_slow(DRAWN, QUICK))
def test_gymnax_environments_are_drawn_and_otherwise_as_they_were(name):
    env, params = envs.make(name)
    assert env.name == name
    first, second = (env.reset(jax.random.key(seed), params)[1] for seed in (0, 1))
    before, other = env.render(first, params), env.render(second, params)
    assert before.dtype == np.uint8 and before.ndim == 3 and before.shape[2] == 3
    assert 200 <= max(before.shape) <= 400
    assert len(colours(before)) > 1
    assert (before != other).any() or name in RESET_ALIKE


def test_the_names_are_listed_by_family(capsys):
    main(Settings())
    words = capsys.readouterr().out.split()
    assert set(envs.names()) <= set(words)
    assert words.index("MinAtar") < words.index("Breakout-MinAtar") < words.index("Brax")


def test_an_environment_is_shown_and_its_levels_are_drawn(tmp_path, capsys):
    out = tmp_path / "new" / "levels.png"
    main(Settings("gridworld-small", levels=3, out=out))
    text = capsys.readouterr().out
    assert "Discrete(5" in text and "respawn_prob" in text
    assert "of 36 true" in text and "False to True" not in text
    assert np.asarray(Image.open(out)).std() > 0


def test_arrays_are_described_by_their_values_or_their_range():
    assert describe(np.arange(3)) == "[0 1 2]"
    assert describe(np.arange(9)) == "from 0 to 8"
    assert describe(np.arange(9) < 2) == "2 of 9 true"


def test_an_environment_without_pictures_is_shown(tmp_path, capsys):
    main(Settings("bandit-bernoulli", out=tmp_path / "levels.png"))
    assert "optimum       is computed by envs/optimum.py" in capsys.readouterr().out
    assert not (tmp_path / "levels.png").exists()
