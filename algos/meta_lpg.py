"""Learning a rule of LPG or TA-LPG: by meta-gradient (Oh et al. 2020), or by evolution.

The default of `by_gradient` draws levels uniformly; GROOVE (`groove.py`) chooses them. Evolution is
that of Jackson et al. 2024 (arXiv 2402.05828).
"""

from functools import partial
from typing import Any

from algos import lpg
from purejaxrl.algorithm import Algorithm
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.base import SampleLifetime
from purejaxrl.parts import networks
from purejaxrl.ued.curriculum import uniform

TUNED = {"regularizer": lpg.Regularizer(entropy=0.002, pi_hat=0.0001), "learning_rate": 5e-4}
"""Hyperparameters of the meta-gradient for 64 agents of 16 environments and rules of width 64,
where GROOVE's regularisers are too strong."""


def gradient_hypers() -> gradient.Hypers:
    """Return hyperparameters for a meta-gradient of 64 agents."""
    return gradient.Hypers(agent=lpg.Hypers(), **TUNED)


def by_gradient(
    config: gradient.Config, agent: lpg.Config, env: Any, sample_lifetime: SampleLifetime
) -> Algorithm:
    """Make the meta-learner that differentiates through the agents' updates, on uniform levels.

    Args:
        config: static settings of the meta-learner.
        agent: static settings of the agents and of the rule; TA-LPG's for a rule that reads time.
        env: gymnax environment with levels, observations that index a table and discrete actions.
        sample_lifetime: draws the length of a life.
    """
    return gradient.make(
        config,
        lpg.make(agent, env),
        networks.readout(env.observation_space(), None, 1),
        init_theta=partial(lpg.init_rule, config=agent),
        insert=lpg.with_rule,
        curriculum=uniform(env.sample_level),
        sample_lifetime=sample_lifetime,
    )


def by_evolution(
    config: evolution.Config, agent: lpg.Config, env: Any, sample_lifetime: SampleLifetime
) -> Algorithm:
    """Make the meta-learner that compares whole lives; arguments as of `by_gradient`."""
    return evolution.make(
        config,
        lpg.make(agent, env),
        env,
        init_theta=partial(lpg.init_rule, config=agent),
        insert=lpg.with_rule,
        curriculum=uniform(env.sample_level),
        sample_lifetime=sample_lifetime,
    )
