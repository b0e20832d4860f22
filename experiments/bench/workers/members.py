"""Train many members of PPO on CartPole by the runner, and time what the host does beside.

Arguments: members, updates of a chunk, chunks, folder.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import json
import sys
import time
from pathlib import Path

import jax
from timing import resources

import envs
from algos import ppo
from purejaxrl.running import checkpoint, chunk
from purejaxrl.running.metrics import read_metrics
from purejaxrl.running.options import RunOptions
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import run


def seconds_of(function, *arguments, **options):
    """Call a function; return its seconds, and its result."""
    began = time.perf_counter()
    result = jax.block_until_ready(function(*arguments, **options))
    return time.perf_counter() - began, result


def size_of(folder: Path) -> float:
    """Return the MB of a folder's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


members, length, chunks, folder = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
env, env_params = envs.make("CartPole-v1")
algorithm = ppo.make(ppo.Config(), env)
population = populate(seeds(members), ppo.Hypers(), env_params)
plan = chunk.plan_for(algorithm, population)
start_s, carry = seconds_of(chunk.start, algorithm, population, plan, chunks * length)
compile_s, program = seconds_of(chunk.compile_chunk, algorithm, population, plan, length, carry)
carry, _ = program(length, carry)
device = [seconds_of(program.chunk, length, program.shared, one, own) for one, own in zip(
    carry, program.own, strict=True
)]  # fmt: skip
carry = [after for _, (after, _) in device]
save_s, _ = seconds_of(checkpoint.save, Path(folder) / "saved", program.gather(carry))
load_s, _ = seconds_of(checkpoint.load, Path(folder) / "saved", chunk.abstract(
    algorithm, population, False
))  # fmt: skip
del carry


def train(name: str, num_chunks: int) -> float:
    """Train by the runner; the only checkpoint is at the end."""
    options = RunOptions(
        str(Path(folder) / name), chunk=length, checkpoint_every=10**6, eval_every=0, progress=False
    )
    return seconds_of(run, algorithm, population, num_chunks * length, options)[0]


short = train("short", 1)
each_s = (train("long", 1 + chunks) - short) / chunks
out = Path(folder) / "long"
read_s, frame = seconds_of(read_metrics, out)
device_s = sum(seconds for seconds, _ in device)
print(
    json.dumps(
        {
            "ms_per_member_update": 1e3 * each_s / (members * length),
            "host_share": 1 - device_s / each_s,
            "start_s": start_s,
            "compile_s": compile_s,
            "save_s": save_s,
            "load_s": load_s,
            "checkpoint_mb": size_of(Path(folder) / "saved"),
            "metrics_mb": size_of(out / "metrics"),
            "rows": len(frame),
            "read_s": read_s,
        }
        | resources()
    )
)
