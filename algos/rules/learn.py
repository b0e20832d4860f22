"""Learning rules as a part of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algos.rules.files import save_population
from purejaxrl.algorithm import Algorithm
from purejaxrl.running.logs import say
from purejaxrl.running.population import populate, seeds
from purejaxrl.study import compare


def learn_rules(
    learner: Algorithm,
    hypers: Any,
    config: Any,
    *,
    num_rules: int,
    num_updates: int,
    out: Path,
    first_seed: int = 0,
) -> list[Path]:
    """Learn rules, seeded one after the other; killed and called again, it continues.

    Args:
        learner: a meta-learner.
        hypers: its hyperparameters.
        config: config of the agents and their rule, as in `save_rule`.
        num_rules: how many rules to learn.
        num_updates: steps of the meta-learner.
        out: the rules are in `OUT/rules-DIGEST`, see `compare.train`.
        first_seed: seed of the first rule.

    Returns:
        The files of the rules that did not diverge.
    """
    last = first_seed + num_rules
    say(f"{out.name}: rule{'' if num_rules == 1 else f's {first_seed + 1} to'} {last}")
    population = populate(seeds(num_rules, start=first_seed), hypers, ())
    result = compare.train(learner, population, num_updates, out / "rules")
    return save_population(result, config)


def require_rules(name: str, files: Sequence[Path]) -> None:
    """Raise a ValueError if no rule of this name is left, as all of them diverged."""
    if not files:
        raise ValueError(f"{name}: all rules diverged; learn them with other settings")
