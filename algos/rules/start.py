"""The rules that learning starts from."""

from dataclasses import asdict
from typing import Any, NamedTuple

import jax

from algos import lpg, meta_lpg, optimistic_lpg, residual_lpg, ta_lpg, ta_residual_lpg
from algos.rules.files import load_rule
from purejaxrl.meta.base import InitTheta
from purejaxrl.validation import require_known

UNTRAINED = {
    "residual_lpg": residual_lpg.Config,
    "ta_residual_lpg": ta_residual_lpg.Config,
    "lpg": lpg.Config,
    "ta_lpg": ta_lpg.Config,
    "optimistic_lpg": optimistic_lpg.Config,
}
"""Kinds of rules by name. Residual rules start as hand-made rules. The others start from a random
network, the same one for all seeds, which is also the reference of their validation."""


class Start(NamedTuple):
    """A rule that learning starts from."""

    config: lpg.Config
    params: Any

    def init_theta(self) -> InitTheta:
        """Make the `init_theta` of a meta-learner."""
        return meta_lpg.start_from(self.params, self.config)


def starting_rule(name: str, settings: lpg.Config) -> Start:
    """Return an untrained rule of a kind, or the rule of a file.

    Args:
        name: a key of `UNTRAINED`, or a file ending in `.npz`.
        settings: settings of the agents and of an untrained rule. A rule of a file has its own.

    Raises:
        ValueError: for an unknown name, a file with a rule of another kind; see also `load_rule`.
    """
    if name.endswith(".npz"):
        rule = load_rule(name)
        if type(rule.config) not in UNTRAINED.values():
            raise ValueError(
                f"rule: {name} is not valid; it holds a rule of {rule.kind.name}, and must hold "
                f"one of {', '.join(UNTRAINED)}"
            )
        return Start(rule.config, rule.params)
    require_known("rule", name, UNTRAINED)
    config = UNTRAINED[name](**asdict(settings))
    return Start(config, lpg.init_rule(jax.random.key(0), config))
