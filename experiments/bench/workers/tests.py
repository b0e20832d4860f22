"""Run a file of tests on JAX's default device; their seconds are all that is measured.

Matrix products have full precision: tolerances of the tests are those of float32.
"""

import contextlib
import io
import json
import os
import sys
import time

import jax
import pytest

os.environ["JAX_PLATFORMS"] = jax.config.jax_platforms or ""
jax.config.update("jax_default_matmul_precision", "highest")
began, said = time.perf_counter(), io.StringIO()
with contextlib.redirect_stdout(said):
    failed = pytest.main(["-q", sys.argv[1]])
if failed:
    raise RuntimeError(said.getvalue().strip().splitlines()[-1])
print(
    json.dumps(
        {
            "seconds": [time.perf_counter() - began],
            "env_steps": 0,
            "compile_s": 0.0,
            "peak_mb": 0.0,
            "device_mb": 0.0,
            "precision": str(jax.config.jax_default_matmul_precision),
        }
    )
)
