"""Learned rules, and drifts: shipped ones by name, your own by file.

A rule's file is a numpy archive of its parameters by path, with the format's version and the
algorithm's config that made it. Each shipped one has a model card beside it, `NAME.md`.
"""

import dataclasses
import json
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purejaxrl.validation import require_known

VERSION = 1
FOLDER = Path(__file__).parent


def save_rule(path: Path | str, config: Any, params: Any) -> None:
    """Save a rule.

    Args:
        path: the file, `.npz`.
        config: of the algorithm it is for, such as `lpg.Config`.
        params: a pytree of dicts of float arrays.
    """
    about = {
        "version": VERSION,
        "algorithm": type(config).__module__,
        "config": dataclasses.asdict(config),
    }
    leaves = jax.tree_util.tree_leaves_with_path(params)
    arrays = {jax.tree_util.keystr(p, simple=True, separator="/"): np.asarray(x) for p, x in leaves}
    with Path(path).open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def load_rule(name: Path | str) -> tuple[Any, Any]:
    """Load a rule.

    Args:
        name: of a shipped rule, such as "lpg", or a file ending in `.npz`.

    Returns:
        `(config, params)`: the config of its algorithm, whose sizes of the rule a new agent must
        keep, and the parameters for `Hypers.rule`, or those of a drift for `Hypers.drift`.

    Raises:
        ValueError: if there is no such rule, or the file is damaged or of another version.
    """
    path = Path(name)
    if path.suffix != ".npz":
        require_known("rule", str(name), [file.stem for file in FOLDER.glob("*.npz")])
        path = FOLDER / f"{name}.npz"
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        about = json.loads(str(arrays.pop("about")))
    except FileNotFoundError as error:
        raise ValueError(f"rule: {path} does not exist") from error
    except (OSError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"rule: {path} is damaged, or not a rule ({error})") from error
    if about["version"] != VERSION:
        raise ValueError(
            f"rule: {path} has format version {about['version']}; this code reads {VERSION}"
        )
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
    config = import_module(about["algorithm"]).Config(**fields)
    params: dict[str, Any] = {}
    for key, array in arrays.items():
        *parents, leaf = key.split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = jnp.asarray(array)
    return config, params


def load_rules(name: Path | str) -> list[tuple[Any, Any]]:
    """Load all rules of a folder, or the one that is named: what `load_rule` returns of each.

    Args:
        name: what `load_rule` takes, or a folder of `.npz` files, which come in order of name.

    Raises:
        ValueError: if a folder holds none, and as `load_rule`.
    """
    if not Path(name).is_dir():
        return [load_rule(name)]
    files = sorted(Path(name).glob("*.npz"))
    if not files:
        raise ValueError(f"rule: {name} holds no rule (.npz)")
    return [load_rule(file) for file in files]
