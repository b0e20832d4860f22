"""What a run would take, measured before it runs."""

import time
from typing import NamedTuple

from purejaxrl.algorithm import Algorithm
from purejaxrl.running.chunk import compile_chunk, plan_for, start
from purejaxrl.running.options import RunOptions
from purejaxrl.running.population import Population
from purejaxrl.validation import check_hypers


class RunEstimate(NamedTuple):
    """What a run would take."""

    num_bytes: int  # on all devices together: state, experience, temporaries
    seconds: float  # after compilation, at most
    env_steps: int  # of every member


def estimate(
    algorithm: Algorithm, population: Population, num_updates: int, options: RunOptions
) -> RunEstimate:
    """Estimate a run's memory and time from a chunk that is compiled without optimisations.

    These would be most of the compile time. On a CPU the memory is that of the run, and the time is
    an upper bound, up to six times too long.
    """
    check_hypers(population.hypers)
    plan = plan_for(algorithm, population, options.group)
    carry = start(algorithm, population, plan, num_updates)
    program = compile_chunk(algorithm, population, plan, options.chunk, carry, optimize=False)
    length, times = min(3, options.chunk), []
    for _ in range(2):
        began = time.monotonic()
        carry, metrics = program(length, carry)
        times.append(time.monotonic() - began)
    per_update = int(metrics["env_steps"][0, 0])  # the first chunk has counted the warm-up
    return RunEstimate(
        program.num_bytes,
        min(times) / length * num_updates,
        algorithm.warmup_steps + per_update * num_updates,
    )
