"""Parse the command lines of experiments without training; a process of its own, as JAX starts.

Reads `[[file, [word, ...]], ...]` as JSON from its input, and writes `[error, ...]` to its output:
what the parser said of each, or an empty string.
"""

import contextlib
import functools
import importlib.util
import io
import json
import sys
from pathlib import Path

import tyro

from purejaxrl.running.words import parse

ROOT = Path(__file__).parents[2]


@functools.cache
def load(file: str):
    """Import an experiment as if it were run: its folder comes first on the path."""
    path = ROOT / file
    sys.path.insert(0, str(path.parent))
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module


def sweeps(file: str) -> bool:
    """Whether an experiment takes lists of values; the others give their words to `command`."""
    return "    command(main" not in (ROOT / file).read_text()


def error_of(file: str, words: list[str]) -> str:
    """Return what is wrong with a command line, if anything."""
    said = io.StringIO()
    try:
        module = load(file)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            if sweeps(file):
                parse(module.Settings, words)
            else:
                tyro.cli(module.Settings, args=words)
    except (SystemExit, Exception) as error:
        helped = isinstance(error, SystemExit) and error.code == 0  # --help
        return "" if helped else f"{error!r}: {said.getvalue()}"
    return ""


if __name__ == "__main__":
    answers = [error_of(file, words) for file, words in json.load(sys.stdin)]
    json.dump(answers, sys.stdout)
