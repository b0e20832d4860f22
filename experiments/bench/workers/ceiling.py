"""An upper bound for PPO: step the same environments with random actions, and learn nothing."""

from purejaxrl.running.devices import layout, use_cpu_cores

use_cpu_cores()

import jax
from timing import arguments, measure

import envs
from purejaxrl.parts.rollout import reset

name, members, updates, repeats = arguments()
env, env_params = envs.make(name)
num_envs = 4 if name == "CartPole-v1" else 64
actions = env.action_space(env_params)
steps = updates * 128


def play(key):
    reset_key, key = jax.random.split(key)
    _, env_state = reset(reset_key, env, env_params, num_envs)

    def step(env_state, key):
        act_key, env_key = jax.random.split(key)
        action = jax.vmap(actions.sample)(jax.random.split(act_key, num_envs))
        _, env_state, reward, *_ = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(env_key, num_envs), env_state, action, env_params
        )
        return env_state, reward.sum()

    return jax.lax.scan(step, env_state, jax.random.split(key, steps))


plan = layout(members)
keys = plan.place(jax.random.split(jax.random.key(0), members))
measure(plan.jit(plan.map(play)), (keys,), members * steps * num_envs, repeats)
