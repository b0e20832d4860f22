"""Every algorithm, small enough for tests: `ALGORITHMS[name]() -> (algorithm, hypers, level)`."""

from functools import partial

import jax
import jax.numpy as jnp

import envs
from algos import (
    a2c,
    accel,
    bc,
    disco,
    distillation,
    dpo,
    dqn,
    frontier,
    groove,
    grpo,
    hand_rules,
    iql,
    lpg,
    lpo,
    meta_lpg,
    optimistic_lpg,
    paired,
    plr,
    policy_guided_diffusion,
    ppo,
    ppo_rnn,
    pqn,
    rebrac,
    regret_teacher,
    residual_lpg,
    sac,
    sfl,
    sft,
    ta_lpg,
    ta_lpo,
    ta_residual_lpg,
    td3,
    td3_bc,
    token_policy,
    trajectory_diffusion,
)
from algos.objectives import OBJECTIVES
from envs import maze_levels
from envs.maze import Maze
from envs.maze_editor import MazeEditor
from envs.maze_solution import optimal_return
from purejaxrl.algorithm import Task
from purejaxrl.meta import evolution, gradient
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import FlattenObservation, for_network
from purejaxrl.ued import student
from purejaxrl.ued.builder import Builder
from purejaxrl.ued.curriculum import uniform
from purejaxrl.ued.student import OwnLevel
from tests.helpers import init_rule

GRID, LEVEL = envs.make("gridworld-small")
CART, CART_PARAMS = envs.make("CartPole-v1")
PENDULUM, PENDULUM_PARAMS = envs.make("Pendulum-v1")
PENDULUM = for_network(PENDULUM)
WALLS, EDIT = maze_levels.uniform(25), partial(maze_levels.mutate, num_edits=2)
MAZE = OwnLevel(FlattenObservation(Maze(WALLS)))
SIZES = dict(num_envs=4, num_steps=4)
PPO = dict(**SIZES, num_minibatches=2)
REPLAY = dict(
    **SIZES, capacity=64, warmup_steps=32, batch_size=8, num_batches=2, num_returns=2, hidden=(4,)
)
STUDENT = ppo_rnn.Config(**PPO)
SEARCH = sfl.Config(batch_size=4, num_batches=2, num_steps=4, num_kept=4)
RULE = dict(**SIZES, rule_width=4)
DISCO = dict(
    **SIZES, num_trajectories=6, replay_capacity=8, hidden=(4,), head_width=4, num_predictions=3,
    num_bins=5, rule_width=4, lifetime_width=4,
)  # fmt: skip


def on_cart(module, **config):
    config = module.Config(**(config or PPO))
    return module.make(config, CART), module.Hypers(), CART_PARAMS


def on_pendulum(module):
    config = module.Config(**REPLAY, normalize_obs=True)
    return module.make(config, PENDULUM), module.Hypers(), PENDULUM_PARAMS


def on_dataset(module):
    steps = Step(
        jnp.ones((8, 3)), jnp.zeros((8, 1)), jnp.ones(8), jnp.zeros(8, bool), jnp.ones(8, bool),
        jnp.ones((8, 3)),
    )  # fmt: skip
    config = module.Config(batch_size=4, hidden=(4,))
    return module.make(config, PENDULUM), module.Hypers(Dataset(steps)), PENDULUM_PARAMS


def with_model():
    dataset = on_dataset(td3_bc)[1].dataset
    config = trajectory_diffusion.Config(length=2, batch_size=4, width=4, num_blocks=1)
    hypers = trajectory_diffusion.Hypers(dataset, jnp.arange(4))
    return trajectory_diffusion.make(config, PENDULUM), hypers, PENDULUM_PARAMS


def with_pieces():
    agent, of_agent, level = on_dataset(td3_bc)
    model, of_model, _ = with_model()
    known = model.policy(model.init(jax.random.key(0), of_model, Task(level, jnp.int32(1))))
    config = policy_guided_diffusion.Config(num_pieces=2, num_updates=2)
    learner = policy_guided_diffusion.make(config, agent, model.config, PENDULUM)
    return learner, policy_guided_diffusion.Hypers(of_agent, known), level


def with_discrete_sac():
    return sac.make(sac.Config(**REPLAY), CART), sac.DiscreteHypers(), CART_PARAMS


def with_drift(module):
    algorithm, hypers, level = on_cart(module)
    return (
        algorithm,
        hypers.replace(drift=lpo.init_drift(jax.random.key(0), algorithm.config)),
        level,
    )


def with_rule(module):
    config = module.Config(**RULE)
    hypers = lpg.Hypers(rule=init_rule(jax.random.key(0), config))
    return lpg.make(config, GRID), hypers, LEVEL


def with_disco_rule():
    algorithm, hypers, level = on_cart(disco, **DISCO)
    shapes = jax.eval_shape(lambda: disco.init_rule(jax.random.key(0), algorithm.config))
    rule = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)  # quicker than to draw one
    return algorithm, hypers.replace(rule=rule), level


def on_levels(curriculum, hypers):
    agent = ppo_rnn.make(STUDENT, MAZE)
    return student.make(agent, MAZE, curriculum, optimal_return), hypers(ppo_rnn.Hypers()), ()


