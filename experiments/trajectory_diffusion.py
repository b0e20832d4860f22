"""A diffusion model of pieces of a dataset's episodes, for policy_guided_diffusion.py.

python experiments/collect_dataset.py
python experiments/trajectory_diffusion.py --dataset results/datasets/Pendulum-v1/medium.npz

OUT/model-SEED holds a model. OUT/samples.csv compares what it draws with the dataset: mean and
deviation of every channel.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

import envs
from algos import trajectory_diffusion as diffusion
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.offline.files import load_card, load_dataset
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import starts_of_pieces
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running import processes
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count

NUM_SAMPLES = 1024
"""Pieces that are drawn to be compared."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to learn, and from what."""

    dataset: str = "results/datasets/Pendulum-v1/medium.npz"
    """File that `collect_dataset.py` wrote."""
    updates: int = 50_000
    """Gradient steps."""
    seeds: int = 1
    """Models; their seeds count up from `first_seed`."""
    model: diffusion.Config = diffusion.Config()
    """The model's static settings."""
    hypers: diffusion.Hypers = diffusion.Hypers()
    """The model's hyperparameters."""
    run: RunFlags = RunOptions(
        out="results/trajectory_diffusion", chunk=512, log_every=64, checkpoint_every=16
    )

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        return f"Diffusion on {Path(self.dataset).stem}"


def build(settings: Settings) -> Job:
    require_count(settings, "updates")
    processes.require_single("a model that is saved")
    dataset, card = load_dataset(settings.dataset)
    env, env_params = envs.make(card.env, **card.env_settings)
    starts = jnp.asarray(starts_of_pieces(dataset, settings.model.length))
    algorithm = diffusion.make(settings.model, for_network(env))
    shared = {"dataset": dataset, "starts": starts}
    return Job(algorithm, env_params, settings.updates, shared=shared)


def write(outcome: Outcome) -> None:
    """Save the models, and say how far their samples are from the dataset."""
    result, settings = outcome.result, outcome.settings
    dataset, card = outcome.job.shared["dataset"], load_card(settings.dataset)
    real = np.asarray(diffusion.to_channels(dataset.steps))
    num_obs, rows = dataset.steps.obs.shape[-1], []
    for i, label in result.survivors("model"):
        row = result.population.rows[i]
        model = outcome.job.algorithm.policy(result.member(i))
        diffusion.save(result.out / f"model-{label}", settings.model, model, card.fingerprint)
        pieces = jax.jit(
            lambda key, model: diffusion.draw_pieces(
                key, settings.model, model, num_obs, NUM_SAMPLES, edm.Sampling()
            )
        )(jax.random.key(0), model)
        drawn = np.asarray(pieces[:, :-1]).reshape(-1, real.shape[-1])
        for channel in range(real.shape[-1]):
            a, b = real[:, channel], drawn[:, channel]
            rows.append({
                **row, "channel": channel, "mean": a.mean(), "drawn_mean": b.mean(),
                "std": a.std(), "drawn_std": b.std(),
            })  # fmt: skip
    pd.DataFrame(rows).to_csv(result.out / "samples.csv", index=False)
    say(f"models and samples.csv are in {result.out}")


if __name__ == "__main__":
    launch(Settings, build, save=write)
