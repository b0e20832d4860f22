"""The record of a run, `run.json`: what it was, so that no other continues it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purejaxrl.algorithm import Algorithm
from purejaxrl.running import checkpoint
from purejaxrl.running.population import Population


def identity(algorithm: Algorithm, population: Population) -> dict[str, Any]:
    """What must be equal for a run to be continued, as JSON."""
    config = algorithm.config
    return {
        "config": {"type": f"{type(config).__module__}.{type(config).__qualname__}"}
        | json.loads(json.dumps(dataclasses.asdict(config), default=str)),
        "made_of": list(algorithm.made_of),
        "members": [dict(row) for row in population.rows],
        "hypers": _values(population.hypers),
        "env_params": _values(population.env_params),
        "keys": np.asarray(jax.random.key_data(population.keys)).tolist(),
    }


def _values(tree: Any) -> dict[str, list]:
    """Values by name, of the leaves that hold one number per member."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf).tolist()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if np.ndim(leaf) == 1
    }


def claim(out: Path, resume: bool, identity: dict, settings: Any) -> None:
    """Make `out` this run's folder, or see that it already is.

    Raises:
        ValueError: if it cannot be written, holds a run and `resume` is off, or holds another run.
    """
    path = out / "run.json"
    if path.exists():
        before = json.loads(path.read_text())["identity"]
        if not resume:
            raise ValueError(f"out: {out} already holds a run; resume it, or choose another folder")
        difference = _difference(before, json.loads(json.dumps(identity)))
        if difference:
            raise ValueError(f"out: {out} holds a run of another setting: {difference}")
        return
    described = dataclasses.asdict(settings) if dataclasses.is_dataclass(settings) else settings
    versions = {
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "matmul_precision": str(jax.config.jax_default_matmul_precision),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"identity": identity, "settings": described, "versions": versions},
            indent=1,
            default=str,
        )
        checkpoint.write_atomically(path, text)
    except OSError as error:
        raise ValueError(f"out: {out} cannot be written: {error}") from error


def _difference(before: Any, now: Any, path: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            found = _difference(before.get(key), now.get(key), f"{path}.{key}" if path else key)
            if found:
                return found
        return ""
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (a, b) in enumerate(zip(before, now, strict=True)):
            found = _difference(a, b, f"{path}[{i}]")
            if found:
                return found
        return ""
    return "" if before == now else f"{path} was {before!r}, now {now!r}"