def with_teacher():
    builder = Builder(FlattenObservation(MazeEditor(num_walls=2)))
    return ppo.make(ppo.Config(num_envs=4, num_steps=5, num_minibatches=2), builder), builder


def with_antagonist():
    teacher, builder = with_teacher()
    return paired.curriculum(teacher, ppo_rnn.make(STUDENT, MAZE), MAZE, builder)


def on_tokens(module):
    env, _ = envs.make("token-arithmetic", num_operands=2, num_prompts=40, held_out=20)
    sizes = token_policy.NetworkConfig(num_layers=1, width=4, num_heads=1)
    algorithm = module.make(module.Config(**vars(sizes)), env)
    if module is sft:
        return algorithm, sft.Hypers(), env.levels
    network = token_policy.make_network(sizes, env)
    shapes = jax.eval_shape(lambda: token_policy.init_params(jax.random.key(0), network))
    start = jax.tree.map(lambda x: jnp.full(x.shape, 0.1, x.dtype), shapes)
    return algorithm, grpo.Hypers(start, OBJECTIVES["grpo"].coefs), env.levels


def distilled():
    config, lifetime = lpg.Config(**RULE), lambda key: jnp.int32(6)
    world = meta_lpg.world(config, GRID, lifetime)
    settings, teacher = distillation.Config(num_agents=4), hand_rules.ActorCritic()
    hypers = distillation.Hypers(agent=lpg.Hypers(), teacher=hand_rules.Settings())
    return distillation.make(settings, config, teacher, world), hypers, ()


def meta_learner(how):
    config, lifetime = lpg.Config(**RULE), lambda key: jnp.int32(6)
    world = meta_lpg.world(config, GRID, lifetime)
    if how == "groove":
        settings = groove.Config(num_agents=4, capacity=8)
        learner = groove.make(settings, config, GRID, GRID.sample_level, lifetime)
        return learner, groove.hypers(), ()
    if how == "evolution":
        learner = meta_lpg.by_evolution(evolution.Config(num_pairs=4), config, world)
        return learner, evolution.Hypers(agent=lpg.Hypers()), ()
    learner = meta_lpg.by_gradient(gradient.Config(num_agents=4), config, world)
    return learner, gradient.Hypers(agent=lpg.Hypers(), regularizer=meta_lpg.Regularizer()), ()


ALGORITHMS = {
    "a2c": lambda: on_cart(a2c, **SIZES),
    "ppo": lambda: on_cart(ppo),
    "ppo, normalising": lambda: on_cart(ppo, **PPO, normalize_obs=True, normalize_reward=True),
    "dpo": lambda: (dpo.make(ppo.Config(**PPO), CART), dpo.Hypers(), CART_PARAMS),
    "lpo": lambda: with_drift(lpo),
    "ta_lpo": lambda: with_drift(ta_lpo),
    "ppo_rnn": lambda: on_cart(ppo_rnn),
    "lpg": lambda: with_rule(lpg),
    "ta_lpg": lambda: with_rule(ta_lpg),
    "optimistic_lpg": lambda: with_rule(optimistic_lpg),
    "residual_lpg": lambda: with_rule(residual_lpg),
    "ta_residual_lpg": lambda: with_rule(ta_residual_lpg),
    "disco": with_disco_rule,
    "dqn": lambda: on_cart(dqn, **REPLAY, dueling=True),
    "pqn": lambda: on_cart(pqn, **PPO),
    "sac": lambda: on_pendulum(sac),
    "sac, discrete": with_discrete_sac,
    "td3": lambda: on_pendulum(td3),
    "bc": lambda: on_dataset(bc),
    "td3_bc": lambda: on_dataset(td3_bc),
    "rebrac": lambda: on_dataset(rebrac),
    "iql": lambda: on_dataset(iql),
    "trajectory diffusion": with_model,
    "policy-guided diffusion": with_pieces,
    "sft": lambda: on_tokens(sft),
    "grpo": lambda: on_tokens(grpo),
    "domain randomisation": lambda: on_levels(uniform(WALLS), student.Hypers),
    "plr": lambda: on_levels(plr.curriculum(WALLS, capacity=8), plr.hypers),
    "accel": lambda: on_levels(accel.curriculum(WALLS, EDIT, capacity=8), accel.hypers),
    "sfl": lambda: on_levels(sfl.curriculum(SEARCH, WALLS), sfl.hypers),
    "frontier": lambda: on_levels(frontier.curriculum(WALLS, num_kept=8), frontier.hypers),
    "paired": lambda: on_levels(with_antagonist(), lambda agent: paired.hypers(agent, agent)),
    "regret teacher": lambda: on_levels(
        regret_teacher.curriculum(*with_teacher()), lambda x: regret_teacher.hypers(x, x)
    ),
    "meta-gradient": lambda: meta_learner("gradient"),
    "evolution": lambda: meta_learner("evolution"),
    "groove": lambda: meta_learner("groove"),
    "distillation": lambda: distilled(),
}

QUICK = (
    "a2c",
    "ppo, normalising",
    "ppo_rnn",
    "lpo",
    "ta_lpg",
    "dqn",
    "pqn",
    "sac",
    "plr",
    "evolution",
)
"""Tested at every change; the others are marked slow."""
