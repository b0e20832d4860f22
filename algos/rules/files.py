"""The files of rules.

A file is a NumPy archive of the parameters by path, with the version of the format, the name of the
algorithm and its config. Nothing in a file is run: it can only name an algorithm of `KINDS`, and
its arrays must be those of that algorithm's config.
"""

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algos.rules.rule import KINDS, Kind, LearnedRule, kind_named
from purejaxrl.identity import module_name
from purejaxrl.running.result import Result
from purejaxrl.validation import require_known

VERSION = 1
FOLDER = Path(__file__).parent

UNREADABLE = (
    OSError, EOFError, KeyError, ValueError, TypeError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise on damaged files."""


def save_rule(path: Path | str, config: Any, params: Any) -> None:
    """Save a rule.

    Args:
        path: the file, `.npz`.
        config: config of an algorithm in `KINDS`, such as an `lpg.Config`.
        params: what the algorithm's `init_rule` or `init_drift` returns: a pytree of float arrays.

    Raises:
        ValueError: if the algorithm is not in `KINDS`, or the parameters do not fit the config or
            are not finite.
    """
    kind = kind_named(module_name(type(config)))
    arrays = {_path(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(params)}
    _check_arrays(f"rule: cannot save {path}", arrays, _shapes(kind, config))
    about = {"version": VERSION, "algorithm": kind.name, "config": dataclasses.asdict(config)}
    with Path(path).open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def save_population(result: Result, config: Any) -> list[Path]:
    """Save the rules that a run of a meta-learner has learned.

    Args:
        result: the result of the run; `state.params` are the parameters of rules. Where they
            were evaluated, the best ones are saved.
        config: see `save_rule`.

    Returns:
        The files, `OUT/FIELD-SEED.npz`, such as `rule-0.npz` or `drift-0.npz`; where
        hyperparameters were swept, they are called after these too. A member that diverged has
        none, and is reported.
    """
    field, paths = kind_named(module_name(type(config))).field, []
    for i, label in result.survivors(field):
        paths.append(Path(result.out) / f"{field}-{label}.npz")
        best = jax.tree.map(lambda x: x[i], result.best)  # noqa: B023
        evaluated = best and best.update > 0
        save_rule(paths[-1], config, best.policy if evaluated else result.member(i).params)
    return paths


def load_rule(name: Path | str) -> LearnedRule:
    """Load a rule.

    Args:
        name: the name of a shipped rule, such as "lpg", or a file ending in `.npz`.

    Raises:
        ValueError: if there is no such rule; or if the file is damaged, is of another version,
            names another algorithm than those of `KINDS`, or holds arrays that do not fit its
            config or are not finite.
    """
    path = Path(name).expanduser()
    if path.suffix != ".npz":
        require_known("rule", str(name), [file.stem for file in FOLDER.glob("*.npz")])
        path = FOLDER / f"{name}.npz"
    where = f"rule: {path} is not valid"
    about, arrays = _read(path, where)
    kind, config = _read_config(about, where)
    try:
        shapes = _shapes(kind, config)
    except (OverflowError, TypeError, ValueError) as error:  # such as a width of 1e12
        raise ValueError(f"{where}: its config describes no rule ({error})") from error
    _check_arrays(where, arrays, shapes)
    place = lambda path, shape: jnp.asarray(arrays[_path(path)], shape.dtype)  # noqa: E731
    params = jax.tree_util.tree_map_with_path(place, shapes)
    card = path.with_suffix(".md")
    return LearnedRule(path.stem, kind, config, params, card if card.exists() else None)


def load_rules(name: Path | str) -> list[LearnedRule]:
    """Load every rule of a folder, or one rule.

    Args:
        name: what `load_rule` takes, or a folder of `.npz` files, which come in order of name.

    Raises:
        ValueError: if a folder holds no rule; see also `load_rule`.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return [load_rule(name)]
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"rule: {name} holds no rule; it must hold files ending in .npz")
    return [load_rule(file) for file in files]


def _read(path: Path, where: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read what a file says about itself, and its arrays; neither is checked yet."""
    if not path.is_file():
        raise ValueError(f"rule: {path} does not exist, or is not a file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is one array; it must be an archive of them")
        with archive:
            arrays = {key: archive[key] for key in archive.files}
    except UNREADABLE as error:
        raise ValueError(f"{where}: damaged, or no archive of arrays ({error})") from error
    if "about" not in arrays:
        raise ValueError(f"{where}: it has no entry 'about'; save_rule writes one")
    try:
        about = json.loads(str(arrays.pop("about")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: 'about' must be JSON ({error})") from error
    for field, kind in ("version", int), ("algorithm", str), ("config", dict):
        value = about.get(field) if isinstance(about, dict) else None
        if not isinstance(value, kind):
            raise ValueError(
                f"{where}: {field!r} in 'about' is {value!r}; it must be of type {kind.__name__}"
            )
    return about, arrays


def _read_config(about: dict[str, Any], where: str) -> tuple[Kind, Any]:
    """Return the kind of rule and its config; fields that the file lacks have their defaults."""
    if about["version"] != VERSION:
        raise ValueError(
            f"{where}: format version {about['version']} is not known; this code reads {VERSION}"
        )
    known = [kind.name for kind in KINDS]
    if about["algorithm"] not in known:
        raise ValueError(
            f"{where}: algorithm {about['algorithm']!r} is not known; it must be one of "
            f"{', '.join(known)}"
        )
    kind = kind_named(about["algorithm"])
    default = kind.algorithm.Config()
    defaults = {field.name: getattr(default, field.name) for field in dataclasses.fields(default)}
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
    for field, value in config.items():
        if field not in defaults:
            raise ValueError(
                f"{where}: its config has a field {field!r}; it must be one of "
                f"{', '.join(defaults)}"
            )
        expected = type(defaults[field])
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise ValueError(
                f"{where}: {field} in its config is {value!r}; it must be of type "
                f"{expected.__name__}"
            )
    try:
        return kind, type(default)(**config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _shapes(kind: Kind, config: Any) -> Any:
    """Shapes and dtypes of the parameters that a config describes, as a pytree."""
    return jax.eval_shape(lambda: kind.init(jax.random.key(0), config))


def _check_arrays(where: str, arrays: dict[str, np.ndarray], shapes: Any) -> None:
    """Raise a ValueError unless these are the arrays that are expected, and all are finite."""
    expected = {_path(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(shapes)}
    missing, unknown = expected.keys() - arrays.keys(), arrays.keys() - expected.keys()
    if missing or unknown:
        raise ValueError(
            f"{where}: arrays missing: {', '.join(sorted(missing)) or 'none'}; not of this "
            f"config: {', '.join(sorted(unknown)) or 'none'}"
        )
    for name, array in arrays.items():
        if array.shape != expected[name]:
            raise ValueError(
                f"{where}: array {name} has shape {array.shape}; its config needs {expected[name]}"
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{where}: array {name} is of {array.dtype}; it must be of floats")
        if not np.isfinite(array).all():
            raise ValueError(f"{where}: array {name} holds NaN or infinity; it must be finite")


def _path(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
