"""Pictures of gymnax's environments: `render(state, params) -> uint8 [height, width, 3]`.

gymnax draws classic control through Gymnasium and pygame, and returns figures elsewhere. Here its
classes are extended by a `render` like that of our own environments, and a `legend` that says what
the colours mean.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from gymnax.environments.bsuite import catch, deep_sea
from gymnax.environments.classic_control import (
    acrobot,
    cartpole,
    continuous_mountain_car,
    mountain_car,
    pendulum,
)
from gymnax.environments.minatar import asterix, breakout, freeway, seaquest, space_invaders
from gymnax.environments.misc import meta_maze, point_robot, pong, rooms
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
Render = Callable[[Any, Any, Any], np.ndarray]
"""(env, state, params) -> picture, uint8 `[height, width, 3]`."""

PAPER, INK, GREY = (250, 250, 248), (45, 50, 60), (190, 192, 196)
BLUE, RED, GREEN, ORANGE = (50, 100, 220), (215, 65, 55), (60, 160, 80), (230, 150, 40)
NIGHT = (24, 26, 32)
PALETTE = (
    BLUE, ORANGE, (110, 200, 120), (225, 85, 80), (165, 125, 225),
    (90, 200, 215), (240, 130, 190), (150, 160, 60), (200, 200, 205), (245, 225, 90),
)  # fmt: skip
"""Colours of an observation's planes."""


