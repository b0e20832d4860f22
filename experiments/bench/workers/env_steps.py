"""Step one of our environments with random actions; each copy has its own level.

Argument 5 names the function that steps: `step` has auto-reset, `step_env` has not. More arguments,
such as `size=8 objects=3`, choose a grid-world.
"""

from purejaxrl.running.devices import layout, use_cpu_cores

use_cpu_cores()

import sys

import jax
from timing import arguments, measure

import envs

name, num_envs, num_steps, repeats = arguments()
kind, settings = sys.argv[5], dict(word.split("=") for word in sys.argv[6:])
env, params = envs.make(name)
if settings:  # a grid-world of one size and number of objects
    from envs.gridworld import GridWorld
    from envs.gridworld_levels import Random

    size, objects = int(settings["size"]), int(settings["objects"])
    env = GridWorld(Random((100, 100), (objects, objects), (size, size), 0).sample)
actions = env.action_space(params)
level = getattr(env, "sample_level", lambda key: params)


def play(key):
    level_key, reset_key, key = jax.random.split(key, 3)
    env_params = level(level_key)
    _, state = env.reset(reset_key, env_params)

    def step(state, key):
        act_key, env_key = jax.random.split(key)
        _, state, reward, *_ = getattr(env, kind)(
            env_key, state, actions.sample(act_key), env_params
        )
        return state, reward

    state, rewards = jax.lax.scan(step, state, jax.random.split(key, num_steps))
    return state, rewards.sum()  # without the state, XLA would drop physics that no reward needs


plan = layout(num_envs, group=-(-num_envs // jax.device_count()))
keys = plan.place(jax.random.split(jax.random.key(0), num_envs))
measure(plan.jit(plan.map(play)), (keys,), num_envs * num_steps, repeats)
