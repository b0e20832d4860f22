"""Time a compiled training function; imported by every worker, whatever environment it runs in."""

import json
import resource
import sys
import time

import jax


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


def arguments() -> tuple[str, int, int, int]:
    """Read (environment, members, updates, repeats) from the command line."""
    env, *numbers = sys.argv[1:5]
    return env, *map(int, numbers)
