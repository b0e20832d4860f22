"""GROOVE: general RL objectives, obtained via open-ended level design (Jackson et al. 2023).

arXiv 2310.02782, algorithm 1. A rule of LPG, learned by meta-gradient on levels that a curriculum
chooses: those where a hand-made algorithm still learns more than the rule does.

    for every agent, beside it an A2C antagonist on the same level:
        agent and antagonist make K updates each                      # gradient.py
        the agent's updates are differentiated with respect to the rule
    the rule takes a step
    for every agent whose life is over:                               # succession.py
        its level's score is the antagonist's final return less the agent's
        the buffer keeps the level if its score is among the highest
        another agent begins, on a level from the buffer, or on a new one

The published code recomputes the regret of every agent at every step; here a life is scored once,
when it ends, for the price of one more agent beside each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from algos import a2c, lpg
from purejaxrl.algorithm import Algorithm
from purejaxrl.meta import gradient
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.gradient import Hypers
from purejaxrl.parts import networks
from purejaxrl.ued.curriculum import Replay, replay
from purejaxrl.ued.scores import algorithmic_regret
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Config(gradient.Config):
    """The meta-gradient's static settings, and those of the level buffer."""

    capacity: int = 4000
    """Levels that the buffer has room for."""
    num_episodes: int = 16
    """Evaluation episodes of an agent, and of its antagonist, whose life is over."""
    slots: int = 8
    """Lives that a device judges at a time."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "capacity", "num_episodes", "slots")
        least = self.num_agents
        require(self.capacity >= least, self, "capacity", f"an integer >= num_agents = {least}")


def hypers(**changes: Any) -> Hypers:
    """Hyperparameters of all that GROOVE is made of, at their defaults but for the changes."""
    parts = {
        "agent": lpg.Hypers(),
        "regularizer": lpg.Regularizer(),
        "antagonist": a2c.Hypers(learning_rate=0.1, max_grad_norm=float("inf")),
        "curriculum": Replay(),
    }
    return Hypers(**(parts | changes))


def make(
    config: Config,
    agent: lpg.Config,
    env: Any,
    sample_level: Callable,
    sample_lifetime: Callable,
    score: Callable = algorithmic_regret,
    axis_name: str | None = "agents",
) -> Algorithm:
    """GROOVE on a gymnax environment with levels and discrete actions.

    Args:
        config: static settings.
        agent: static settings of the agents and the rule; antagonists have the same environments,
            steps and networks.
        env: gymnax 1.x environment.
        sample_level: `(key) -> env_params`, whence new levels come.
        sample_lifetime: `(key) -> int32`, in updates.
        score: of a level, `(key, Outcome) -> float`, as in `ued/scores.py`. Only algorithmic
            regret has antagonists.
        axis_name: see `gradient.make`.
    """
    space = env.observation_space(env.default_params)
    antagonist = a2c.make(
        a2c.Config(
            num_envs=agent.num_envs,
            num_steps=agent.num_steps,
            torso=agent.torso,
            hidden=agent.hidden,
            activation=agent.activation,
        ),
        env,
    )
    torso = networks.torso_for(space, agent.torso, agent.hidden, agent.activation)
    return gradient.make(
        config,
        lpg.make(agent, env),
        networks.readout(space, torso, 1),
        init_theta=lambda key: lpg.init_rule(key, agent),
        insert=lpg.with_rule,
        curriculum=replay(sample_level, config.capacity),
        sample_lifetime=sample_lifetime,
        assessment=Assessment(
            score,
            env,
            antagonist if score is algorithmic_regret else None,
            config.num_episodes,
            slots=config.slots,
        ),
        axis_name=axis_name,
    )
