"""Watch a trained agent: a GIF of its policy, or a web page where the environment has a viewer.

python -m purejaxrl.study.watch results/ppo/CartPole-v1
python -m purejaxrl.study.watch results/ppo/CartPole-v1 --member seed=3 --steps 500 --sampled

An environment draws itself: `render(state, params) -> uint8 [height, width, 3]`, and `legend`, a
mapping from words to the colours that they explain; or `render_html(states) -> str`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from PIL import Image, ImageDraw, ImageFont

from purejaxrl.algorithm import Algorithm
from purejaxrl.parts.rollout import reset
from purejaxrl.running import commandline
from purejaxrl.running.logs import say
from purejaxrl.validation import require_count, require_seed

WIDTH = 360
"""Smaller pictures are enlarged to about this many pixels."""


class Episodes(NamedTuple):
    """What an agent did, over time."""

    env_state: Any  # [num_steps, ...], before each step
    reward: jax.Array  # float32 [num_steps]
    done: jax.Array  # bool [num_steps]


def play(
    algorithm: Algorithm,
    env: Any,
    state: Any,
    env_params: Any,
    *,
    num_steps: int,
    greedy: bool = True,
    seed: int = 0,
) -> Episodes:
    """Act in one environment, with auto-reset; jit it with `algorithm` and `env` closed over.

    Args:
        algorithm: whose `act` to use.
        env: gymnax environment.
        state: one agent's state.
        env_params: the level.
        num_steps: environment steps.
        greedy: take the most likely action rather than a sample.
        seed: seeds the environment and the actions.
    """
    policy = algorithm.policy(state)
    reset_key, key = jax.random.split(jax.random.key(seed))
    obs, env_state = reset(reset_key, env, env_params, 1)

    def step(carry, key):
        env_state, obs, first, memory = carry
        act_key, env_key = jax.random.split(key)
        action, memory = algorithm.act(policy, memory, obs, first, act_key, greedy)
        obs, after, reward, terminated, truncated, _ = jax.vmap(env.step, (0, 0, 0, None))(
            env_key[None], env_state, action, env_params
        )
        done = terminated | truncated
        return (after, obs, done, memory), Episodes(env_state, reward, done)

    start = env_state, obs, jnp.ones(1, bool), algorithm.memory(1)
    _, episodes = jax.lax.scan(step, start, jax.random.split(key, num_steps))
    return jax.tree.map(lambda x: x[:, 0], episodes)


def watch(
    algorithm: Algorithm,
    env: Any,
    state: Any,
    env_params: Any,
    path: str | Path,
    *,
    num_steps: int = 200,
    greedy: bool = True,
    seed: int = 0,
    frame_ms: int = 50,
) -> Path:
    """Write what an agent does.

    Args:
        algorithm, env, state, env_params, num_steps, greedy, seed: see `play`.
        path: where, without a suffix.
        frame_ms: how long a frame is shown, in milliseconds.

    Returns:
        The file: `path` with `.gif`, or with `.html` where the environment has a viewer.

    Raises:
        ValueError: if the environment cannot draw itself.
    """
    if not hasattr(env, "render") and not hasattr(env, "render_html"):
        raise ValueError(
            f"env: {env.name!r} cannot be watched; it needs a method `render` or `render_html`"
        )

    def act(state: Any, env_params: Any) -> Episodes:
        return play(
            algorithm, env, state, env_params, num_steps=num_steps, greedy=greedy, seed=seed
        )

    episodes = jax.device_get(jax.jit(act)(state, env_params))
    states = [jax.tree.map(lambda x, t=t: x[t], episodes.env_state) for t in range(num_steps)]
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    if hasattr(env, "render_html"):
        path = path.with_name(f"{path.name}.html")
        path.write_text(env.render_html(states))
        return path
    path = path.with_name(f"{path.name}.gif")
    env_params = jax.device_get(env_params)
    legend = getattr(env, "legend", {})
    frames = [
        frame(env.render(env_state, env_params), caption, legend)
        for env_state, caption in zip(states, captions(episodes), strict=True)
    ]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=frame_ms, loop=0)
    return path


def captions(episodes: Episodes) -> list[str]:
    """Number of the episode, its steps and its return so far, at every step."""
    texts, number, step, total = [], 1, 0, 0.0
    for reward, done in zip(episodes.reward, episodes.done, strict=True):
        texts.append(f"episode {number}   step {step}   return {total:.4g}")
        step, total = step + 1, total + float(reward)
        if done:
            number, step, total = number + 1, 0, 0.0
    return texts


def frame(
    picture: np.ndarray, caption: str, legend: Mapping[str, Sequence[int]] | None = None
) -> Image.Image:
    """Put a caption and a legend below a picture, uint8 `[height, width, 3]`."""
    image = Image.fromarray(np.asarray(picture))
    times = max(1, round(WIDTH / image.width))
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    font, margin, line = ImageFont.load_default(14), 8, 22

    places, x, y = [], margin, line
    for word, colour in (legend or {}).items():
        width = 20 + round(font.getlength(word)) + 2 * margin
        if x > margin and x + width > image.width:
            x, y = margin, y + line
        places.append((word, tuple(colour), x, y))
        x += width
    height = (places[-1][-1] if places else 0) + line + margin
    whole = Image.new("RGB", (image.width, image.height + height), "white")
    whole.paste(image)
    draw = ImageDraw.Draw(whole)
    draw.text((margin, image.height + 4), caption, "black", font)
    for word, colour, x, y in places:
        top = image.height + y + 6
        draw.rectangle((x, top, x + 12, top + 12), fill=colour, outline="grey")
        draw.text((x + 18, top - 3), word, "black", font)
    return whole


@dataclass(frozen=True)
class Settings:
    """What to watch."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of a run."""
    member: str = ""
    """Name of the agent, or enough parts of it to tell it from the others, such as `seed=3`; the
    first one by default."""
    steps: int = 200
    """Environment steps."""
    sampled: bool = False
    """Sample actions rather than take the most likely ones."""
    seed: int = 0
    """Seeds the environment and the actions."""
    frame_ms: int = 50
    """How long a frame is shown, in milliseconds."""

    def __post_init__(self):
        require_count(self, "steps", "frame_ms")
        require_seed(self)


def main(settings: Settings) -> None:
    """Build the run's job again, load the agent, and write what it does.

    Raises:
        ValueError: if the run, the member or the environment cannot be watched.
        CheckpointError: if there is no whole checkpoint.
    """
    plan = commandline.rebuild(settings.out)
    job, index = plan.job, plan.population.find(settings.member) if settings.member else 0
    name = plan.population.names[index]
    if job.env is None:
        raise ValueError(f"out: {settings.out} holds a run without an environment to watch")
    path = watch(
        job.algorithm,
        job.env,
        jax.tree.map(lambda x: x[index], commandline.load_members(plan)[0]),
        job.env_params,
        plan.options.folder / f"watch-{name}",
        num_steps=settings.steps,
        greedy=not settings.sampled,
        seed=settings.seed,
        frame_ms=settings.frame_ms,
    )
    say(f"{name}: {path}")


if __name__ == "__main__":
    commandline.command(main, Settings)
