"""PPO and its forks as contenders of a comparison: all are the same except for the clip."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from algos import dpo, ppo
from algos.rules.contenders import Tune, grid_of, of_rule
from algos.rules.files import load_rules
from purejaxrl.study.terms import Contender
from purejaxrl.validation import require

HAND_MADE: Mapping[str, tuple[ModuleType, Any]] = {
    "PPO": (ppo, ppo.Hypers()),
    "clip-0.1": (ppo, ppo.Hypers(clip_eps=0.1)),
    "clip-0.4": (ppo, ppo.Hypers(clip_eps=0.4)),
    "unclipped": (ppo, ppo.Hypers(clip_eps=np.inf)),
    "DPO": (dpo, dpo.Hypers()),
}
"""Contenders without a learned drift. PPO's own clip is 0.2."""


def label_of(name: str) -> str:
    """Name a contender after its drift's file or folder."""
    return Path(name).stem


def check_drifts(settings: Any) -> None:
    """Raise a ValueError unless `settings.drifts` names drifts that can be told apart.

    Args:
        settings: `drifts` are names of shipped drifts, files, or folders of files.
    """
    require(bool(settings.drifts), settings, "drifts", "one or more drifts")
    for name in settings.drifts:
        for rule in load_rules(name):
            told = f"drifts, such as lpo; {name} holds a rule of {rule.kind.name}"
            require(rule.kind.field == "drift", settings, "drifts", told)
    labels = [*HAND_MADE, *map(label_of, settings.drifts)]
    differ = len(set(labels)) == len(labels)
    require(differ, settings, "drifts", f"files or folders of different names, not {[*HAND_MADE]}")


def make_contenders(
    env: Any, agent: ppo.Config, drifts: Sequence[str], tune: Tune, rates: Sequence[float]
) -> list[Contender]:
    """Make PPO with several clips, DPO, and a contender for every folder of drifts.

    Args:
        env: gymnax 1.x environment.
        agent: static settings of all agents, those that learn by a drift too. The network of a
            drift is as it was evolved. All agents anneal their step size to 0.
        drifts: names of shipped drifts, files, or folders of files. The drifts of a folder are one
            contender.
        tune, rates: what is tuned, and step sizes to try; see `grid_of`.
    """
    tuned = {"tune": tune, "rates": rates}
    found = [
        Contender(name, algorithm.make(agent, env), hypers, grid_of(env, hypers, **tuned))
        for name, (algorithm, hypers) in HAND_MADE.items()
    ]
    found += [
        of_rule(drift, env, label_of(name), **tuned, **asdict(agent), final_rate_fraction=0.0)
        for name in drifts
        for drift in load_rules(name)
    ]
    return found
