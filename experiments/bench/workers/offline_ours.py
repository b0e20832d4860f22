"""Train with our IQL or TD3+BC: `make_train`, mapped over all devices as the runner does."""

from purejaxrl.running.devices import layout, use_cpu_cores

use_cpu_cores()

import sys

from offline_data import ENV, ENV_PARAMS, make_dataset
from timing import measure

from algos import iql, td3_bc
from purejaxrl.algorithm import make_train
from purejaxrl.running.population import populate, seeds

name, *numbers = sys.argv[1:5]
members, updates, repeats = map(int, numbers)
module, group = {"iql": iql, "td3_bc": td3_bc}[name], 1 if sys.argv[5] == "map" else members
train_one = make_train(module.make(module.Config(), ENV), updates)


def train(dataset, key, hypers):
    """Train a member on the dataset that all share."""
    return train_one(key, hypers.replace(dataset=dataset), ENV_PARAMS)


population, plan = populate(seeds(members), module.Hypers()), layout(members, group=group)
args = plan.place((population.keys, population.hypers))
dataset = plan.replicate(make_dataset())
measure(plan.jit(plan.map(train, num_shared=1)), (dataset, *args), members * updates, repeats)
