"""Train one of our students on mazes, with JaxUED's batch and one of three networks.

`lstm` is JaxUED's network, `gru` the same with our GRU instead of its LSTM, and `small` the network
of our experiments.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
from timing import measure

from algos import ppo, ppo_rnn
from algos.curricula import METHODS
from envs.maze import Maze
from envs.maze_domain import mazes
from purejaxrl.algorithm import Task, update
from purejaxrl.parts.networks import dense
from purejaxrl.parts.recurrent import GRU
from purejaxrl.ued import student
from purejaxrl.ued.curriculum import Replay

curriculum, network, *numbers = sys.argv[1:5]
updates, repeats = map(int, numbers)


class LSTM(nn.Module):
    """An LSTM over time, as JaxUED has it."""

    @nn.compact
    def __call__(self, memory, features, first):  # noqa: D102
        def step(cell, memory, at_step):
            features, first = at_step
            memory = jax.tree.map(lambda x: jnp.where(first[:, None], 0.0, x), memory)
            return cell(memory, features)

        cell = nn.OptimizedLSTMCell(256)
        over_time = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        return over_time(cell, memory, (features, first))

    def initial_memory(self, num_envs):  # noqa: D102
        zeros = jnp.zeros((num_envs, 256))
        return zeros, zeros


class Published(nn.Module):
    """JaxUED's network, except that both heads share one hidden layer."""

    recurrent: nn.Module

    @nn.compact
    def __call__(self, memory, obs, first):  # noqa: D102
        planes = obs.reshape(*obs.shape[:-1], *Maze().observation_space().shape)
        seen = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(planes[..., :3]))
        features = seen.reshape(*seen.shape[:-3], -1)
        features = jnp.concatenate([features, dense(5)(planes[..., 0, 0, 2:])], axis=-1)
        memory, features = self.recurrent(memory, features, first)
        return memory, nn.relu(dense(64)(features))

    def initial_memory(self, num_envs):  # noqa: D102
        return self.recurrent.initial_memory(num_envs)


TORSOS = {"lstm": Published(LSTM()), "gru": Published(GRU(256)), "small": None}
levels = mazes(60)
config = ppo_rnn.Config(
    num_envs=32, num_steps=256, num_epochs=5, num_minibatches=1, activation="relu"
)
agent = ppo_rnn.make(config, levels.env, torso=TORSOS[network])
hypers = ppo.Hypers(learning_rate=1e-4, gamma=0.995, gae_lambda=0.98, entropy_coef=1e-3)
method = METHODS[curriculum]()
learner = student.make(agent, levels.env, method.make(levels, agent), levels.optimal_return)
hypers = method.hypers(hypers)
if isinstance(hypers.curriculum, Replay):
    hypers = hypers.replace(curriculum=hypers.curriculum.replace(replay_prob=1.0, min_draws=1.0))
state = jax.jit(learner.init)(jax.random.key(0), hypers, Task((), jnp.int32(10**6)))


@jax.jit
def train(state):
    return jax.lax.scan(lambda s, _: update(learner, s, hypers), state, length=updates)[0]


state = train(state)  # the first levels of a buffer are not learned on
jax.clear_caches()  # so that `measure` sees how long compiling takes
students = 2 if curriculum == "paired" else 1
measure(train, (state,), students * updates * config.batch_size, repeats)
