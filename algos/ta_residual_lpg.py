"""Temporally-aware residual LPG: a hand-made rule with corrections that know the agent's age.

A fork of `residual_lpg.py`, as `ta_lpg.py` is of `lpg.py`: the network also reads n/N and log N,
and the entropy bonus of the hand-made rule can fall with age.
"""

from dataclasses import dataclass

import jax

from algos import residual_lpg
from algos.hand_rules import Settings
from algos.lpg import Hypers, RuleInputs, init_rule, make, with_rule
from algos.ta_lpg import time_inputs

__all__ = ["Config", "Hypers", "init_rule", "make", "with_rule"]


class Rule(residual_lpg.Rule):
    """A hand-made rule with corrections, both of which know the agent's age."""

    start: Settings = residual_lpg.Rule.start.replace(entropy_coef=4 / 3 * 1e-3, entropy_decay=0.5)
    """Averaged over a life, the entropy bonus is that of the rule without knowledge of time. The
    decay starts at 0.5, because evolution can hardly move it away from its bound, 0."""

    def extra_inputs(self, x: RuleInputs) -> tuple[jax.Array, ...]:
        """Return the agent's age and the length of its life."""
        return time_inputs(x)

    def with_time(self, x: RuleInputs) -> RuleInputs:
        """Return all inputs: the hand-made rule reads the agent's age."""
        return x


@dataclass(frozen=True)
class Config(residual_lpg.Config):
    """Residual LPG's settings, for the rule that reads the agent's age."""

    def make_rule(self) -> Rule:
        """Make the rule that these settings describe."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)
