"""The rooms of the house: imports run down only, and functions and files stay short."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (  # from the top: a room imports itself and the floors below it
    {"experiments"},
    {"algos", "envs"},
    {"purejaxrl.launch", "purejaxrl.hosts"},
    {"purejaxrl.study"},
    {"purejaxrl.meta"},
    {"purejaxrl.ued", "purejaxrl.offline"},
    {"purejaxrl.running"},
    {"purejaxrl.algorithm"},
    {"purejaxrl.parts"},
    {"purejaxrl.identity", "purejaxrl.validation"},
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
PACKAGES = ("experiments", "algos", "envs", "purejaxrl")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_FILE, MAX_FUNCTION = 350, 80


def room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "purejaxrl" else parts[0]


def imported(path: Path, packages: Collection[str] = PACKAGES) -> Iterator[str]:
    """Modules of some packages that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides its room"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in packages)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_down_only(path):
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    wrong = [
        name for name in imported(path) if room(name) != own and FLOOR[room(name)] <= FLOOR[own]
    ]
    assert not wrong


EXPERIMENTS = sorted((ROOT / "experiments").glob("*.py"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_no_experiment_imports_another(path):
    """What experiments share is below them: in `algos`, `envs` or `purejaxrl`."""
    others = {other.stem for other in EXPERIMENTS} | {"experiments"}
    assert not list(imported(path, others))


@pytest.mark.parametrize("path", FILES + TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_long(path):
    """The `make` of an algorithm file is the algorithm, and may be longer."""
    text = path.read_text()
    long = [] if len(text.splitlines()) <= MAX_FILE else [path.name]
    for node in ast.walk(ast.parse(text)):
        too_long = (
            isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= MAX_FUNCTION
        )
        if too_long and not (node.name == "make" and path.parent == ROOT / "algos"):
            long.append(node.name)
    assert not long
