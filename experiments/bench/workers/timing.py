"""Time a compiled training function; imported by every worker, whatever environment it runs in."""

import json
import resource
import sys
import time

import jax
from jax.sharding import AxisType, PartitionSpec


def measure(function, args, env_steps: int, repeats: int) -> None:
    """Compile, run once to warm up, then time; print one JSON line.

    Args:
        function: jitted.
        args: its arguments.
        env_steps: environment steps that one call makes, over all members.
        repeats: timed calls.
    """
    began = time.perf_counter()
    compiled = function.lower(*args).compile()
    compile_s = time.perf_counter() - began
    jax.block_until_ready(compiled(*args))
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"compile_s": compile_s, "seconds": seconds, "env_steps": env_steps, "peak_mb": peak}
    json.dump(result, sys.stdout)


def measure_over_cores(play, num_envs: int, num_steps: int, repeats: int) -> None:
    """Time a peer's environments, laid over the cores as ours are.

    Args:
        play: of keys `[n]`, that many environments for `num_steps`; returns `[n, ...]`.
        num_envs, num_steps: how many in all, and how long.
        repeats: timed calls.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("envs",), axis_types=(AxisType.Auto,))
    axis = PartitionSpec("envs")
    keys = jax.random.split(jax.random.key(0), num_envs)
    mapped = jax.shard_map(play, mesh=mesh, in_specs=axis, out_specs=axis, check_vma=False)
    measure(jax.jit(mapped), (keys,), num_envs * num_steps, repeats)


def arguments() -> tuple[str, int, int, int]:
    """Read (environment, members, updates, repeats) from the command line."""
    env, *numbers = sys.argv[1:5]
    return env, *map(int, numbers)
