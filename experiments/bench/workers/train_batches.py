"""Train one case with one version of this repository, one timed batch per line on stdin.

Arguments: the version's checkout, the case, and a folder for the run. The worker compiles, warms up
and answers with `{"compile_s"}`. Then it waits. Every line that arrives starts a batch, which is
answered with `{"seconds", "env_steps"}`. The end of stdin ends the worker. Answers are JSON lines.

A batch is one chunk of one long `run`: the update on the devices, then the host's work until the
next chunk could start. A sink measures the time and waits for the next line. `ppo_make_train` is
the same work as one pure function, without the host. The worker uses only what every version has.
"""

import importlib
import json
import sys
import time
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

PPO_MEMBERS, PPO_UPDATES = 64, 8
NEVER = 10**6
"""More updates, and more chunks between checkpoints, than any measurement reaches."""

answers, sys.stdout = sys.stdout, sys.stderr  # so that nothing else prints between the answers


class Clock:
    """Time batches, and wait between them."""

    def __init__(self):
        self.seconds: list[float] = []
        self.began = time.perf_counter()

    def end_batch(self, env_steps: int) -> None:
        """Answer for a batch, then wait for the start of the next one.

        The first batch includes compilation, and the second one warms up: `compile_s` is their
        difference. Every later batch is a measurement.
        """
        self.seconds.append(time.perf_counter() - self.began)
        if len(self.seconds) == 2:
            answer({"compile_s": self.seconds[0] - self.seconds[1]})
        elif len(self.seconds) > 2:
            answer({"seconds": self.seconds[-1], "env_steps": env_steps})
        if len(self.seconds) >= 2 and not sys.stdin.readline():
            raise SystemExit
        self.began = time.perf_counter()


def answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), file=answers, flush=True)


class OwnModules:
    """Find a module of the project in the folder of its package, and nowhere else."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Search the package's folder; an import error if it does not have the module."""
        if path is None or name.partition(".")[0] not in ("purejaxrl", "algos", "envs"):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None:
            raise ModuleNotFoundError(f"no module {name!r} in {path}", name=name)
        return spec


def use_checkout(root: Path) -> None:
    """Import this version's modules, and no others.

    `purejaxrl` and `algos` have no `__init__.py`: without this, Python would take a module that
    this version lacks from an installed version, and so mix the two.
    """
    sys.path[:0] = [str(root), str(root / "experiments")]
    for name in ("purejaxrl", "algos"):
        importlib.import_module(name).__path__ = [str(root / name)]
    sys.meta_path.insert(0, OwnModules)


def library(name: str) -> ModuleType:
    """Import `purejaxrl.running.NAME`, or `purejaxrl.NAME` of a version without that package."""
    [folder] = importlib.import_module("purejaxrl").__path__
    package = "purejaxrl.running" if Path(folder, "running").is_dir() else "purejaxrl"
    return importlib.import_module(f"{package}.{name}")


def ppo_parts() -> tuple[Any, Any, int]:
    """Return PPO on CartPole, its population, and the environment steps of one member's update."""
    envs, ppo = importlib.import_module("envs"), importlib.import_module("algos.ppo")
    population = library("population")
    env, env_params = envs.make("CartPole-v1")
    config = ppo.Config()
    members = population.populate(population.seeds(PPO_MEMBERS), ppo.Hypers(), env_params)
    return ppo.make(config, env), members, config.num_envs * config.num_steps


def experiment_parts(name: str) -> tuple[Any, Any]:
    """Return the algorithm of an experiment at its default settings, and one member to train."""
    population, module = library("population"), importlib.import_module(name)
    settings = module.Settings()
    job = module.build(settings)
    return job.algorithm, population.populate(population.seeds(1), settings.hypers, job.env_params)


def train_with_run(parts: Any, chunk: int, out: str) -> None:
    """Train with `run`; every chunk is a batch. No checkpoint is saved while batches are timed."""
    runner = library("runner")
    algorithm, population, *_ = parts()
    clock, total = Clock(), 0

    def sink(table: Any, *_: Any) -> None:  # older versions also pass a number
        nonlocal total
        steps = table["env_steps"].to_numpy().reshape(population.size, -1)  # summed since the start
        now = int(steps[:, -1].sum())
        made, total = now - total, now
        clock.end_batch(made)

    options = runner.RunOptions(out, chunk=chunk, checkpoint_every=NEVER, progress=False)
    runner.run(algorithm, population, NEVER, options, sinks=[sink])


def train_with_make_train(out: str) -> None:
    """Train PPO with `make_train`, mapped over members by `layout`; every call is a batch."""
    make_train = importlib.import_module("purejaxrl.algorithm").make_train
    algorithm, population, update_steps = ppo_parts()
    plan = library("devices").layout(population.size)
    clock = Clock()
    args = plan.place((population.keys, population.hypers, population.env_params))
    train = plan.jit(plan.map(make_train(algorithm, PPO_UPDATES)))
    while True:
        jax.block_until_ready(train(*args))
        clock.end_batch(population.size * PPO_UPDATES * update_steps)


CASES = {  # each with as many updates in a batch as two cores make in 1 to 4 seconds
    "ppo": partial(train_with_run, ppo_parts, PPO_UPDATES),
    "ppo_make_train": train_with_make_train,
    "lpg": partial(train_with_run, partial(experiment_parts, "lpg_meta_train"), 12),
    "groove": partial(train_with_run, partial(experiment_parts, "groove_meta_train"), 10),
    "evolution": partial(train_with_run, partial(experiment_parts, "ta_lpg_meta_train"), 4),
}

if __name__ == "__main__":
    checkout, case, out = sys.argv[1:]
    use_checkout(Path(checkout).resolve())
    library("devices").use_cpu_cores()
    CASES[case](out)
