"""Policy-guided diffusion (Jackson et al. 2024, arXiv 2404.06356): experience on demand.

A diffusion model learns what pieces of a dataset's episodes look like, p(τ). Pieces are then drawn
from p(τ) ∏ π(aₜ|sₜ)^λ: near the dataset, and likely under the policy π that learns from them. Any
offline algorithm with a `log_prob` learns from a mixture of the dataset and of such pieces, which
are drawn anew as its policy changes. λ = 0 is unguided.

Guidance moves the denoised actions by `edm.tilt`. It differs from the published code, which adds a
step along the gradient at the noised piece: here the shift is that of the tilted density, exactly
so for Gaussians.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from algos import trajectory_diffusion as diffusion
from purejaxrl.algorithm import Algorithm, Metrics, Task, no_steps, require_fit, update
from purejaxrl.identity import part_names
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.networks import obs_shape
from purejaxrl.parts.transitions import Batch, Step
from purejaxrl.validation import hyper, require, require_count


@dataclass(frozen=True)
class Config:
    """Settings of the agent's training that decide a shape or a length. Static."""

    num_pieces: int = 2048
    """Pieces that are drawn at an update."""
    num_updates: int = 10_000
    """The agent's updates between two draws."""
    synthetic: float = 240 / 256
    """Share of the agent's batches that comes from the model."""
    sampling: edm.Sampling = edm.Sampling()
    """How pieces are drawn."""

    def __post_init__(self):
        require_count(self, "num_pieces", "num_updates")
        require(0 < self.synthetic < 1, self, "synthetic", "a number > 0 and < 1")
        edm.check_sampling(self.sampling)


class Hypers(struct.PyTreeNode):
    """Hyperparameters, which can be vmapped or swept. Traced."""

    agent: Any = None
    """The agent's hyperparameters, the dataset among them."""
    model: Any = None
    """What `trajectory_diffusion.py` learned on the same dataset: a `Model`."""
    guidance: float = hyper(1.0, at_least=0)
    """λ: 0 draws from the model alone. The first draw is unguided, as the policy is random."""


class State(NamedTuple):
    """An agent that learns from a dataset and from pieces that a model makes."""

    agent: Any
    task: Task
    key: jax.Array
    step: jax.Array  # int32, updates done


def mixed(dataset: Dataset, made: Step, share: float) -> Dataset:
    """Join a dataset and synthetic steps, which make up the fraction `share` of all draws.

    Raises:
        ValueError: if the dataset has weights, which the mixture would lose.
    """
    if dataset.cumulative is not None:
        raise ValueError("dataset: it is weighted, and only steps drawn alike can be mixed")
    sizes = np.array([len(dataset.steps.reward), len(made.reward)])
    steps = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), dataset.steps, made)
    return Dataset.weighted(steps, np.repeat(np.array([1.0 - share, share]) / sizes, sizes))


def likelihood_under(agent: Algorithm, state: Any) -> diffusion.LogProb:
    """Return how likely actions are under the policy of an agent's state."""
    return lambda obs, action: agent.log_prob(state, Batch(obs, action, None, None, None))[0]


def make(config: Config, agent: Algorithm, model: diffusion.Config, env: Any) -> Algorithm:
    """Make an agent that learns from a dataset and from guided pieces.

    An update draws pieces by the policy as it is, and then makes `num_updates` of the agent's.

    Args:
        config: static settings.
        agent: an offline algorithm.
        model: config of the model in `Hypers.model`.
        env: the environment that the dataset was recorded in.

    Raises:
        ValueError: if the agent has no `log_prob`.
    """
    require_fit("agent", agent, "guidance", "log_prob")
    (num_obs,) = obs_shape(env.observation_space(env.default_params))

    def inner(task: Task) -> Task:
        return task._replace(horizon=task.horizon * config.num_updates)

    def init(key: jax.Array, hypers: Hypers, task: Task) -> State:
        agent_key, key = jax.random.split(key)
        return State(agent.init(agent_key, hypers.agent, inner(task)), task, key, jnp.int32(0))

    def draw(state: State, hypers: Hypers) -> tuple[State, Step]:
        key, draw_key = jax.random.split(state.key)
        pieces = diffusion.draw_pieces(
            draw_key, model, hypers.model, num_obs, config.num_pieces, config.sampling,
            likelihood_under(agent, state.agent), jnp.where(state.step > 0, hypers.guidance, 0.0),
        )  # fmt: skip
        made = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), diffusion.from_pieces(pieces, num_obs)
        )
        learner = state.agent._replace(task=inner(state.task))
        return state._replace(agent=learner, key=key), made

    def learn(state: State, hypers: Hypers, made: Step) -> tuple[State, Metrics]:
        dataset = mixed(hypers.agent.dataset, made, config.synthetic)
        of_agent = hypers.agent.replace(dataset=dataset)
        likelihood = likelihood_under(agent, state.agent)(made.obs, made.action).mean()
        learner, metrics = jax.lax.scan(
            lambda learner, _: update(agent, learner, of_agent), state.agent,
            length=config.num_updates,
        )  # fmt: skip
        metrics = jax.tree.map(jnp.mean, metrics) | no_steps() | {"log_prob": likelihood}
        return state._replace(agent=learner, step=state.step + 1), metrics

    def log_prob(state: State, batch: Batch) -> tuple[jax.Array, Metrics]:
        return agent.log_prob(state.agent, batch)

    def vital(state: State, metrics: Metrics) -> Any:
        return agent.vital(state.agent, metrics)

    return Algorithm(
        config, init, draw, learn, lambda state: agent.policy(state.agent), agent.act,
        memory=agent.memory, vital=vital, log_prob=log_prob, steps_per_update=0,
        made_of=(*agent.made_of, *part_names(agent.config, model)),
    )  # fmt: skip
