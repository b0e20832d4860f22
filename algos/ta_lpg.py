"""Temporally-aware LPG (Jackson et al. 2024, arXiv 2402.05828): a rule that knows how much is left.

A fork of `lpg.py`. The rule also reads n/N, which part of the agent's updates is done, and log N,
how many there are (eq. 9). So it can explore early and settle late, at whatever horizon. The
published code feeds the raw n and N instead.

Here log N is counted from `MIDDLE`, which the rule's biases could do as well: but an input that is
always about 4 turns the noise of its weights, of which evolution lives, into noise of all gates.

Meta-gradients over a few updates do not see what an update does for the end of life; the paper
learns such rules by evolution, which compares whole lives (`purejaxrl/meta/evolution.py`).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from algos import lpg
from algos.lpg import Hypers, RuleInputs, init_rule, make, with_rule

__all__ = ["Config", "Hypers", "init_rule", "make", "with_rule"]

MIDDLE = 50.0
"""Updates in the middle, on a logarithmic scale, of the lives that rules are learned on."""


class Rule(lpg.Rule):
    """LPG's rule with two more inputs."""

    def about_time(self, x: RuleInputs) -> tuple[jax.Array, ...]:
        """Which part of life is over, in [0, 1), and its length: log N - log MIDDLE."""
        return x.age, jnp.log(x.horizon / MIDDLE)


@dataclass(frozen=True)
class Config(lpg.Config):
    """LPG's settings, for the rule that knows of time."""

    def make_rule(self) -> Rule:
        """Make the rule that this describes."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)
