"""Run a file of tests; their seconds are all that is measured."""

import json
import subprocess
import sys
import time

import jax

began = time.perf_counter()
done = subprocess.run(
    [sys.executable, "-m", "pytest", "-q", sys.argv[1]], capture_output=True, text=True
)
if done.returncode:
    raise RuntimeError(done.stdout.strip().splitlines()[-1])
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
