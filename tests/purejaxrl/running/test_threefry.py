"""Random numbers on a CPU are JAX's; each hash is compiled as one kernel, without a loop."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from purejaxrl.running import threefry

# Known answers of the Random123 distribution: key, counter, result.
KNOWN = (
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
)


@pytest.mark.parametrize(("key", "counter", "result"), KNOWN)
def test_the_hash_gives_the_known_answers(key, counter, result):
    found = threefry.threefry(*map(jnp.uint32, key), *map(jnp.uint32, counter))
    np.testing.assert_array_equal(np.array(found), np.array(result, np.uint32))


PROGRAM = """
import sys

import jax

if "unrolled" in sys.argv:
    from purejaxrl.running.devices import use_cpu_cores
    use_cpu_cores(1)

def draw(key):
    keys = jax.random.split(key, 3)
    return jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 7), (5,)))(keys)

compiled = jax.jit(draw).lower(jax.random.key(3)).compile()
text = compiled.as_text()
print(text.count(" while("), text.count(" call("), compiled(jax.random.key(3)).tolist())
"""


def test_jax_draws_the_same_numbers_with_and_without_the_loop():
    def run(*arguments):
        process = [sys.executable, "-c", PROGRAM, *arguments]
        words = subprocess.run(process, capture_output=True, text=True, check=True).stdout
        loops, kernels, numbers = words.split(" ", 2)
        return int(loops), int(kernels), numbers

    looped, unrolled = run(), run("unrolled")
    assert looped[0] == 3  # split, fold_in and normal
    assert unrolled[:2] == (0, 3)  # not fused with what uses them: see as_one_kernel
    assert unrolled[2] == looped[2]
