r"""How far synthetic experience is from the true dynamics: diffusion beside an ensemble of models.

python experiments/collect_dataset.py
python experiments/trajectory_diffusion.py
python experiments/policy_guided_diffusion.py --model results/trajectory_diffusion/model-0
python experiments/dynamics_error.py --run results/policy_guided_diffusion/td3_bc

Every final policy of the run gets pieces from the diffusion model, for several guidances, and acts
in an ensemble that is learned from the same dataset. OUT/errors.csv and OUT/errors.png have the
squared error of every step's next observation against the true dynamics, in units of the variance
of the dataset's next observations, and OUT/likelihoods.csv how likely the actions are under the
policy. It needs an environment whose observations determine its state, such as Pendulum.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd

from algos import dynamics_ensemble as ensemble
from algos import trajectory_diffusion as diffusion
from algos.policy_guided_diffusion import likelihood_under
from envs.dynamics import dynamics_error
from purejaxrl.launch import command, say, writable_folder
from purejaxrl.offline.files import load_card
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.transitions import Step
from purejaxrl.running.commandline import Plan, load_members, rebuild
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study.stats import interval
from purejaxrl.study.tables import print_table
from purejaxrl.validation import require, require_count


@dataclass(frozen=True)
class Settings:
    """Which experience to measure."""

    run: Path = Path("results/policy_guided_diffusion/td3_bc")
    """Folder of a run of `policy_guided_diffusion.py`."""
    guidance: tuple[float, ...] = (0.0, 1.0)
    """Coefficients with which pieces are drawn."""
    num_pieces: int = 2048
    """Pieces of each kind."""
    updates: int = 20_000
    """Gradient steps of the ensemble."""
    model: ensemble.Config = ensemble.Config()
    """The ensemble's static settings."""
    hypers: ensemble.Hypers = ensemble.Hypers()
    """The ensemble's hyperparameters."""
    out: Path = Path("results/dynamics_error")
    """Folder."""

    def __post_init__(self):
        require_count(self, "num_pieces", "updates")
        valid = all(x >= 0 for x in self.guidance)
        require(valid, self, "guidance", "numbers >= 0")
        object.__setattr__(self, "out", writable_folder(self.out))


def learn_ensemble(plan: Plan, dataset: Dataset, settings: Settings) -> ensemble.Ensemble:
    """Learn an ensemble, or continue to."""
    learner = ensemble.make(settings.model, plan.job.env)
    hypers = settings.hypers.replace(dataset=dataset)
    members = populate(seeds(1), hypers, plan.job.env_params, shared=("dataset",))
    options = RunOptions(f"{settings.out}/ensemble", resume=True, chunk=512, log_every=64)
    result = run(learner, members, settings.updates, options)
    return learner.policy(result.member(0))


def make_experience(plan: Plan, settings: Settings) -> list[tuple[str, Any]]:
    """Return the kinds of experience, and functions `(key, state) -> steps [pieces, length]`."""
    job, about = plan.job, plan.settings
    dataset, card = job.shared["agent.dataset"], load_card(about.dataset)
    config, model = diffusion.load(about.model, card.fingerprint)
    learned, num_obs = learn_ensemble(plan, dataset, settings), dataset.steps.obs.shape[-1]

    def drawn(guidance: float) -> Any:
        def draw(key: jax.Array, state: Any) -> Step:
            log_prob = likelihood_under(job.algorithm, state)
            pieces = diffusion.draw_pieces(
                key, config, model, num_obs, settings.num_pieces, edm.Sampling(), log_prob, guidance
            )
            return diffusion.from_pieces(pieces, num_obs)

        return draw

    def acted(key: jax.Array, state: Any) -> Step:
        first_key, key = jax.random.split(key)
        policy = job.algorithm.policy(state)
        first = dataset.steps.obs[dataset.draw(first_key, settings.num_pieces)]
        old = jnp.zeros(settings.num_pieces, bool)

        def act(key: jax.Array, obs: jax.Array) -> jax.Array:
            return job.algorithm.act(policy, (), obs, old, key, False)[0]

        return ensemble.roll_out(key, settings.model, learned, first, act, config.length)

    kinds = [(f"diffusion, guidance {x:g}", drawn(x)) for x in settings.guidance]
    return [*kinds, ("ensemble", acted)]


