"""An autoencoder of random mazes, for CLUTR: it encodes a maze as a point in a latent space.

python experiments/maze_autoencoder.py
python experiments/maze.py --curriculum clutr --learner.autoencoder results/maze_autoencoder/model-0

OUT/model-SEED is the autoencoder. Curves show the F1 score of walls on mazes that it never saw.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from algos import clutr
from envs import maze, maze_levels
from envs.maze_tokens import MazeTokens, wall_f1
from purejaxrl.algorithm import Algorithm, Metrics
from purejaxrl.launch import Experiment, Job, Outcome, RunFlags, launch, say
from purejaxrl.running import processes
from purejaxrl.running.evaluate import Evaluator
from purejaxrl.running.runner import RunOptions
from purejaxrl.validation import require_count

NUM_HELD_OUT = 512
"""Mazes that it is tested on."""
NUM_LOCATED = 8192
"""Random mazes to whose latents a Gaussian is fitted."""


@dataclass(frozen=True)
class Settings(Experiment):
    """What to learn."""

    tokens: MazeTokens = MazeTokens()
    """How mazes are written; random mazes have up to `max_walls` walls."""
    steps: int = 6_000
    """Gradient steps."""
    seeds: int = 1
    """Autoencoders; their seeds count up from `first_seed`."""
    latent: int = clutr.Config.latent
    """Size of a maze's latent."""
    embedding: int = clutr.Config.embedding
    """Width of a token's embedding."""
    hidden: int = clutr.Config.hidden
    """Width of each GRU."""
    batch_size: int = clutr.Config.batch_size
    """Mazes of a gradient step."""
    hypers: clutr.Hypers = clutr.Hypers()
    """How it learns."""
    run: RunFlags = RunOptions(out="results/maze_autoencoder", log_every=8)
    """How to run."""

    @property
    def title(self) -> str:
        """Title of tables and plots."""
        tokens = self.tokens
        return f"Autoencoder of mazes, {tokens.size} x {tokens.size}, {tokens.max_walls} walls"


def build(settings: Settings) -> Job:
    """Build the job."""
    require_count(settings, "steps")
    processes.require_single("a model that is saved")
    tokens = settings.tokens
    config = clutr.Config(
        tokens.vocabulary, tokens.length, settings.latent, settings.embedding, settings.hidden,
        settings.batch_size,
    )  # fmt: skip
    sample = random_mazes(tokens)
    autoencoder = clutr.make_autoencoder(config, lambda key: tokens.write(sample(key)))
    return Job(autoencoder, (), settings.steps, evaluator=on_held_out(tokens))


def random_mazes(tokens: MazeTokens) -> Callable[[jax.Array], maze.Level]:
    """Return a function that draws a random maze."""
    return maze_levels.uniform(tokens.max_walls, tokens.size, tokens.max_steps)


def on_held_out(tokens: MazeTokens) -> Evaluator:
    """Evaluate autoencoders by the F1 score of walls, as `return`, and by the rate of exact mazes.

    These mazes are not in the training data, except for small ones by chance.
    """
    sample = random_mazes(tokens)

    def play(algorithm: Algorithm, key: jax.Array, params: Any, _: Any) -> Metrics:
        levels = jax.vmap(sample)(jax.random.split(key, NUM_HELD_OUT))
        written = jax.vmap(tokens.write)(levels)
        found = clutr.reconstruct(algorithm.config, tokens.allowed(), params, written)
        f1 = wall_f1(jax.vmap(tokens.read)(found).walls, levels.walls)
        exact = (found == written).all(-1).mean()
        return {"episodes": jnp.int32(NUM_HELD_OUT), "return": f1, "exact": exact}

    return Evaluator(play, f"F1 score of walls on {NUM_HELD_OUT} new mazes", needs=())


def count(levels: maze.Level) -> jax.Array:
    """Count the walls of mazes, int32 `[n]`."""
    return levels.walls.sum((1, 2))


def walls_of_latents(
    config: clutr.Config, tokens: MazeTokens, model: clutr.Model
) -> dict[str, jax.Array]:
    """Count the walls of mazes that are decoded from N(0, 1), as latents and as actions."""
    noise = jax.random.normal(jax.random.key(2), (NUM_HELD_OUT, config.latent))
    found = {"N(0, 1) latents": noise, "N(0, 1) actions": jax.vmap(model.latent)(noise)}
    read = jax.jit(partial(clutr.read, config, tokens.allowed()))
    return {k: count(jax.vmap(tokens.read)(read(model.params, z))) for k, z in found.items()}


def save(outcome: Outcome) -> None:
    """Write OUT/model-SEED, and print how well mazes are written and read."""
    result = outcome.result
    tokens, config = outcome.settings.tokens, outcome.job.algorithm.config
    keys = jax.random.split(jax.random.key(1), NUM_LOCATED)
    levels = jax.vmap(random_mazes(tokens))(keys)
    locate = jax.jit(partial(clutr.locate, config))
    for i, label in result.survivors("model"):
        folder = result.out / f"model-{label}"
        model = locate(result.member(i).params, jax.vmap(tokens.write)(levels))
        clutr.save(folder, config, model)
        for name, walls in walls_of_latents(config, tokens, model).items():
            say(f"{name}: {walls.mean():.0f} ± {walls.std():.0f} walls")
        say(f"random mazes: {count(levels).mean():.0f} ± {count(levels).std():.0f} walls")
        say(f"the model is in {folder}")
        if not result.evaluations.empty:  # they can be turned off
            last = result.evaluations.groupby("member").last().iloc[i]
            say(f"{folder}: F1 {last['return']:.3f}, exact {last['exact']:.3f}")


if __name__ == "__main__":
    launch(Settings, build, save=save)
