r"""Policy-guided diffusion: an offline agent that learns from guided synthetic experience too.

python experiments/collect_dataset.py
python experiments/trajectory_diffusion.py
python experiments/policy_guided_diffusion.py --model results/trajectory_diffusion/model-0
python experiments/policy_guided_diffusion.py --model results/trajectory_diffusion/model-0 \
    --algorithm td3_bc,iql --hypers.guidance 0,0.5,1

A guidance of 0 is unguided diffusion; `offline.py` is the same agent on real data alone.
OUT/scores.csv has normalised returns. OUT/pieces.csv has, for each agent and guidance, how likely
drawn actions are under its final policy, and on Pendulum how far drawn steps are from the true
dynamics.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import envs
from algos import policy_guided_diffusion as pgd
from algos import td3_bc
from algos import trajectory_diffusion as diffusion
from algos.offline import ALGORITHMS
from envs.dynamics import STATE_OF, dynamics_error
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch
from purejaxrl.offline.files import load_card, load_dataset
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.runner import RunOptions
from purejaxrl.study.normalized import save_scores
from purejaxrl.validation import require, require_count, require_known

GUIDANCE = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Guidance coefficients with which pieces are drawn for the final policies."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to learn, and from what."""

    algorithm: str = "td3_bc"
    """The agent: bc, td3_bc, iql or rebrac; the other defaults depend on it."""
    dataset: str = "results/datasets/Pendulum-v1/medium.npz"
    """File that `collect_dataset.py` wrote."""
    model: str = ""
    """Folder of a model that `trajectory_diffusion.py` learned on this dataset."""
    draws: int = 10
    """How often synthetic experience is drawn anew."""
    seeds: int = 5
    """Agents per combination of hyperparameters; their seeds count up from `first_seed`."""
    learner: pgd.Config = pgd.Config()
    """Static settings of synthetic experience."""
    agent: Any = td3_bc.Config()
    """The agent's static settings."""
    hypers: pgd.Hypers = pgd.Hypers(agent=td3_bc.Hypers())
    """Guidance, and the agent's hyperparameters."""
    run: RunFlags = RunOptions()
    """How to run."""

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"{self.algorithm} with guided diffusion on {Path(self.dataset).stem}"

    @classmethod
    def recommended(cls, algorithm: str) -> "Settings":
        """Return the settings that suit an agent.

        Raises:
            ValueError: for an unknown agent, with a suggestion.
        """
        require_known("algorithm", algorithm, ALGORITHMS)
        module = ALGORITHMS[algorithm]
        run = RunOptions(
            out=f"results/policy_guided_diffusion/{algorithm}", chunk=1, checkpoint_every=1,
            eval_every=1, eval_greedy=True,
        )  # fmt: skip
        hypers = pgd.Hypers(agent=module.Hypers())
        return cls(algorithm=algorithm, agent=module.Config(), hypers=hypers, run=run)


def build(settings: Settings) -> Job:
    require_count(settings, "draws")
    dataset, card = load_dataset(settings.dataset)
    require(bool(settings.model), settings, "model", "the folder of a trajectory diffusion model")
    env, env_params = envs.make(card.env, **card.env_settings)
    env = for_network(env)
    config, model = diffusion.load(settings.model, card.fingerprint)
    agent = ALGORITHMS[settings.algorithm].make(settings.agent, env)
    algorithm = pgd.make(settings.learner, agent, config, env)
    shared = {"agent.dataset": dataset, "model": model}
    return Job(algorithm, env_params, settings.draws, env, shared=shared)


def ask(outcome: Outcome) -> pd.DataFrame:
    """Draw pieces for every final policy; return likelihood and dynamics error by guidance."""
    settings, result, job = outcome.settings, outcome.result, outcome.job
    card = load_card(settings.dataset)
    config, model = diffusion.load(settings.model, card.fingerprint)
    variance = job.shared["agent.dataset"].steps.next_obs.var(0)
    (num_obs,) = variance.shape

    @jax.jit
    def pieces_of(key: jax.Array, state: Any, guidance: jax.Array):
        log_prob = pgd.likelihood_under(job.algorithm, state)
        pieces = diffusion.draw_pieces(
            key, config, model, num_obs, settings.learner.num_pieces, settings.learner.sampling,
            log_prob, guidance,
        )  # fmt: skip
        made = diffusion.from_pieces(pieces, num_obs)
        return made, log_prob(made.obs, made.action).mean()

    rows = []
    for i, _ in result.survivors("pieces"):
        for guidance in GUIDANCE:
            state = result.member(i)
            made, likelihood = pieces_of(jax.random.key(0), state, jnp.float32(guidance))
            found = {"drawn_with": guidance, "log_prob": float(likelihood)}
            if card.env in STATE_OF:
                error = dynamics_error(card.env, job.env_params, made, variance)
                found["dynamics_error"] = float(np.mean(error))
            rows.append(dict(result.population.rows[i]) | found)
    return pd.DataFrame(rows)


def write(outcome: Outcome) -> None:
    """Save and say normalised scores, and what the final policies' pieces are like."""
    result = outcome.result
    ask(outcome).to_csv(result.out / "pieces.csv", index=False)
    save_scores(result, load_card(outcome.settings.dataset))


if __name__ == "__main__":
    launch(Settings, build, save=write)
