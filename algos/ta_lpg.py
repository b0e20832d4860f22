"""Temporally-aware LPG (Jackson et al. 2024, arXiv 2402.05828): a rule that reads the agent's age.

A fork of `lpg.py`. The rule also reads n/N, the fraction of the agent's updates done, and log N,
the logarithm of their number (eq. 9). So it can explore early and exploit late, at any horizon. The
published code feeds the raw n and N instead.

The input is log N - log `MIDDLE`, which is centred around 0. With log N itself, which is always
about 4, the noise that evolution adds to its weights would shift all gates at once.

A meta-gradient over a few updates does not see how an update affects the end of a life. The paper
learns such rules by evolution, which compares whole lives (`purejaxrl/meta/evolution.py`).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from algos import lpg
from algos.lpg import Hypers, RuleInputs, init_rule, make, with_rule

__all__ = ["Config", "Hypers", "init_rule", "make", "with_rule"]

MIDDLE = 50.0
"""Typical length of the lives that rules are learned on, in updates."""


def time_inputs(x: RuleInputs) -> tuple[jax.Array, jax.Array]:
    """Return the fraction of life done, in [0, 1), and its length as log N - log MIDDLE."""
    return x.age, jnp.log(x.horizon / MIDDLE)


class Rule(lpg.Rule):
    """LPG's rule with two more inputs."""

    def extra_inputs(self, x: RuleInputs) -> tuple[jax.Array, ...]:
        """Return the agent's age and the length of its life."""
        return time_inputs(x)


@dataclass(frozen=True)
class Config(lpg.Config):
    """LPG's settings, for the rule that reads the agent's age."""

    def make_rule(self) -> Rule:
        """Make the rule that these settings describe."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)
