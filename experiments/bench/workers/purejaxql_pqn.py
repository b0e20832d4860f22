"""Train with purejaxql's PQN, from a checkout on PYTHONPATH, with gymnax 0.0.9.

All members at a time (`vmap`), or one after the other (`map`). What it imports for its command line
and for saving is stubbed.
"""

import sys
from types import ModuleType

for name, names in {
    "wandb": (),
    "hydra": ("main",),
    "omegaconf": ("OmegaConf",),
    "safetensors": (),
    "safetensors.flax": ("load_file", "save_file"),
}.items():
    stub = sys.modules[name] = ModuleType(name)
    for attribute in names:
        setattr(stub, attribute, lambda *args, **kwargs: lambda function: function)

import jax
import pqn_gymnax
from timing import measure

_, *numbers, arrangement = sys.argv[1:6]
members, updates, repeats = map(int, numbers)
steps = updates * 32 * 64
config = {
    "TOTAL_TIMESTEPS": steps,
    "TOTAL_TIMESTEPS_DECAY": steps,
    "NUM_ENVS": 32,
    "NUM_STEPS": 64,
    "NUM_MINIBATCHES": 16,
    "NUM_EPOCHS": 4,
    "EPS_START": 1.0,
    "EPS_FINISH": 0.2,
    "EPS_DECAY": 0.2,
    "NORM_TYPE": "layer_norm",
    "NORM_INPUT": False,
    "HIDDEN_SIZE": 256,
    "NUM_LAYERS": 2,
    "LR": 1e-4,
    "LR_LINEAR_DECAY": True,
    "MAX_GRAD_NORM": 10,
    "GAMMA": 0.99,
    "LAMBDA": 0.95,
    "REW_SCALE": 0.1,
    "ENV_NAME": "CartPole-v1",
    "WANDB_MODE": "disabled",
    "TEST_DURING_TRAINING": False,
}
train = pqn_gymnax.make_train(config)
keys = jax.random.split(jax.random.PRNGKey(0), members)
one_by_one = lambda keys: jax.lax.map(train, keys)  # noqa: E731
mapped = jax.vmap(train) if arrangement == "vmap" else one_by_one
measure(jax.jit(mapped), (keys,), members * steps, repeats)
