"""Train with our DQN, PQN or SAC: `make_train`, mapped over all devices as the runner does."""

from purejaxrl.running.devices import layout, use_cpu_cores

use_cpu_cores()

import sys

from timing import measure

import envs
from algos import dqn, pqn, sac
from purejaxrl.algorithm import make_train
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.population import populate, seeds

name, *numbers = sys.argv[1:5]
members, updates, repeats = map(int, numbers)
env, env_params = envs.make("Pendulum-v1" if name == "sac" else "CartPole-v1")
env = for_network(env)


def make_dqn(double: bool):
    return dqn.make(dqn.Config(warmup_steps=1_000, double=double), env), dqn.Hypers()


algorithm, hypers = {
    "dqn": lambda: make_dqn(double=True),
    "dqn_single": lambda: make_dqn(double=False),
    "pqn": lambda: (pqn.make(pqn.Config(), env), pqn.Hypers()),
    "sac": lambda: (
        sac.make(sac.Config(capacity=50_000, hidden=(64, 64), activation="tanh"), env),
        sac.Hypers(),
    ),
}[name]()
population = populate(seeds(members), hypers, env_params)
plan = layout(members)
args = plan.place((population.keys, population.hypers, population.env_params))
train = plan.jit(plan.map(make_train(algorithm, updates)))
steps = algorithm.warmup_steps + updates * algorithm.steps_per_update
measure(train, args, members * steps, repeats)
