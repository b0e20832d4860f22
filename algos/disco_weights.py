"""Disco103's published weights, as parameters of `disco_rule.Rule`.

The file is `disco_rl/update_rules/weights/disco_103.npz` of `google-deepmind/disco_rl`. It holds
arrays by the names that Haiku gave them, such as `lstm/linear/w`. The shipped rule was made by
`save_rule("algos/rules/disco103.npz", disco.Config(), read_published("disco_103.npz"))`.
"""

from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from algos import disco
from purejaxrl.parts import networks

_FEATURES = {
    "embed_y/layers_0": "mlp/~/linear_0",
    "embed_y/layers_2": "mlp/~/linear_1",
    "embed_z/layers_0": "mlp_1/~/linear_0",
    "embed_z/layers_2": "mlp_1/~/linear_1",
    "mix_actions/layers_0/Dense_0": "sequential/conv1_d",
    "mix_actions/layers_1/Dense_0": "sequential/conv1_d_1",
}
_LIFETIME = "lstm/~/meta_lstm/~unroll"

LAYERS = {
    **{f"features/{ours}": f"lstm/{theirs}" for ours, theirs in _FEATURES.items()},
    **{f"lifetime_features/{ours}": f"{_LIFETIME}/{theirs}" for ours, theirs in _FEATURES.items()},
    "trajectory": "lstm/lstm/linear",
    "lifetime_gate": "lstm/linear",
    "summary": "lstm/linear_1",
    "y": "lstm/linear_2",
    "z": "lstm/linear_3",
    "pi_hidden/Dense_0": "lstm/sequential_1/conv1_d",
    "pi": "lstm/linear_4",
    "lifetime_embed": f"{_LIFETIME}/mlp_2/~/linear_0",
    "lifetime": f"{_LIFETIME}/lstm/linear",
}
"""Names of our layers, and the names that Haiku gave them."""


def read_published(path: Path | str) -> Any:
    """Read the published weights.

    Args:
        path: the path of `disco_103.npz`.

    Returns:
        The rule's parameters: what `disco.Hypers.rule` holds.

    Raises:
        ValueError: if the file does not exist, or holds other arrays than Disco103's.
    """
    if not Path(path).is_file():
        raise ValueError(f"weights: {path} does not exist, or is not a file")
    with np.load(path, allow_pickle=False) as archive:
        arrays = dict(archive)
    names = {f"{layer}/{part}" for layer in LAYERS.values() for part in "wb"}
    missing, unknown = names - arrays.keys(), arrays.keys() - names
    if missing or unknown:
        raise ValueError(
            f"weights: {path} is not valid; it must hold Disco103's arrays: missing are "
            f"{', '.join(sorted(missing)) or 'none'}, and unknown "
            f"{', '.join(sorted(unknown)) or 'none'}"
        )
    flat = {}
    for ours, theirs in LAYERS.items():
        weights = arrays[f"{theirs}/w"]
        is_convolution = weights.ndim == 3  # of width 1
        flat[f"{ours}/kernel"] = weights[0] if is_convolution else weights
        flat[f"{ours}/bias"] = arrays[f"{theirs}/b"]
    # Haiku stacks the weights of an LSTM's inputs on those of its state
    stacked, width = flat["trajectory/kernel"], disco.Config().rule_width
    flat["trajectory/kernel"], flat["trajectory_state"] = stacked[:-width], stacked[-width:]
    params = {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}
    expected = jax.eval_shape(lambda: disco.init_rule(jax.random.key(0), disco.Config()))
    networks.check_params(f"weights: {path}", params, expected, "as Disco103's")
    return jax.tree.map(jnp.float32, params)
