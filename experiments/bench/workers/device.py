"""Name the device that JAX uses, as a part of a file's name."""

import json
import re

import jax

print(json.dumps({"device": re.sub(r"\W+", "_", jax.devices()[0].device_kind.lower())}))
