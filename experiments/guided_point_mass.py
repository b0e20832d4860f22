"""What guidance does, as a picture: paths of a point that bend towards a policy.

python experiments/guided_point_mass.py
python experiments/guided_point_mass.py --guidance 0 0.1 1 --direction 90

A dataset holds paths of a point in a plane. They start in the middle and keep one direction, drawn
at random. A diffusion model learns them. Then paths are drawn for a policy that goes in one
direction (policy-guided diffusion, arXiv 2404.06356). OUT/paths.png shows the dataset's paths, and
drawn ones for several guidances; OUT/paths.csv says how far they go in the policy's direction.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd
from gymnax.environments import spaces
from jax.scipy.stats import norm

from algos import trajectory_diffusion as diffusion
from purejaxrl.launch import command, say, writable_folder
from purejaxrl.parts import edm
from purejaxrl.parts.dataset import Dataset, starts_of_pieces
from purejaxrl.parts.transitions import Step
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.study.tables import print_table
from purejaxrl.validation import require, require_count, require_seed

STEP = 0.1
"""How far the point moves with an action of size 1."""
SHOWN = 40
"""Paths of a panel."""


class Plane:
    """Spaces of a point in a plane: it sees its place, and its action is a velocity."""

    default_params = None

    def observation_space(self, params: None) -> spaces.Box:
        """Return the place, `[2]`."""
        return spaces.Box(-jnp.inf, jnp.inf, (2,))

    def action_space(self, params: None) -> spaces.Box:
        """Return the velocity, `[2]`."""
        return spaces.Box(-1.0, 1.0, (2,))


@dataclass(frozen=True)
class Settings:
    """What to learn, and what to draw."""

    num_paths: int = 2000
    """Paths of the dataset."""
    noise: float = 0.1
    """Standard deviation of the dataset's actions around their path's direction."""
    direction: float = 0.0
    """Where the policy goes, in degrees; 0 is to the right."""
    policy_std: float = 0.5
    """Standard deviation of the policy's actions."""
    guidance: tuple[float, ...] = (0.0, 0.05, 0.2, 1.0)
    """Coefficients with which pieces are drawn, a panel each."""
    model: diffusion.Config = diffusion.Config(width=128)
    """The diffusion model's static settings."""
    updates: int = 5_000
    """Gradient steps of the diffusion model."""
    seed: int = 0
    """Seeds the dataset, the model and the pieces."""
    out: Path = Path("results/guided_point_mass")
    """Folder."""

    def __post_init__(self):
        require_count(self, "num_paths", "updates")
        require_seed(self)
        for name in ("noise", "policy_std"):
            require(getattr(self, name) > 0, self, name, "a number > 0")
        valid = bool(self.guidance) and all(x >= 0 for x in self.guidance)
        require(valid, self, "guidance", "numbers >= 0")
        object.__setattr__(self, "out", writable_folder(self.out))

    @property
    def towards(self) -> jax.Array:
        """The policy's mean action, `[2]`."""
        angle = jnp.deg2rad(self.direction)
        return 0.9 * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def record(key: jax.Array, settings: Settings) -> Dataset:
    """Record paths from the middle, each as long as a piece."""
    angle_key, noise_key = jax.random.split(key)
    shape = settings.num_paths, settings.model.length
    angle = jax.random.uniform(angle_key, (shape[0], 1), maxval=2 * jnp.pi)
    mean = 0.7 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
    action = mean + settings.noise * jax.random.normal(noise_key, (*shape, 2))
    action = jnp.clip(action, -1.0, 1.0)
    after = STEP * action.cumsum(1)
    never = jnp.zeros(shape, bool)
    steps = Step(
        after - STEP * action, action, never * 0.0, never, never.at[:, -1].set(True), after
    )
    return Dataset(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps))


def learn(dataset: Dataset, settings: Settings) -> diffusion.Model:
    """Learn the diffusion model, or continue to."""
    learner = diffusion.make(settings.model, Plane())
    starts = jnp.asarray(starts_of_pieces(dataset, settings.model.length))
    hypers, shared = diffusion.Hypers(dataset, starts), ("dataset", "starts")
    members = populate(seeds(1, start=settings.seed), hypers, shared=shared)
    options = RunOptions(f"{settings.out}/model", resume=True, chunk=512, log_every=64)
    result = run(learner, members, settings.updates, options)
    return learner.policy(result.member(0))


def main(settings: Settings) -> None:
    data_key, draw_key = jax.random.split(jax.random.key(settings.seed))
    dataset = record(data_key, settings)
    model = learn(dataset, settings)

    def log_prob(obs: jax.Array, action: jax.Array) -> jax.Array:
        return norm.logpdf(action, settings.towards, settings.policy_std).sum(-1)

    @jax.jit
    def paths(guidance: jax.Array) -> jax.Array:
        pieces = diffusion.draw_pieces(
            draw_key, settings.model, model, 2, 512, edm.Sampling(), log_prob, guidance
        )
        return diffusion.from_pieces(pieces, 2).obs

    real = dataset.steps.obs.reshape(settings.num_paths, -1, 2)
    panels = {"dataset": real} | {f"λ = {x:g}": paths(jnp.float32(x)) for x in settings.guidance}
    rows = []
    for name, shown in panels.items():
        way = np.asarray(shown[:, -1] @ settings.towards) / 0.9
        rows.append({"paths": name, "distance": float(way.mean()), "deviation": float(way.std())})
    frame = pd.DataFrame(rows)
    frame.to_csv(settings.out / "paths.csv", index=False, float_format="%.4g")
    draw(panels, settings.out / "paths.png")
    print_table(frame.round(3), title="how far paths go in the policy's direction")
    say(f"paths.png and paths.csv are in {settings.out}")


def draw(panels: dict[str, jax.Array], path: Path) -> None:
    """Draw some paths of each kind, side by side."""
    figure = matplotlib.figure.Figure(figsize=(3 * len(panels), 3.2), layout="constrained")
    for axes, (name, shown) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for x, y in np.asarray(shown[:SHOWN]).transpose(0, 2, 1):
            axes.plot(x, y, color="tab:blue", alpha=0.5, lw=1)
        axes.plot(0, 0, "k.")
        axes.set(title=name, xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    command(main, Settings)
