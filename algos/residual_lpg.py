"""Residual LPG: a rule that starts as a hand-made one, and learns to correct it.

A fork of `lpg.py`. A meta-gradient or an evolution that starts from random weights has to find
advantages and values first. This rule has them: it is `hand_rules.ActorCritic`, whose value is
written into the prediction y, with four corrections. A small recurrent network that runs backwards
in time outputs them at every step of every environment:

    π̂ = (1 + gain) π̂₀ + offset          ŷ is centred at symlog(return) + shift, and is
                                        exp(width) times as wide

Its last layer starts at zero, so that the untrained rule is the hand-made one. The settings of the
hand-made rule are parameters too. Besides each step's own numbers, the network reads two of the
whole rollout: the scale of π̂₀, and the mean of -log π(a|s), an estimate of the policy's entropy.
This rule does not read the agent's age: `ta_residual_lpg.py` does.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from algos import lpg
from algos.hand_rules import ActorCritic, Settings, Unbounded
from algos.lpg import Hypers, RuleInputs, Target, init_rule, make, with_rule
from purejaxrl.parts.symlog import symlog
from purejaxrl.validation import require

__all__ = ["Config", "Hypers", "init_rule", "make", "settings_of", "with_rule", "with_settings"]


class Rule(lpg.Rule):
    """A hand-made rule with learned corrections."""

    start: Settings = Settings(entropy_coef=1e-3, scale_power=0.5, step_cost=1e-3)
    """Settings of the hand-made rule at the start."""

    @nn.compact
    def __call__(self, x: RuleInputs) -> Target:
        """Compute π̂ and ŷ."""
        hand = ActorCritic()
        start = Unbounded.of(self.start)._asdict()
        settings = Unbounded(**{
            name: self.param(name, nn.initializers.constant(value), ())
            for name, value in start.items()
        }).settings()  # fmt: skip
        timed = self.with_time(x)
        advantage, value = hand.estimate(settings, x)
        center = symlog(advantage + value)
        before = hand.advise(settings, timed, advantage, center)
        states = self.read_backwards(
            x,
            x.reward,
            x.terminated,
            jnp.log(1.001 - x.gamma),
            x.prob,
            symlog(value),
            before.pi,
            center - symlog(value),
            jnp.log(1e-3 + jnp.sqrt((before.pi**2).mean())),
            -jnp.log(x.prob + 1e-3).mean(),
        )
        corrections = nn.Dense(4, kernel_init=nn.initializers.zeros)(states)
        gain, offset, shift, width = jnp.moveaxis(corrections, -1, 0)
        settings = settings.replace(target_width=settings.target_width * jnp.exp(width))
        after = hand.advise(settings, timed, advantage, center + shift)
        return after._replace(pi=(1 + gain) * before.pi + offset)

    def with_time(self, x: RuleInputs) -> RuleInputs:
        """Return the inputs of the hand-made rule, without the agent's age."""
        return x._replace(age=jnp.float32(0))


def settings_of(rule: Any) -> Unbounded:
    """Return a rule's settings of the hand-made rule, as numbers without bounds."""
    return Unbounded(*(rule["params"][name] for name in Unbounded._fields))


def with_settings(rule: Any, settings: Unbounded) -> Any:
    """Return a rule with other settings of the hand-made rule, and the same corrections."""
    return {"params": rule["params"] | settings._asdict()}


@dataclass(frozen=True)
class Config(lpg.Config):
    """LPG's settings, for the rule that corrects a hand-made one."""

    num_envs: int = 16
    num_epochs: int = 4
    num_predictions: int = 16
    rule_width: int = 4
    """Width of the corrections' recurrent state."""
    rule_embedding: int = 1
    """Not used: the rule reads the value of y."""

    def __post_init__(self):
        super().__post_init__()
        least = "an integer >= 2, as the value of one category is always the same"
        require(self.num_predictions >= 2, self, "num_predictions", least)

    def make_rule(self) -> Rule:
        """Make the rule that these settings describe."""
        return Rule(self.rule_width, self.rule_embedding, self.num_predictions)
