"""How much of an update of DQN, PQN, SAC or trajectory diffusion is matrix products: a lower bound.

The update of one member of a population is timed, and so are bare matrix products of the same
shapes: forward passes of its networks on a batch, and forward and backward passes. No exact
implementation can be faster by more than the ratio of these times. The same is done for drawing
1,000 pieces of 16 steps from a diffusion model. It uses one CPU core, and leaves out compile time.

python experiments/bench/product_floor.py
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores(1)

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from processes import write_table
from workers.offline_data import ENV, ENV_PARAMS, make_dataset

import envs
from algos import dqn, pqn, sac
from algos import trajectory_diffusion as diffusion
from purejaxrl.algorithm import Algorithm, Task, make_train
from purejaxrl.launch import command
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import starts_of_pieces
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.population import populate, seeds
from purejaxrl.validation import require_count


@dataclass(frozen=True)
class Settings:
    """How to measure."""

    repeats: int = 5
    """Timed runs, after one run to warm up; medians are reported."""
    out: Path = Path("results/bench/product_floor.csv")
    """File for the table."""

    def __post_init__(self):
        require_count(self, "repeats")


class Products(NamedTuple):
    """A perceptron's products on a batch, and how often an update makes them."""

    times: int
    batch: int
    widths: tuple[int, ...]
    gradient: bool = False


class Case(NamedTuple):
    """What is timed, a function from the number of repeats to seconds, and its products."""

    name: str
    seconds: Callable[[int], float]
    products: tuple[Products, ...]


def median_seconds(function: Callable, args: tuple, repeats: int) -> float:
    """Run once to compile and warm up, then take the median of timed runs."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def update_of(
    env: str, make: Callable[[Any], Algorithm], hypers: Any, members: int, updates: int
) -> Callable[[int], float]:
    """Time an update of one member, when all members are vmapped."""

    def seconds(repeats: int) -> float:
        environment, level = envs.make(env)
        train = make_train(make(for_network(environment)), updates)
        who = populate(seeds(members), hypers, level)
        args = who.keys, who.hypers, who.env_params
        return median_seconds(jax.jit(jax.vmap(train)), args, repeats) / updates / members

    return seconds


def diffusion_update(repeats: int) -> float:
    """Time an update of a diffusion model."""
    dataset = make_dataset()
    starts = jnp.asarray(starts_of_pieces(dataset, DIFFUSION.length))
    train = make_train(diffusion.make(DIFFUSION, ENV), DIFFUSION_UPDATES)
    hypers = diffusion.Hypers(dataset=dataset, starts=starts)
    args = jax.random.key(0), hypers, ENV_PARAMS
    return median_seconds(jax.jit(train), args, repeats) / DIFFUSION_UPDATES


def diffusion_draw(repeats: int) -> float:
    """Time the drawing of pieces from a diffusion model of random weights."""
    algorithm = diffusion.make(DIFFUSION, ENV)
    hypers = diffusion.Hypers(dataset=make_dataset())
    begin = jax.jit(lambda: algorithm.init(jax.random.key(0), hypers, Task((), jnp.int32(1))))
    num_obs = ENV.observation_space(ENV_PARAMS).shape[0]

    @jax.jit
    def draw(key: jax.Array, model: diffusion.Model) -> jax.Array:
        return diffusion.draw_pieces(key, DIFFUSION, model, num_obs, PIECES, edm.Sampling())

    return median_seconds(draw, (jax.random.key(1), algorithm.policy(begin())), repeats)


DQN_NET, PQN_NET, CRITIC, ACTOR = (4, 120, 84, 2), (4, 256, 256, 2), (4, 64, 64, 1), (3, 64, 64, 2)
DIFFUSION, DIFFUSION_UPDATES, PIECES = diffusion.Config(), 200, 1_000
DENOISER, LEVEL = (102, *[256] * 7, 102), (16, 256)
"""Widths on pieces of 17 positions with 6 channels, and on the noise level."""
EVALUATIONS = 2 * edm.Sampling().num_steps - 1
"""Forward passes of the denoiser for one piece."""
CASES = (
    Case(
        "DQN, not double, 16 members",
        update_of(
            "CartPole-v1",
            lambda env: dqn.make(dqn.Config(warmup_steps=1_000, double=False), env), dqn.Hypers(),
            members=16, updates=1_000,
        ), (Products(1, 128, DQN_NET, True), Products(1, 128, DQN_NET)),
    ),
    Case(
        "PQN, 16 members",
        update_of(
            "CartPole-v1", lambda env: pqn.make(pqn.Config(), env), pqn.Hypers(), members=16,
            updates=4,
        ),
        (Products(64, 128, PQN_NET, True), Products(64, 32, PQN_NET), Products(1, 2048, PQN_NET)),
    ),
    Case(
        "SAC, 4 members",
        update_of(
            "Pendulum-v1",
            lambda env: sac.make(sac.Config(capacity=50_000, hidden=(64, 64)), env), sac.Hypers(),
            members=4, updates=400,
        ),
        (  # critics, targets, actor, next actions; critics in the actor's loss, and back through
            Products(8, 256, CRITIC, True), Products(8, 256, CRITIC),
            Products(4, 256, ACTOR, True), Products(4, 256, ACTOR), Products(16, 256, CRITIC),
        ),
    ),
    Case(
        "trajectory diffusion, an update", diffusion_update,
        tuple(Products(1, DIFFUSION.batch_size, net, True) for net in (DENOISER, LEVEL)),
    ),
    Case(
        "trajectory diffusion, 1,000 pieces", diffusion_draw,
        tuple(Products(EVALUATIONS, PIECES, net) for net in (DENOISER, LEVEL)),
    ),
)  # fmt: skip
"""Settings are those of `off_policy_throughput.py` and `trajectory_diffusion.py`. DQN's products of
acting are left out."""
PASSES = 500
"""How often the products of an update are made in a timed run."""


def seconds_of_products(products: Products, repeats: int) -> float:
    """Time the products of one update; each pass depends on the one before."""
    keys = jax.random.split(jax.random.key(0), len(products.widths))
    shapes = zip(products.widths, products.widths[1:], strict=False)
    weights = [0.1 * jax.random.normal(key, s) for key, s in zip(keys[1:], shapes, strict=True)]
    x = jax.random.normal(keys[0], (products.batch, products.widths[0]))

    def outputs(weights: list[jax.Array], x: jax.Array) -> jax.Array:
        for weight in weights:
            x = x @ weight
        return x

    def step(_: int, carry: tuple) -> tuple:
        weights, x = carry
        if products.gradient:
            slope = jax.grad(lambda w: 0.5 * (outputs(w, x) ** 2).sum())(weights)
            return jax.tree.map(lambda w, g: w - 1e-9 * g, weights, slope), x
        return weights, x + 1e-9 * outputs(weights, x)[:, :1]

    many = jax.jit(lambda carry: jax.lax.fori_loop(0, PASSES, step, carry))
    return products.times * median_seconds(many, ((weights, x),), repeats) / PASSES


def main(settings: Settings) -> None:
    rows = []
    for case in CASES:
        seconds = case.seconds(settings.repeats)
        bare = sum(seconds_of_products(one, settings.repeats) for one in case.products)
        rows.append({
            "case": case.name, "us": round(1e6 * seconds, 1),
            "products_us": round(1e6 * bare, 1), "ratio": round(seconds / bare, 2),
        })  # fmt: skip
    write_table(pd.DataFrame(rows), settings.out)


if __name__ == "__main__":
    command(main, Settings)
