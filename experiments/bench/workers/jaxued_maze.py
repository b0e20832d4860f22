"""Train a student on mazes with the examples of JaxUED, from a checkout on PYTHONPATH.

The example's own loop runs; what it logs to is stubbed, and says when a chunk of updates is done.
Each chunk ends with one evaluation episode on one maze, which cannot be turned off.
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path
from types import ModuleType

from timing import resources

curriculum, *numbers = sys.argv[1:4]
updates, repeats = map(int, numbers)
done = []


def finish(_: dict) -> None:
    """Note the time: whatever is logged has been computed."""
    done.append(time.perf_counter())


wandb = sys.modules["wandb"] = ModuleType("wandb")
wandb.init = lambda config, **_: setattr(wandb, "config", config)
wandb.log = finish
for name in ("define_metric", "Image", "Video"):
    setattr(wandb, name, lambda *args, **kwargs: None)

flags = [
    "--num_updates", updates * (repeats + 2), "--eval_freq", updates, "--eval_num_attempts", 1,
    "--eval_levels", "SixteenRooms", "--checkpoint_save_interval", 0,
]  # fmt: skip
if curriculum in ("plr", "accel"):
    flags += [
        "--replay_prob", 1.0, "--level_buffer_capacity", 256, "--minimum_fill_ratio", 0.5,
        "--score_function", "pvl",
    ]  # fmt: skip
if curriculum == "accel":
    flags += ["--use_accel"]
if curriculum != "paired":
    flags += ["--n_walls", 60]
example = {"accel": "plr"}.get(curriculum, curriculum)
path = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]).parent / f"examples/maze_{example}.py"
sys.argv = [str(path), *map(str, flags)]
output, sys.stdout = sys.stdout, sys.stderr
began = time.perf_counter()
runpy.run_path(str(path), run_name="__main__")
first, *seconds = (b - a for a, b in zip([began, *done], done, strict=False))
students = 2 if curriculum == "paired" else 1
found = {
    "compile_s": first - min(seconds),
    "seconds": seconds[1:],  # the first chunk after compilation warms up
    "env_steps": students * updates * 32 * 256,
}
json.dump(found | resources(), output)
