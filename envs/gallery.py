"""Seeing environments: galleries of levels, and rollouts as GIFs.

For environments with `render(state, params) -> uint8 [height, width, 3]`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image


def levels(env: Any, params: Sequence[Any], path: str | Path, titles: Sequence[str] = ()) -> None:
    """Draw levels side by side, as an agent finds them at the start.

    Args:
        env: an environment with `render`.
        params: the levels.
        path: of the picture.
        titles: above each; nothing by default.
    """
    columns = min(len(params), 4)
    rows = -(-len(params) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.2 * columns, 2.2 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.ravel():
        ax.set_axis_off()
    for i, (ax, level) in enumerate(zip(axes.ravel(), params, strict=False)):
        _, state = env.reset(jax.random.key(0), level)
        ax.imshow(env.render(state, level))
        ax.set_title(titles[i] if titles else "")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def gif(
    env: Any,
    params: Any,
    path: str | Path,
    *,
    act: Callable[[Any, jax.Array], jax.Array] | None = None,
    num_steps: int = 100,
    seed: int = 0,
    frame_ms: int = 80,
) -> None:
    """Play on one level, with auto-reset, and write what happens as a GIF.

    Args:
        env: an environment with `render`.
        params: the level.
        path: of the GIF.
        act: `(obs, key) -> action`; random actions by default.
        num_steps: frames after the first.
        seed: of everything random.
        frame_ms: how long a frame is shown, in milliseconds.
    """
    act = act or (lambda obs, key: env.action_space(params).sample(key))
    reset_key, key = jax.random.split(jax.random.key(seed))
    obs, state = env.reset(reset_key, params)
    frames = [env.render(state, params)]
    for step_key in jax.random.split(key, num_steps):
        act_key, env_key = jax.random.split(step_key)
        obs, state, *_ = env.step(env_key, state, act(obs, act_key), params)
        frames.append(env.render(state, params))
    first, *rest = [Image.fromarray(np.asarray(frame)) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=frame_ms, loop=0)
