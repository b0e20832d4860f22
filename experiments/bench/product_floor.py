"""How much of an update of DQN, PQN and SAC is products of matrices, which are anybody's.

An update of a population's member is timed, and beside it the bare products of the same shapes: a
network read on a batch, and read with the gradients of its weights and of what lies between its
layers. Nothing exact can be faster by more than the ratio. One CPU core; compile time apart.

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
import numpy as np
import pandas as pd
from processes import write_table

import envs
from algos import dqn, pqn, sac
from purejaxrl.algorithm import Algorithm, make_train
from purejaxrl.launch import command
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
    """An algorithm, and the products of one of its updates."""

    name: str
    env: str
    make: Callable[[Any], Algorithm]
    hypers: Any
    members: int
    updates: int
    products: tuple[Products, ...]


DQN_NET, PQN_NET, CRITIC, ACTOR = (4, 120, 84, 2), (4, 256, 256, 2), (4, 64, 64, 1), (3, 64, 64, 2)
CASES = (
    Case(
        "DQN, not double", "CartPole-v1",
        lambda env: dqn.make(dqn.Config(warmup_steps=1_000, double=False), env), dqn.Hypers(), 16,
        1_000, (Products(1, 128, DQN_NET, True), Products(1, 128, DQN_NET)),
    ),
    Case(
        "PQN", "CartPole-v1", lambda env: pqn.make(pqn.Config(), env), pqn.Hypers(), 16, 4,
        (Products(64, 128, PQN_NET, True), Products(64, 32, PQN_NET), Products(1, 2048, PQN_NET)),
    ),
    Case(
        "SAC", "Pendulum-v1",
        lambda env: sac.make(sac.Config(capacity=50_000, hidden=(64, 64)), env), sac.Hypers(), 4,
        400,
        (  # critics, targets, actor, next actions; critics in the actor's loss, and back through
            Products(8, 256, CRITIC, True), Products(8, 256, CRITIC),
            Products(4, 256, ACTOR, True), Products(4, 256, ACTOR), Products(16, 256, CRITIC),
        ),
    ),
)  # fmt: skip
"""Settings are those of `off_policy_throughput.py`; the products of acting are left out of DQN."""


def median_seconds(function: Callable, args: tuple, repeats: int) -> float:
    """Run once to compile and warm up, then take the median of timed runs."""
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))


def seconds_of_update(case: Case, repeats: int) -> float:
    """Time an update of one member, among the others."""
    env, level = envs.make(case.env)
    train = make_train(case.make(for_network(env)), case.updates)
    who = populate(seeds(case.members), case.hypers, level)
    args = who.keys, who.hypers, who.env_params
    return median_seconds(jax.jit(jax.vmap(train)), args, repeats) / case.updates / case.members


def seconds_of_products(products: Products, repeats: int, count: int = 500) -> float:
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

    many = jax.jit(lambda carry: jax.lax.fori_loop(0, count, step, carry))
    return products.times * median_seconds(many, ((weights, x),), repeats) / count


def main(settings: Settings) -> None:
    rows = []
    for case in CASES:
        update = seconds_of_update(case, settings.repeats)
        bare = sum(seconds_of_products(one, settings.repeats) for one in case.products)
        rows.append({
            "case": case.name, "members": case.members, "update_us": round(1e6 * update, 1),
            "products_us": round(1e6 * bare, 1), "ratio": round(update / bare, 2),
        })  # fmt: skip
    write_table(pd.DataFrame(rows), settings.out)


if __name__ == "__main__":
    command(main, Settings)
