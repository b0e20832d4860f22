"""The algorithmic regret of many levels (GROOVE: Jackson et al. 2023, arXiv 2310.02782, eq. 4).

An antagonist and an agent train on a level for as many interactions. The regret is the return of
the antagonist's final policy minus that of the agent's. The regret of a single life is noisy. So
levels are ranked by the mean over several replicates: lives on the same level, of other seeds.
"""

from itertools import combinations
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.progress import track
from scipy import stats

from purejaxrl.running.logs import console
from purejaxrl.study.horizons import KeptLives
from purejaxrl.study.terms import Contender


class Regrets(NamedTuple):
    """Final returns on every level, float64 `[num_replicates, num_levels]`."""

    agent: np.ndarray
    antagonist: np.ndarray

    @property
    def each(self) -> np.ndarray:
        """The regret of every life."""
        return self.antagonist - self.agent

    @property
    def mean(self) -> np.ndarray:
        """The mean regret of every level `[num_levels]`."""
        return self.each.mean(0)

    def correlation(self) -> float:
        """Spearman's correlation of two replicates, averaged over pairs; NaN: there is one."""
        pairs = [
            stats.spearmanr(x, y, nan_policy="omit").statistic
            for x, y in combinations(self.each, 2)
        ]
        return float(np.mean(pairs)) if pairs else float("nan")


def measure(
    agent: Contender,
    antagonist: Contender,
    *,
    levels: Any,
    keys: jax.Array,
    lives: KeptLives,
    horizon: int,
    chunk: int,
) -> Regrets:
    """Measure the regret of levels; killed and called again with the same `lives`, it continues.

    Args:
        agent, antagonist: who learns on the levels, with the same key on the same level.
        levels: leaves `[num_levels, ...]`.
        keys: typed keys `[num_replicates, num_levels]`.
        lives: trains the agents, and keeps their returns.
        horizon: length of life, in updates.
        chunk: levels that are trained on between two files.
    """
    num_replicates, num_levels = keys.shape
    found = np.empty((2, num_replicates, num_levels))
    parts = [
        (who, replicate, slice(start, min(start + chunk, num_levels)))
        for start in range(0, num_levels, chunk)
        for replicate in range(num_replicates)
        for who in (0, 1)
    ]
    for who, replicate, part in track(parts, "regret of levels", console=console):
        chosen = at(levels, part)
        contender = (agent, antagonist)[who]
        found[who, replicate, part] = lives.returns(
            contender, keys[replicate, part], chosen, horizon
        )
    return Regrets(*found)


def at(levels: Any, index: Any) -> Any:
    """Take some of the levels `[num_levels, ...]`."""
    return jax.tree.map(lambda x: x[index], levels)


def highest(regret: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the levels of the highest regret, highest first.

    A level whose regret is not finite, because an agent diverged, ranks last.

    Args:
        regret: `[num_levels]`.
        count: how many levels.
    """
    ranked = np.where(np.isfinite(regret), regret, -np.inf)
    return np.argsort(-ranked, kind="stable")[:count]
