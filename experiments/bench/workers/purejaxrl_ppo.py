"""Train with PureJaxRL's PPO, from a checkout on PYTHONPATH, with gymnax 0.0.9.

Its wrappers import brax and navix, which PPO does not need: both are stubbed. The orthogonal
initialiser is replaced, because under vmap it can deadlock on CPU.
"""

import sys
from types import ModuleType

for name in ("brax", "brax.envs", "brax.envs.wrappers", "brax.envs.wrappers.training", "navix"):
    sys.modules[name] = ModuleType(name)
sys.modules["brax"].envs = sys.modules["brax.envs"]
sys.modules["brax.envs.wrappers.training"].EpisodeWrapper = object
sys.modules["brax.envs.wrappers.training"].AutoResetWrapper = object

import jax
import ppo
from flax.linen.initializers import variance_scaling
from timing import arguments, measure

ppo.orthogonal = lambda scale: variance_scaling(scale, "fan_in", "normal")

name, members, updates, repeats = arguments()
cartpole = name == "CartPole-v1"
num_envs = 4 if cartpole else 64
steps = updates * num_envs * 128
config = {
    "LR": 2.5e-4 if cartpole else 5e-3,
    "NUM_ENVS": num_envs,
    "NUM_STEPS": 128,
    "TOTAL_TIMESTEPS": steps,
    "UPDATE_EPOCHS": 4,
    "NUM_MINIBATCHES": 4 if cartpole else 8,
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": 0.01,
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
    "ACTIVATION": "tanh" if cartpole else "relu",
    "ENV_NAME": name,
    "ANNEAL_LR": True,
    "DEBUG": False,
}
keys = jax.random.split(jax.random.PRNGKey(0), members)
measure(jax.jit(jax.vmap(ppo.make_train(config))), (keys,), members * steps, repeats)
