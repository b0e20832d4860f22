"""Time a compiled function; every worker imports this, so it needs nothing but JAX."""

import json
import resource
import sys
import time

import jax
from jax.sharding import AxisType, PartitionSpec


def measure(function, args, env_steps: int, repeats: int) -> None:
    """Compile, run once to warm up, then time; print the result as one JSON line.

    Args:
        function: what to time, jitted.
        args: its arguments.
        env_steps: environment steps that one call makes, all members together.
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
    result = {"compile_s": compile_s, "seconds": seconds, "env_steps": env_steps}
    json.dump(result | resources(), sys.stdout)


def resources() -> dict[str, float | str]:
    """Return the process's peak memory, that of its fullest device, and the matmul precision."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return {
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device_mb": max(one.get("peak_bytes_in_use", 0) for one in stats) / 2**20,
        "precision": str(jax.config.jax_default_matmul_precision),
    }


def measure_over_cores(play, num_envs: int, num_steps: int, repeats: int) -> None:
    """Time a peer's environments, divided among the cores as ours are.

    Args:
        play: steps n environments, `num_steps` times each, from keys `[n]`; returns `[n, ...]`.
        num_envs: environments on all cores together.
        num_steps: steps of each environment in one call.
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
