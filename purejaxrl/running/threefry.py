"""Random numbers on a CPU: JAX's hash, without its loop.

On a CPU, JAX compiles Threefry as a loop of five passes, each of which starts about sixteen small
kernels. Inside a step of a few environments they take longer than the environments. Here the passes
follow one another, and XLA fuses them into one kernel. The numbers are the same.
"""

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.random import threefry2x32_p
from jax.interpreters import mlir

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry(
    key0: jax.Array, key1: jax.Array, x0: jax.Array, x1: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Hash a pair of counters under a pair of keys, in 20 rounds.

    Threefry-2x32 of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".

    Args:
        key0, key1: uint32 `[...]`.
        x0, x1: uint32 `[...]`, the counters.

    Returns:
        Two random numbers, uint32 `[...]`.
    """
    keys = key0, key1, key0 ^ key1 ^ jnp.uint32(PARITY)
    x0, x1 = x0 + keys[0], x1 + keys[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            x0 = x0 + x1
            x1 = x0 ^ (x1 << rotation | x1 >> (32 - rotation))
        x0, x1 = x0 + keys[(i + 1) % 3], x1 + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return x0, x1


def as_one_kernel(*words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Call `threefry` without letting XLA fuse it with what uses its result.

    Inside another kernel's loop, the hash of a scalar key makes LLVM's vectoriser follow both of
    the paths that lead from each round to the one before, 2^20 in all: it compiles for hours.
    """
    with set_xla_metadata(inlineable="false"):
        return jax.jit(threefry)(*words)


def unroll() -> None:
    """Make JAX compile Threefry without a loop on CPUs, from now on."""
    rule = mlir.lower_fun(as_one_kernel, multiple_results=True)
    mlir.register_lowering(threefry2x32_p, rule, platform="cpu", inline=False)