def main(settings: Settings) -> None:
    plan = rebuild(settings.run)
    if "agent.dataset" not in plan.job.shared:
        raise ValueError(f"run: {settings.run} holds no run of policy_guided_diffusion.py")
    job, card = plan.job, load_card(plan.settings.dataset)
    real = job.shared["agent.dataset"].steps
    variance, (states, alive) = real.next_obs.var(0), load_members(plan)
    if not alive.any():
        raise ValueError(f"run: all policies of {settings.run} diverged")
    dynamics_error(card.env, job.env_params, jax.tree.map(lambda x: x[:1], real), variance)
    errors, likelihoods = [], []
    for kind, make in make_experience(plan, settings):

        @jax.jit
        def look(key: jax.Array, state: Any, make: Any = make) -> tuple[jax.Array, jax.Array]:
            made = make(key, state)
            error = dynamics_error(card.env, job.env_params, made, variance)
            likelihood = likelihood_under(job.algorithm, state)(made.obs, made.action)
            return error.mean(0), likelihood.mean()

        for i in np.flatnonzero(alive):
            row = plan.population.rows[i]
            error, likelihood = look(jax.random.key(i), jax.tree.map(lambda x: x[i], states))  # noqa: B023
            errors += [
                {"experience": kind, **row, "step": step + 1, "error": float(x)}
                for step, x in enumerate(np.asarray(error))
            ]
            likelihoods.append({"experience": kind, **row, "log_prob": float(likelihood)})
    frame = pd.DataFrame(errors)
    frame.to_csv(settings.out / "errors.csv", index=False, float_format="%.6g")
    pd.DataFrame(likelihoods).to_csv(settings.out / "likelihoods.csv", index=False)
    draw(frame, settings.out / "errors.png")
    print_table(
        tabulate(frame, pd.DataFrame(likelihoods), plan.swept),
        title=f"{plan.population.size} policies",
    )
    say(f"errors.csv, errors.png and likelihoods.csv are in {settings.out}")


def tabulate(errors: pd.DataFrame, likelihoods: pd.DataFrame, swept: Sequence[str]) -> pd.DataFrame:
    """Return a row for each kind of experience and of policies: errors of the first and last step.

    Args:
        errors: columns `experience`, `step`, `error`, and what the policies differ in.
        likelihoods: columns `experience`, `log_prob`, and what the policies differ in.
        swept: hyperparameters in which policies differ.
    """
    rows, by = [], ["experience", *swept]
    said_by = dict(list(likelihoods.groupby(by, sort=False)["log_prob"]))
    for kind, part in errors.groupby(by, sort=False):
        said = said_by[kind]
        at = lambda step, part=part: str(interval(part[part["step"] == step]["error"].to_numpy()))  # noqa: E731
        rows.append(dict(zip(by, kind, strict=True)) | {
            "error of the first step": at(1),
            "of the last": at(part["step"].max()), "log π": str(interval(said.to_numpy())),
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw(errors: pd.DataFrame, path: Path) -> None:
    """Draw the mean error by the step within a piece, and the policies' range."""
    figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for kind, part in errors.groupby("experience", sort=False):
        by_step = part.groupby("step")["error"]
        axes.plot(by_step.mean(), label=kind)
        axes.fill_between(by_step.min().index, by_step.min(), by_step.max(), alpha=0.2, lw=0)
    axes.set(yscale="log", xlabel="step of a piece", ylabel="error, in variances")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    command(main, Settings)