class Canvas:
    """Shapes in the units of an environment, drawn at twice the size and then reduced."""

    def __init__(self, x: Point, y: Point, width: int = 360):
        """Show the rectangle from `x[0]` to `x[1]` and `y[0]` to `y[1]`, `width` pixels wide."""
        self.left, self.top, self.scale = x[0], y[1], 2 * width / (x[1] - x[0])
        size = round((x[1] - x[0]) * self.scale), round((y[1] - y[0]) * self.scale)
        self.picture = Image.new("RGB", size, PAPER)
        self.draw = ImageDraw.Draw(self.picture)

    def pixels(self, points: Sequence[Point]) -> list[Point]:
        """Positions of points in the picture."""
        return [((x - self.left) * self.scale, (self.top - y) * self.scale) for x, y in points]

    def line(self, points: Sequence[Point], colour: Colour, width: float) -> None:
        """Draw a line with round ends."""
        self.draw.line(self.pixels(points), colour, round(width * self.scale), joint="curve")
        for end in (points[0], points[-1]):
            self.disc(end, width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        ((x, y),), r = self.pixels([centre]), radius * self.scale
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        """Draw a filled rectangle."""
        (x0, y0), (x1, y1) = self.pixels([(left, top), (right, bottom)])
        self.draw.rectangle((min(x0, x1), y0, max(x0, x1), y1), fill=colour)

    def array(self) -> np.ndarray:
        """Return the picture, uint8 `[height, width, 3]`."""
        return np.asarray(self.picture.reduce(2))


def draw_cart_pole(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw the cart, its pole, and the positions at which an episode ends."""
    limit = float(params.x_threshold)
    canvas = Canvas((-1.15 * limit, 1.15 * limit), (-0.5, 1.5))
    x, theta, length = float(state.x), float(state.theta), 2 * float(params.length)
    canvas.line([(-limit, 0), (limit, 0)], GREY, 0.02)
    for end in (-limit, limit):
        canvas.line([(end, -0.15), (end, 0.15)], RED, 0.03)
    canvas.box(x - 0.3, -0.15, x + 0.3, 0.15, INK)
    canvas.line([(x, 0.15), (x + length * np.sin(theta), 0.15 + length * np.cos(theta))], BLUE, 0.1)
    return canvas.array()


def draw_acrobot(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw the two links, and the height that the tip has to reach."""
    canvas = Canvas((-2.3, 2.3), (-2.3, 2.3), width=300)
    first = float(state.joint_angle1)
    second = first + float(state.joint_angle2)
    elbow = np.sin(first), -np.cos(first)
    tip = elbow[0] + np.sin(second), elbow[1] - np.cos(second)
    canvas.line([(-2.3, 1), (2.3, 1)], GREEN, 0.03)
    canvas.line([(0, 0), elbow], INK, 0.16)
    canvas.line([elbow, tip], BLUE, 0.16)
    for joint in ((0, 0), elbow):
        canvas.disc(joint, 0.12, ORANGE)
    return canvas.array()


def draw_pendulum(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw the pendulum, and below it the last torque."""
    canvas = Canvas((-1.4, 1.4), (-1.5, 1.3), width=300)
    theta = float(state.theta)
    canvas.line([(0, 0), (-np.sin(theta), np.cos(theta))], BLUE, 0.16)
    canvas.disc((0, 0), 0.06, INK)
    torque = float(np.squeeze(state.last_u)) / float(params.max_torque)
    canvas.box(-1, -1.38, 1, -1.34, GREY)
    canvas.box(0, -1.42, -torque, -1.3, ORANGE)
    return canvas.array()


def draw_mountain_car(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw the valley, the car and the flag."""
    low, high = float(params.min_position), float(params.max_position)

    def ground(x: Any) -> Any:
        return 0.45 * np.sin(3 * x) + 0.55

    canvas = Canvas((low - 0.05, high + 0.05), (0, 1.25))
    x = np.linspace(low, high, 120)
    canvas.line(list(zip(x, ground(x), strict=True)), INK, 0.012)
    goal, car = float(params.goal_position), float(state.position)
    canvas.line([(goal, ground(goal)), (goal, ground(goal) + 0.16)], INK, 0.01)
    canvas.box(goal, ground(goal) + 0.1, goal + 0.07, ground(goal) + 0.16, GREEN)
    canvas.disc((car, ground(car) + 0.04), 0.035, RED)
    return canvas.array()


def draw_point_robot(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw the half circle of goals, the goal and the robot."""
    canvas = Canvas((-1.5, 1.5), (-0.6, 1.5))
    angle = np.linspace(0, np.pi, 60)
    canvas.line(list(zip(np.cos(angle), np.sin(angle), strict=True)), GREY, 0.02)
    canvas.disc(tuple(np.asarray(state.goal)), float(params.goal_radius), GREEN)
    canvas.disc(tuple(np.asarray(state.pos)), 0.06, RED)
    return canvas.array()


def draw_rooms(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw walls, the goal and the agent from above."""
    cells = np.where(np.asarray(env.occupied_map)[..., None], INK, PAPER).astype(np.uint8)
    cells[tuple(np.asarray(state.goal))] = GREEN
    cells[tuple(np.asarray(state.pos))] = RED
    return _enlarge(cells)


def draw_planes(env: Any, state: Any, params: Any) -> np.ndarray:
    """Draw an observation `[rows, columns]` or `[rows, columns, planes]`, one colour per plane."""
    obs = np.asarray(env.observe(jax.random.key(0), state, None, params))
    planes = obs if obs.ndim == 3 else obs[..., None]
    cells = np.full((*planes.shape[:2], 3), NIGHT, np.uint8)
    for plane, colour in zip(np.moveaxis(planes, -1, 0), PALETTE, strict=False):
        cells[plane > 0] = colour
    return _enlarge(cells)


def _enlarge(cells: np.ndarray) -> np.ndarray:
    """Enlarge a picture of cells to at most 300 pixels, where it is smaller."""
    tile = max(1, 300 // max(cells.shape[:2]))
    return cells.repeat(tile, axis=0).repeat(tile, axis=1)


def planes(*names: str) -> dict[str, Colour]:
    """Legend of an observation's planes; a plane without a name is left out."""
    return {name: colour for name, colour in zip(names, PALETTE, strict=False) if name}


def drawn(kind: type, render: Render, legend: Mapping[str, Colour] | None = None) -> type:
    """Extend a class of gymnax's by `render` and `legend`; it keeps its name."""
    added = {"render": render, "legend": legend or {}, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), added | {"__module__": kind.__module__})


ROOMS = {"agent": RED, "goal": GREEN, "wall": INK}

DRAWN: dict[str, type] = {
    "CartPole-v1": drawn(cartpole.CartPole, draw_cart_pole, {"the episode ends here": RED}),
    "Acrobot-v1": drawn(acrobot.Acrobot, draw_acrobot, {"height to reach": GREEN}),
    "Pendulum-v1": drawn(pendulum.Pendulum, draw_pendulum, {"torque": ORANGE}),
    "MountainCar-v0": drawn(mountain_car.MountainCar, draw_mountain_car),
    "MountainCarContinuous-v0": drawn(
        continuous_mountain_car.ContinuousMountainCar, draw_mountain_car
    ),
    "Asterix-MinAtar": drawn(
        asterix.MinAsterix, draw_planes, planes("player", "enemy", "trail", "gold")
    ),
    "Breakout-MinAtar": drawn(
        breakout.MinBreakout, draw_planes, planes("paddle", "ball", "trail", "brick")
    ),
    "Freeway-MinAtar": drawn(
        freeway.MinFreeway,
        draw_planes,
        planes("chicken", "car", "fastest", "fast", "medium", "slow", "slowest"),
    ),
    "Seaquest-MinAtar": drawn(
        seaquest.MinSeaquest,
        draw_planes,
        planes(
            "submarine", "its stern", "bullet", "trail", "enemy bullet", "fish", "enemy submarine",
            "oxygen", "divers aboard", "diver",
        ),
    ),
    "SpaceInvaders-MinAtar": drawn(
        space_invaders.MinSpaceInvaders,
        draw_planes,
        planes("cannon", "", "alien, goes left", "alien, goes right", "bullet", "enemy bullet"),
    ),
    "Catch-bsuite": drawn(catch.Catch, draw_planes),
    "DeepSea-bsuite": drawn(deep_sea.DeepSea, draw_planes),
    "Pong-misc": drawn(pong.Pong, draw_planes),
    "FourRooms-misc": drawn(rooms.FourRooms, draw_rooms, ROOMS),
    "MetaMaze-misc": drawn(meta_maze.MetaMaze, draw_rooms, ROOMS),
    "PointRobot-misc": drawn(
        point_robot.PointRobot, draw_point_robot, {"robot": RED, "goal": GREEN}
    ),
}  # fmt: skip
"""gymnax's environments that have pictures, by name."""
