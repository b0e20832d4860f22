"""What a run leaves."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from purejaxrl.running.evaluate import Best
from purejaxrl.running.logs import say
from purejaxrl.running.metrics import read_evaluations, read_metrics
from purejaxrl.running.population import Population


class Result(NamedTuple):
    """What a run leaves: arrays on the host, leaves `[num_members, ...]`."""

    state: Any
    alive: np.ndarray  # bool: whether the member's parameters and losses stayed finite
    population: Population
    out: Path
    best: Best | tuple = ()
    """The best policy of each member, where policies were evaluated."""

    @property
    def metrics(self) -> pd.DataFrame:
        """All metrics, one row per member and update."""
        return read_metrics(self.out)

    @property
    def evaluations(self) -> pd.DataFrame:
        """All evaluations, one row per member and evaluation; empty where there were none."""
        return read_evaluations(self.out)

    @property
    def scores(self) -> pd.DataFrame:
        """What final scores and curves are made of: the evaluations, or else the metrics."""
        found = self.evaluations
        return self.metrics if found.empty else found

    def member(self, index: int) -> Any:
        """Return the state of one member."""
        return jax.tree.map(lambda x: x[index], self.state)

    def survivors(self, what: str) -> Iterator[tuple[int, str]]:
        """Yield index and label of each member that is alive, and say which ones are not.

        Args:
            what: what is saved of a member, as `rule`.
        """
        for i, label in enumerate(self.population.labels):
            if self.alive[i]:
                yield i, label
            else:
                say(f"{what}-{label}: nothing is saved, because its training diverged")

    def best_policy(self, index: int) -> Any:
        """Return the best policy of one member.

        Raises:
            ValueError: if none was evaluated, or no evaluation episode finished.
        """
        if not self.best:
            raise ValueError("best_policy: there is none; the run needs an `evaluator`")
        if np.isneginf(self.best.score[index]):
            name = self.population.names[index]
            raise ValueError(f"best_policy: member {name!r} has none; no evaluation of it counted")
        return jax.tree.map(lambda x: x[index], self.best.policy)
