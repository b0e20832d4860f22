"""Step Craftax with random actions, divided among the cores as ours are."""

import os

import jax

jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
from craftax.craftax_env import make_craftax_env_from_name
from timing import arguments, measure_over_cores

name, num_envs, num_steps, repeats = arguments()
env = make_craftax_env_from_name(name, auto_reset=True)
params = env.default_params
actions = env.action_space(params).n


def play(keys):
    _, state = jax.vmap(env.reset, (0, None))(keys, params)

    def step(carry, _):
        state, keys = carry
        keys, act_keys, env_keys = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys)
        action = jax.vmap(lambda key: jax.random.randint(key, (), 0, actions))(act_keys)
        _, state, reward, *_ = jax.vmap(env.step, (0, 0, 0, None))(env_keys, state, action, params)
        return (state, keys), reward

    return jax.lax.scan(step, (state, keys), length=num_steps)[1].sum(0)


measure_over_cores(play, num_envs, num_steps, repeats)
