"""Measure how many tokens a second GRPO samples and learns from, for populations of any size.

A row is a population: tokens a second of generation with its verification alone, and of whole
updates. `over_loop` compares the whole updates with a loop over members, one after the other, each
on one device. The last line is the share of an update that the processor spends in matrix products,
from a profile of one member.

python experiments/bench/token_throughput.py
python experiments/bench/token_throughput.py --members 1 16 --repeats 3
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import gzip
import json
import re
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd
from processes import write_table

import envs
from algos import grpo, token_policy
from algos.objectives import OBJECTIVES
from purejaxrl.algorithm import Algorithm, Task, update
from purejaxrl.launch import command, say
from purejaxrl.running import chunk
from purejaxrl.running.population import populate, seeds
from purejaxrl.validation import require_count, require_counts


@dataclass(frozen=True)
class Settings:
    """What to measure."""

    task: str = "token-countdown"
    """Token task."""
    members: tuple[int, ...] = (1, 16, 64)
    """Sizes of populations; the first is what a loop runs."""
    repeats: int = 5
    """Timed chunks; the fastest counts, because other processes only slow one down."""
    agent: grpo.Config = grpo.Config()
    """Static settings."""
    out: Path = Path("results/bench")
    """Folder for the table."""

    def __post_init__(self):
        require_counts(self, "members")
        require_count(self, "repeats")


def generation_only(algorithm: Algorithm) -> Algorithm:
    """Make an algorithm that samples and verifies, and learns nothing."""

    def learn(state, hypers, experience):
        count = {"env_steps": experience.num_tokens, "episodes": jnp.int32(0)}
        return state, count | experience.first_try

    return algorithm._replace(learn=learn, vital=lambda state, metrics: metrics["return"])


def tokens_per_second(
    algorithm: Algorithm, hypers: grpo.Hypers, levels: object, members: int, repeats: int
) -> float:
    """Time chunks of a population under the runner's program; about 32 updates each."""
    who = populate(seeds(members), hypers, levels, shared=("start",))
    plan, length = chunk.plan_for(algorithm, who), max(1, 32 // members)
    carry = chunk.start(algorithm, who, plan, length)
    program = chunk.compile_chunk(algorithm, who, plan, length, carry)
    carry, _ = program(length, carry)
    fastest = 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        carry, metrics = program(length, carry)
        seconds = time.perf_counter() - began
        fastest = max(fastest, float(metrics["env_steps"].sum()) / seconds)
    return fastest


def share_in_products(algorithm: Algorithm, hypers: grpo.Hypers, levels: object) -> float:
    """Profile updates of one member; loops and calls, which contain other operations, are left out.

    An operation is a matrix product if it is a `dot`, or a fusion that is named after one.
    """
    step = jax.jit(lambda state: update(algorithm, state, hypers)[0])
    state = algorithm.init(jax.random.key(0), hypers, Task(levels, jnp.int32(10)))
    compiled = step.lower(state).compile()
    state = compiled(state)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(5):
                state = jax.block_until_ready(compiled(state))
        (path,) = Path(folder).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    seconds = Counter()
    for event in events:
        operation = event.get("args", {}).get("hlo_op")
        if operation and not re.match("while|call|conditional", operation):
            seconds[operation] += event["dur"]
    defined = r"^ *(?:ROOT )?%?([\w.-]+) = \S+ ([\w-]+)\((.*)$"
    products = {
        name
        for name, kind, rest in re.findall(defined, compiled.as_text(), flags=re.M)
        if kind == "dot" or "dot_general" in rest
    }
    return sum(seconds[name] for name in products) / sum(seconds.values())


def main(settings: Settings) -> None:
    env, _ = envs.make(settings.task)
    levels = jax.tree.map(jnp.asarray, env.levels)
    network = token_policy.make_network(settings.agent, env)
    algorithm = grpo.make(settings.agent, env)
    start = token_policy.init_params(jax.random.key(0), network)
    hypers = grpo.Hypers(start, OBJECTIVES["grpo"].coefs)
    rows = []
    for members in settings.members:
        both = [
            tokens_per_second(one, hypers, levels, members, settings.repeats)
            for one in (generation_only(algorithm), algorithm)
        ]
        loop = rows[0]["updates"] if rows else both[1]
        rows.append({"members": members, "generation": both[0], "updates": both[1],
                     "over_loop": both[1] / loop})  # fmt: skip
        say(f"{members} members: {both[0]:,.0f} tokens/s sampled, {both[1]:,.0f} trained")
    write_table(pd.DataFrame(rows), settings.out / "token_throughput.csv")
    share = share_in_products(algorithm, hypers, levels)
    say(f"{share:.0%} of an update's time is in matrix products")


if __name__ == "__main__":
    command(main, Settings)
