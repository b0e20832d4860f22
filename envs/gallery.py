"""Galleries of levels, for environments with `render(state, params) -> uint8 [h, w, 3]`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch


def levels(
    env: Any,
    params: Sequence[Any],
    path: str | Path,
    titles: Sequence[str] = (),
    columns: int = 4,
) -> None:
    """Draw levels side by side, each at the start of an episode, with the environment's legend.

    Args:
        env: an environment with `render`, and maybe a `legend` from words to colours.
        params: the levels.
        path: file of the picture.
        titles: a title for each level; none by default.
        columns: levels in a row.
    """
    columns = min(len(params), columns)
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
    legend = getattr(env, "legend", {})
    words = [Patch(color=np.array(colour) / 255, label=word) for word, colour in legend.items()]
    if words:
        figure.legend(
            handles=words, loc="outside lower center", ncols=columns, frameon=False, fontsize=8
        )
    figure.savefig(path, dpi=120)
    plt.close(figure)
