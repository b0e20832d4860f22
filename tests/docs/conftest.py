import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def compile_quickly():
    """Compiling is all that these tests spend time on: leave most of XLA's optimisations out."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
