"""Train with rejax's PPO, in its own virtual environment: it needs gymnax 0.0.9."""

import jax
from rejax import PPO
from timing import arguments, measure

name, members, updates, repeats = arguments()
cartpole = name == "CartPole-v1"
num_envs = 4 if cartpole else 64
steps = updates * num_envs * 128
algorithm = PPO.create(
    env=name,
    agent_kwargs={"activation": "tanh" if cartpole else "relu", "hidden_layer_sizes": (64, 64)},
    num_envs=num_envs,
    num_steps=128,
    num_epochs=4,
    num_minibatches=4 if cartpole else 8,
    learning_rate=2.5e-4 if cartpole else 5e-3,
    max_grad_norm=0.5,
    gamma=0.99,
    gae_lambda=0.95,
    total_timesteps=steps,
    eval_freq=steps,
    skip_initial_evaluation=True,
).replace(eval_callback=lambda algorithm, state, key: ())
keys = jax.random.split(jax.random.PRNGKey(0), members)
measure(jax.jit(jax.vmap(algorithm.train)), (keys,), members * steps, repeats)
