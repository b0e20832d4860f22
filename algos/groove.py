"""GROOVE: general RL objectives, obtained via open-ended level design (Jackson et al. 2023).

arXiv 2310.02782, algorithm 1. A rule of LPG is learned by meta-gradient on levels that a curriculum
chooses: those on which a hand-made algorithm still learns more than an agent with the rule.

    for every agent, and for its A2C antagonist on the same level:
        make K updates                                                # meta/gradient.py
        differentiate the agent's updates with respect to the rule
    update the rule
    for every agent whose life is over:                               # meta/agents.py
        score its level by the antagonist's final return minus the agent's
        keep the level in the buffer if its score is among the highest
        begin another agent, on a level from the buffer or on a new one

The published code recomputes the regret of every agent at every step. Here a life is scored once,
when it ends; an antagonist trains beside every agent for that.

The defaults suit 64 agents with lives of 250 updates, and differ from the paper's. The buffer is
small: in 8,000 meta-steps about 5,000 new levels are scored, ten times as many as it holds. The
temperature is higher, because the score of a single life is noisy.
"""

from dataclasses import dataclass
from typing import Any

from algos import a2c, lpg, meta_lpg
from purejaxrl.algorithm import Algorithm
from purejaxrl.meta import gradient
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.base import SampleLifetime
from purejaxrl.meta.gradient import Hypers
from purejaxrl.ued.curriculum import Replay, SampleLevel, replay
from purejaxrl.ued.scores import OptimalReturn, Score, algorithmic_regret, fields_read
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Config(gradient.Config):
    """The meta-gradient's static settings, and those of the level buffer."""

    capacity: int = 512
    """Slots of the buffer: 8 for each of the default number of agents."""
    num_episodes: int = 64
    """Evaluation episodes of a finished agent, and of its antagonist."""
    slots: int = 8
    """Finished lives that a device scores at a time."""

    def __post_init__(self):
        super().__post_init__()
        require_count(self, "capacity", "num_episodes", "slots")
        least = self.num_agents
        require(self.capacity >= least, self, "capacity", f"an integer >= num_agents = {least}")


def hypers(**changes: Any) -> Hypers:
    """Return the default hyperparameters of all parts of GROOVE, with some fields changed."""
    parts = {
        "agent": lpg.Hypers(),
        "regularizer": meta_lpg.Regularizer(),
        "antagonist": a2c.Hypers(learning_rate=0.1, entropy_coef=0.0, max_grad_norm=float("inf")),
        "curriculum": Replay(temperature=1.0),
    }
    return Hypers(**(parts | changes))


def make_antagonist(agent: lpg.Config, env: Any) -> Algorithm:
    """Make A2C with the environments, steps and networks of the agents that it is compared with."""
    config = a2c.Config(
        num_envs=agent.num_envs,
        num_steps=agent.num_steps,
        torso=agent.torso,
        hidden=agent.hidden,
        activation=agent.activation,
    )
    return a2c.make(config, env)


def make(
    config: Config,
    agent: lpg.Config,
    env: Any,
    sample_level: SampleLevel,
    sample_lifetime: SampleLifetime,
    score: Score = algorithmic_regret,
    optimal_return: OptimalReturn | None = None,
) -> Algorithm:
    """Make GROOVE for a gymnax environment with levels and discrete actions.

    Args:
        config: static settings.
        agent: static settings of the agents and the rule; antagonists have the same environments,
            steps and networks.
        env: gymnax 1.x environment.
        sample_level: draws a new level.
        sample_lifetime: draws the length of a life.
        score: scores a level, as in `ued/scores.py`; antagonists train only for a score that reads
            their returns.
        optimal_return: computes the optimal return of a level, for a score that reads it.

    Raises:
        ValueError: if the torso cannot read the observations, actions are not discrete, or a life
            is shorter than one update.
    """
    scored = Assessment(
        make_antagonist(agent, env) if "antagonist_returns" in fields_read(score) else None,
        config.num_episodes,
        slots=config.slots,
        optimal_return=optimal_return,
    )
    curriculum = replay(sample_level, score, config.capacity)
    world = meta_lpg.world(agent, env, sample_lifetime, curriculum=curriculum, assessment=scored)
    return meta_lpg.by_gradient(config, agent, world)
