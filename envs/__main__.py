"""Show an environment: its spaces, its parameters, and a few of its levels.

python -m envs                     # lists all environments
python -m envs gridworld-small     # shows one
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

import envs
from envs import gallery
from envs.optimum import solver
from purejaxrl.running.commandline import errors_in_words
from purejaxrl.running.words import description
from purejaxrl.validation import require_count, require_seed

console = Console()


@dataclass(frozen=True)
class Settings:
    """What to show."""

    name: Annotated[str, tyro.conf.Positional] = ""
    """Name of the environment; all names are listed by default."""
    levels: int = 8
    """How many levels to draw, if the environment draws itself."""
    seed: int = 0
    """Seeds the levels."""
    out: Path = Path("results/levels.png")
    """File of the picture."""

    def __post_init__(self):
        require_count(self, "levels")
        require_seed(self)


def show_names() -> None:
    """Print the names of all environments by family."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for family, members in envs.FAMILIES.items():
        table.add_row(f"[bold]{family}[/]", "  ".join(members))
    console.print(table, highlight=False)


def describe(value: np.ndarray) -> str:
    """Describe the content of an array: its values if they are few, else their range."""
    if value.size <= 8:
        return str(value)
    if value.dtype == bool:
        return f"{value.sum()} of {value.size} true"
    return f"from {value.min()} to {value.max()}"


def show(settings: Settings) -> None:
    """Print an environment's spaces and parameters, and draw levels.

    Raises:
        ValueError: for an unknown name.
    """
    env, params = envs.make(settings.name)
    console.print(f"actions       {env.action_space(params)}", highlight=False)
    console.print(f"observations  {env.observation_space(params)}", highlight=False)
    known = "is computed by envs/optimum.py" if solver(env) else "is not known"
    console.print(f"optimum       {known}", highlight=False)
    table = Table("parameter", "shape", "type", "value")
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        value = np.asarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        table.add_row(name, str(value.shape), str(value.dtype), describe(value))
    console.print(table)
    if hasattr(env, "sample_level") and hasattr(env, "render"):
        keys = jax.random.split(jax.random.key(settings.seed), settings.levels)
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        gallery.levels(env, [env.sample_level(key) for key in keys], settings.out)
        console.print(f"{settings.levels} levels: {settings.out}", highlight=False)


def main(settings: Settings) -> None:
    """List the names, or show one."""
    if settings.name:
        show(settings)
    else:
        show_names()


if __name__ == "__main__":
    with errors_in_words():
        main(tyro.cli(Settings, prog="python -m envs", description=description(Settings)))
