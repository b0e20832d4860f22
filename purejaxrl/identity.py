"""Names of the parts that a run is made of, with their arguments.

A run may be resumed only by the same run, so the name of a part must tell it from every other part
that would change a result. `part_name` writes a function with the values that it closes over, an
object with its attributes, and an array by its content.
"""

import ast
import dataclasses
import enum
import functools
import hashlib
import linecache
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

UNNAMED = "‹unnamed›"
"""Stands in a name for what cannot be named. Such a part trains, but its run cannot be resumed."""

_PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, type(Ellipsis))


def part_name(part: Any) -> str:
    """Name an environment, a function, or anything else that an algorithm is made of.

    Args:
        part: functions are named by module and name; closures, partials and bound methods also by
            the values that they hold; a lambda by its source; dataclasses and other objects by
            their attributes; arrays by dtype, shape and content. An object whose attributes cannot
            be named is named by its own `name`, if it has one.

    Returns:
        The name. It contains `UNNAMED` where something could not be named.
    """
    return _name(part, ())


def part_names(*parts: Any) -> tuple[str, ...]:
    """Name the parts of an algorithm (its `made_of`); None stands for a part that is not there."""
    return tuple(part_name(part) for part in parts if part is not None)


def is_named(name: str) -> bool:
    """Whether a name from `part_name` is complete."""
    return UNNAMED not in name


def fingerprint(tree: Any) -> str:
    """Hash the content of a pytree's arrays: sha256, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = on_host(leaf)
        about = f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}"
        digest.update(about.encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:12]


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed keys, or the shape of one."""
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def on_host(leaf: Any) -> np.ndarray:
    """Copy an array to the host; typed keys become integers (their key data)."""
    return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def module_name(part: Any) -> str:
    """Return the module of a class or function; for a script that runs, the name of its file."""
    name = getattr(part, "__module__", None) or ""
    if name == "__main__":
        return Path(getattr(sys.modules[name], "__file__", name)).stem
    return name


def code_of(names: str) -> dict[str, str]:
    """Hash the source of all loaded modules that a text names, such as a part's name.

    Comments, layout and docstrings do not count.

    Returns:
        Twelve hexadecimal digits by module.
    """
    found = {}
    for word in sorted(set(re.findall(r"[A-Za-z_][\w.]*", names))):
        while word and word not in sys.modules:
            word = word.rpartition(".")[0]
        file = getattr(sys.modules.get(word), "__file__", None)
        if file and file.endswith(".py"):
            found[word] = _code_hash(file)
    return found


@functools.cache
def _code_hash(file: str) -> str:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):  # strings that stand alone are docstrings
            kept = [x for x in body if not _is_string(x)]
            node.body = kept or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _name(part: Any, parents: tuple[int, ...]) -> str:
    if id(part) in parents:
        return "…"  # an object that holds itself
    named = functools.partial(_name, parents=(*parents, id(part)))
    if isinstance(part, _PLAIN):
        return repr(part)
    if isinstance(part, (np.ndarray, np.generic, jax.Array)):
        return _array_name(part)
    if isinstance(part, functools.partial):
        words = {key: named(value) for key, value in part.keywords.items()}
        return _call(named(part.func), words, map(named, part.args))
    if isinstance(part, types.MethodType):
        return f"{named(part.__self__)}.{part.__func__.__name__}"
    if isinstance(part, types.FunctionType):
        return _function_name(part, named)
    if isinstance(part, types.ModuleType):
        return part.__name__
    if isinstance(part, (type, types.BuiltinFunctionType)):
        return f"{module_name(part)}.{part.__qualname__}"
    if callable(part) and hasattr(part, "__wrapped__"):  # a jitted or cached function
        return named(part.__wrapped__)
    if isinstance(part, Mapping):
        return f"{{{', '.join(f'{named(k)}: {named(v)}' for k, v in part.items())}}}"
    if isinstance(part, (tuple, list)) and not hasattr(part, "_fields"):
        return f"[{', '.join(map(named, part))}]"
    if isinstance(part, (set, frozenset)):
        return f"{{{', '.join(sorted(map(named, part)))}}}"
    return _object_name(part, named)


def _array_name(array: Any) -> str:
    if isinstance(array, jax.core.Tracer):
        return f"{UNNAMED} traced array"
    array = on_host(array)
    return f"{array.dtype}[{','.join(map(str, array.shape))}]:{fingerprint(array)}"


def _function_name(function: types.FunctionType, named: Callable[[Any], str]) -> str:
    """Name a module-level function by its module; others also by their closure and defaults."""
    code = function.__code__
    name = f"{module_name(function)}.{function.__qualname__}"
    if "<" not in code.co_qualname:
        return name
    held = {}
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[variable] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    defaults = function.__defaults__ or ()
    first = code.co_argcount - len(defaults)
    held |= dict(zip(code.co_varnames[first : code.co_argcount], defaults, strict=True))
    held |= function.__kwdefaults__ or {}
    name += f"<{_lambda_source(code)}>" if code.co_name == "<lambda>" else ""
    return _call(name, {key: named(value) for key, value in held.items()}) if held else name


def _lambda_source(code: types.CodeType) -> str:
    """Return a lambda's source without comments and layout, since all lambdas share one name."""
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        return UNNAMED
    places = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and all(
            (node.lineno, node.col_offset) <= place <= (node.end_lineno, node.end_col_offset)
            for place in places
        )
    ]
    innermost = max(found, key=lambda node: (node.lineno, node.col_offset), default=None)
    return ast.unparse(innermost) if innermost else UNNAMED


def _object_name(part: Any, named: Callable[[Any], str]) -> str:
    """Name an object by its class and attributes.

    Where an attribute cannot be named, the object's own `name` stands for it, if there is one.
    """
    own = f"{module_name(type(part))}.{type(part).__qualname__}"
    words = {name: named(value) for name, value in _attributes(part).items()}
    has_content = hasattr(part, "__dict__") or hasattr(part, "_fields") or type(part) is object
    if has_content and all(map(is_named, words.values())):
        return _call(own, words)
    given = getattr(part, "name", None)
    if not isinstance(given, str) or not given:
        return f"{UNNAMED} {own}"
    return _call(own, {"name": given} | {k: word for k, word in words.items() if is_named(word)})


def _attributes(part: Any) -> dict[str, Any]:
    if hasattr(part, "_fields"):
        return dict(zip(part._fields, part, strict=True))
    if dataclasses.is_dataclass(part):
        return {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.repr}
    lazy = functools.cached_property
    return {
        name: value
        for name, value in sorted(getattr(part, "__dict__", {}).items())
        if not isinstance(getattr(type(part), name, None), lazy)
    }


def _call(name: str, words: Mapping[str, str], args: Iterable[str] = ()) -> str:
    return f"{name}({', '.join([*args, *(f'{key}={word}' for key, word in words.items())])})"
