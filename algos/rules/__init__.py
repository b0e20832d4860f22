"""Learned rules and drifts on disk: the shipped ones by name, your own by file.

A file is a NumPy archive of the parameters by path, with the version of the format, the name of the
algorithm and its config. Nothing in a file is run: it can only name an algorithm of `ALGORITHMS`,
and its arrays must be those of that algorithm's config. Each shipped one has a model card beside
it, `NAME.md`.
"""

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algos import lpg, lpo, ta_lpg, ta_lpo
from purejaxrl.validation import require_known

VERSION = 1
FOLDER = Path(__file__).parent

ALGORITHMS: dict[str, tuple[type, Callable[[jax.Array, Any], Any]]] = {
    "algos.lpg": (lpg.Config, lpg.init_rule),
    "algos.ta_lpg": (ta_lpg.Config, ta_lpg.init_rule),
    "algos.lpo": (lpo.Config, lpo.init_drift),
    "algos.ta_lpo": (ta_lpo.Config, ta_lpo.init_drift),
}
"""The algorithms that a file can name: the config's class, and `(key, config) -> parameters`, from
which the names and shapes of the arrays are known. An algorithm of your own adds its line."""

UNREADABLE = (
    OSError, EOFError, KeyError, ValueError, TypeError, OverflowError, MemoryError,
    NotImplementedError, RuntimeError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and zipfile raise on damaged files."""


def save_rule(path: Path | str, config: Any, params: Any) -> None:
    """Save a rule.

    Args:
        path: the file, `.npz`.
        config: of an algorithm in `ALGORITHMS`, such as `lpg.Config`.
        params: what the algorithm's `init_rule` or `init_drift` returns: a pytree of float arrays.

    Raises:
        ValueError: if the algorithm is not in `ALGORITHMS`, or the parameters do not fit the config
            or are not finite.
    """
    algorithm = type(config).__module__
    require_known("algorithm of a rule", algorithm, ALGORITHMS)
    arrays = {_path(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(params)}
    _check_arrays(f"rule: cannot save {path}", arrays, _shapes(algorithm, config))
    about = {"version": VERSION, "algorithm": algorithm, "config": dataclasses.asdict(config)}
    with Path(path).open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), **arrays)


def load_rule(name: Path | str, kind: type = object) -> tuple[Any, Any]:
    """Load a rule.

    Args:
        name: of a shipped rule, such as "lpg", or a file ending in `.npz`.
        kind: the class of config that is wanted: `lpg.Config` for rules of LPG and of its forks,
            `lpo.Config` for drifts. Any by default.

    Returns:
        `(config, params)`: the config of its algorithm, whose sizes of the rule a new agent must
        keep, and the parameters, for `Hypers.rule` or, of a drift, for `Hypers.drift`.

    Raises:
        ValueError: if there is no such rule, it is of another kind, or the file is damaged, is of
            another version, names another algorithm than those of `ALGORITHMS`, or holds arrays
            that do not fit its config or are not finite.
    """
    path = Path(name).expanduser()
    if path.suffix != ".npz":
        require_known("rule", str(name), [file.stem for file in FOLDER.glob("*.npz")])
        path = FOLDER / f"{name}.npz"
    where = f"rule: {path} is not valid"
    about, arrays = _read(path, where)
    algorithm, config = _read_config(about, where)
    if not isinstance(config, kind):
        fitting = [known for known, (one, _) in ALGORITHMS.items() if issubclass(one, kind)]
        raise ValueError(f"{where}: it is of {algorithm}; it must be of {' or '.join(fitting)}")
    try:
        shapes = _shapes(algorithm, config)
    except (OverflowError, TypeError, ValueError) as error:  # such as a width of 1e12
        raise ValueError(f"{where}: its config describes no rule ({error})") from error
    _check_arrays(where, arrays, shapes)
    place = lambda path, shape: jnp.asarray(arrays[_path(path)], shape.dtype)  # noqa: E731
    return config, jax.tree_util.tree_map_with_path(place, shapes)


def load_rules(name: Path | str, kind: type = object) -> list[tuple[Any, Any]]:
    """Load every rule of a folder, or one rule: a list of what `load_rule` returns.

    Args:
        name: what `load_rule` takes, or a folder of `.npz` files, which come in order of name.
        kind: as in `load_rule`.

    Raises:
        ValueError: if a folder holds no rule, and as `load_rule`.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return [load_rule(name, kind)]
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"rule: {name} holds no rule; it must hold files ending in .npz")
    return [load_rule(file, kind) for file in files]


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


def _read_config(about: dict[str, Any], where: str) -> tuple[str, Any]:
    """Return the algorithm and its config; fields that the file lacks have their defaults."""
    if about["version"] != VERSION:
        raise ValueError(
            f"{where}: format version {about['version']} is not known; this code reads {VERSION}"
        )
    algorithm = about["algorithm"]
    if algorithm not in ALGORITHMS:
        raise ValueError(
            f"{where}: algorithm {algorithm!r} is not known; it must be one of "
            f"{', '.join(ALGORITHMS)}"
        )
    kind = ALGORITHMS[algorithm][0]
    defaults = {field.name: getattr(kind(), field.name) for field in dataclasses.fields(kind)}
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
        return algorithm, kind(**config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: {error}") from error


def _shapes(algorithm: str, config: Any) -> Any:
    """Shapes and dtypes of the parameters that a config describes, as a pytree."""
    init = ALGORITHMS[algorithm][1]
    return jax.eval_shape(lambda: init(jax.random.key(0), config))


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
