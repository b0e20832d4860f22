import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # tests are of a CPU's results, bit for bit

import jax
import pytest

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores(8)  # virtual devices, so that tests can lay populations over 1, 2 and 8


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Compilation crawls in a process that has come to hold gigabytes of compiled programs."""
    yield
    jax.clear_caches()


def pytest_collection_finish():
    """Collecting garbage takes a tenth of the time of compiling, so do it rarely."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
