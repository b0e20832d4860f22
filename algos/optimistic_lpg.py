"""Optimistic LPG: a rule for which every step costs something, so that new states attract.

A fork of `lpg.py`. The rule reads rewards minus the cost of a step, which goes on after an
episode's end (`lpg_rule.charge_steps`). So all values are lower by the same amount, and the best
policy stays the same. But an agent that has learned these values prefers states that it has not
visited, whose value is still 0: optimism in the face of uncertainty.

The cost is a parameter of the rule, beside LPG's network. The network does not have to represent
it: taught a teacher that pays it, LPG's own network cannot follow, as what an episode's end costs,
1 / (1 - γ) steps, varies tenfold while γ varies from 0.95 to 0.995.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp

from algos import lpg
from algos.lpg import Hypers, RuleInputs, init_rule, make, with_rule
from algos.lpg_rule import Target, charge_steps

__all__ = ["Config", "Hypers", "init_rule", "make", "with_rule"]

FIRST_COST = 0.02
"""The cost of a step at the start, in units of the normalised rewards."""


class Rule(lpg.Rule):
    """LPG's rule, with a cost of a step as one more parameter."""

    @nn.compact
    def __call__(self, x: RuleInputs) -> Target:
        """Compute π̂ and ŷ."""
        log_cost = self.param("log_step_cost", nn.initializers.constant(jnp.log(FIRST_COST)), ())
        return super().__call__(charge_steps(x, jnp.exp(log_cost)))


@dataclass(frozen=True)
class Config(lpg.Config):
    """LPG's settings, for the rule that charges steps."""

    def make_rule(self) -> Rule:
        """Make the rule that these settings describe."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)
