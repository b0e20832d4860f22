"""Learning a rule of LPG or TA-LPG: by meta-gradient (Oh et al. 2020), or by evolution.

A rule is learned in one world or in several (`purejaxrl/meta/worlds.py`), from random weights or
from an existing rule. Levels are drawn uniformly by default; GROOVE (`groove.py`) chooses them.
Evolution is that of Jackson et al. 2024 (arXiv 2402.05828).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from flax import struct

from algos import lpg
from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.base import InitTheta, SampleLifetime
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks, torsos
from purejaxrl.ued.curriculum import uniform
from purejaxrl.validation import hyper


class Regularizer(struct.PyTreeNode):
    """Regularisers of the meta-objective (LPG eq. 6).

    The weights of the policy's entropy and of π̂ are those of GROOVE's table 2. Those of the
    predictions are a hundredth of its 0.001. In the published code no gradient of the return
    reaches ŷ; here one does, and 0.001 would outweigh it and push ŷ to uniform.
    """

    entropy: float = hyper(0.05, at_least=0)
    """β0, weight of the policy's entropy, which is maximised."""
    prediction_entropy: float = hyper(1e-5, at_least=0)
    """β1, weight of the prediction's entropy, which is maximised."""
    pi_hat: float = hyper(0.005, at_least=0)
    """β2, weight of ‖π̂‖², which is minimised."""
    y_hat: float = hyper(1e-5, at_least=0)
    """β3, weight of ‖ŷ‖², which is minimised."""

    def loss(self, metrics: Metrics) -> jax.Array:
        """Add up the terms, which are metrics of `learn` and `log_prob`."""
        return (
            self.pi_hat * metrics["pi_hat_square"]
            + self.y_hat * metrics["y_hat_square"]
            - self.entropy * metrics["entropy"]
            - self.prediction_entropy * metrics["prediction_entropy"]
        )


TUNED = {"regularizer": Regularizer(entropy=0.002, pi_hat=0.0001), "learning_rate": 5e-4}
"""Hyperparameters of the meta-gradient for 64 agents of 16 environments and rules of width 64,
where GROOVE's regularisers are too strong."""


def gradient_hypers() -> gradient.Hypers:
    """Return hyperparameters for a meta-gradient of 64 agents."""
    return gradient.Hypers(agent=lpg.Hypers(), **TUNED)


def world(
    agent: lpg.Config, env: Any, sample_lifetime: SampleLifetime, name: str = "levels", **parts: Any
) -> World:
    """Make a world of agents that learn by a rule, on levels that are all new.

    Args:
        agent: static settings of the agents and of the rule; TA-LPG's for a rule that reads time.
        env: gymnax environment with discrete actions; it has levels, unless `curriculum` is given.
        sample_lifetime: draws the length of a life.
        name: name of the world.
        parts: other fields of `World`.
    """
    space = env.observation_space(env.default_params)
    critic = networks.readout(space, torsos.torso_for(agent, env), 1)
    if "curriculum" not in parts:
        parts["curriculum"] = uniform(env.sample_level)
    found = {"critic": critic} | parts
    return World(name, lpg.make(agent, env), env, sample_lifetime=sample_lifetime, **found)


def start_from(rule: Any, config: lpg.Config) -> InitTheta:
    """Make an `init_theta` that starts from a rule: a distilled one, or one that was learned.

    Raises:
        ValueError: if its parameters are not those of the config's rule.
    """
    networks.check_made_by(lpg.init_rule, "start_from", rule, config)
    return partial(_constant, rule)


def _constant(rule: Any, key: jax.Array) -> Any:
    return rule


def by_gradient(
    config: gradient.Config,
    agent: lpg.Config,
    worlds: World | Sequence[World],
    init_theta: InitTheta | None = None,
) -> Algorithm:
    """Make the meta-learner that differentiates through the agents' updates.

    Args:
        config: static settings of the meta-learner.
        agent: static settings of the rule.
        worlds: where agents live; all with the same rule.
        init_theta: draws the first rule; an untrained one by default.
    """
    init_theta = init_theta or partial(lpg.init_rule, config=agent)
    return gradient.make(config, worlds, init_theta=init_theta, insert=lpg.with_rule)


def by_evolution(
    config: evolution.Config,
    agent: lpg.Config,
    worlds: World | Sequence[World],
    init_theta: InitTheta | None = None,
) -> Algorithm:
    """Make the meta-learner that compares whole lives; arguments as in `by_gradient`."""
    init_theta = init_theta or partial(lpg.init_rule, config=agent)
    return evolution.make(config, worlds, init_theta=init_theta, insert=lpg.with_rule)
