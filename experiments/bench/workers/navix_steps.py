"""Step NAVIX with random actions, divided among the cores as ours are."""

import os

import jax

jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
import navix
from timing import arguments, measure_over_cores

name, num_envs, num_steps, repeats = arguments()
env = navix.make(name)


def play(keys):
    timestep = jax.vmap(env.reset)(keys)

    def step(carry, _):
        timestep, keys = carry
        keys, act_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        action = jax.vmap(lambda key: jax.random.randint(key, (), 0, len(env.action_set)))
        timestep = jax.vmap(env.step)(timestep, action(act_keys))
        return (timestep, keys), timestep.reward

    return jax.lax.scan(step, (timestep, keys), length=num_steps)[1].sum(0)


measure_over_cores(play, num_envs, num_steps, repeats)
