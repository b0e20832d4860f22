"""Train with our PPO: `make_train`, mapped over all devices as the runner does."""

from purejaxrl.running.devices import layout, use_cpu_cores

use_cpu_cores()

from timing import arguments, measure

import envs
from algos import ppo
from purejaxrl.algorithm import make_train
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running.population import populate, seeds

name, members, updates, repeats = arguments()
env, env_params = envs.make(name)
if name == "CartPole-v1":
    config, hypers = ppo.Config(), ppo.Hypers()
elif name == "ant":
    config = ppo.Config(
        num_envs=2048, num_steps=10, num_minibatches=32, hidden=(256, 256),
        normalize_obs=True, normalize_reward=True,
    )  # fmt: skip
    hypers = ppo.Hypers(learning_rate=3e-4, entropy_coef=0.0)
else:
    config = ppo.Config(num_envs=64, num_minibatches=8, activation="relu")
    env, hypers = FlattenObservation(env), ppo.Hypers(learning_rate=5e-3)
population = populate(seeds(members), hypers, env_params)
plan = layout(members)
args = plan.place((population.keys, population.hypers, population.env_params))
train = plan.jit(plan.map(make_train(ppo.make(config, env), updates)))
measure(train, args, members * updates * config.batch_size, repeats)
