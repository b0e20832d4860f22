"""Which changes make a run another run, so that it is not resumed, and which do not."""

import functools
import json
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import a2c, accel, groove, lpg, lpo, plr, ppo, ppo_rnn, ta_lpg
from envs import maze_levels
from envs.gridworld_levels import LEVELS
from envs.maze import Maze
from purejaxrl.meta import evolution, gradient
from purejaxrl.meta.assessment import Assessment
from purejaxrl.meta.worlds import World
from purejaxrl.parts import networks
from purejaxrl.parts.wrappers import FlattenObservation, Wrapper
from purejaxrl.running import record
from purejaxrl.running.population import grid, populate, seeds
from purejaxrl.ued import buffer, scores, student
from purejaxrl.ued.curriculum import fixed, replay, uniform
from purejaxrl.ued.student import OwnLevel
from tests.helpers import init_rule, mostly_slow

CART, CART_PARAMS = envs.make("CartPole-v1")
GRID, _ = envs.make("gridworld-small")
SIZES = dict(num_envs=4, num_steps=4)
RULE = lpg.Config(**SIZES, rule_width=4)
LPO = lpo.Config(**SIZES, num_minibatches=2, drift_width=4)


def identity(algorithm, hypers, level=(), rows=None):
    return record.identity(algorithm, populate(rows or seeds(2), hypers, level))


def on_cart(*, loss=ppo.policy_loss, env=CART, level=CART_PARAMS, rows=None, hypers=None, **config):
    agent = ppo.make(ppo.Config(**SIZES | config), env, loss)
    return identity(agent, hypers or ppo.Hypers(), level, rows)


def loss_with(coefficient):
    """A loss with a coefficient."""

    def loss(x, hypers):
        return coefficient * x.log_ratio * x.advantage

    return loss


class Loss:
    def __init__(self, coefficient):
        self.coefficient = coefficient

    def __call__(self, x, hypers):
        return self.coefficient * x.log_ratio * x.advantage


class Limited(Wrapper):
    def __init__(self, env, max_steps):
        super().__init__(env)
        self.max_steps = max_steps


def by_rule(fill):
    rule = jax.tree.map(lambda x: x + fill, init_rule(jax.random.key(0), RULE))
    return identity(lpg.make(RULE, GRID), lpg.Hypers(rule=rule), GRID.default_params)


def by_drift(fill):
    drift = jax.jit(lambda: lpo.init_drift(jax.random.key(0), LPO))()
    drift = jax.tree.map(lambda x: x + fill, drift)
    return identity(lpo.make(LPO, CART), lpo.Hypers(drift=drift), CART_PARAMS)


def put_rule(rule, hypers):
    return hypers.replace(rule=rule)


def life(key, length):
    return jnp.int32(length)


def meta(
    *, curriculum=None, insert=lpg.with_rule, length=6, agent=RULE, env=GRID, hypers=None,
    features=1, assessment=None, **config
):  # fmt: skip
    world = World(
        "levels",
        lpg.make(agent, env),
        env,
        curriculum or uniform(GRID.sample_level),
        sample_lifetime=functools.partial(life, length=length),
        critic=networks.readout(GRID.observation_space(), None, features),
        assessment=assessment,
    )
    learner = gradient.make(
        gradient.Config(num_agents=4, **config),
        world,
        init_theta=functools.partial(lpg.init_rule, config=agent),
        insert=insert,
    )
    return identity(learner, hypers or gradient.Hypers(agent=lpg.Hypers()))


def scored(priority=buffer.by_rank, antagonist=None, **settings):
    """A meta-gradient whose levels are replayed by a score."""
    rival = antagonist and a2c.make(a2c.Config(**SIZES, optimizer=antagonist), GRID)
    levels = replay(GRID.sample_level, scores.l1_value_loss, priority=priority)
    return meta(curriculum=levels, assessment=Assessment(rival, **settings))


def evolved(*, length=6, sample_level=GRID.sample_level, std=0.1, config=None, **parts):
    parts = {"init_theta": functools.partial(lpg.init_rule, config=RULE)} | parts
    lifetime = functools.partial(life, length=length)
    world = World("levels", lpg.make(RULE, GRID), GRID, uniform(sample_level), lifetime)
    settings = evolution.Config(num_pairs=4, **config or {})
    learner = evolution.make(settings, world, insert=lpg.with_rule, **parts)
    return identity(learner, evolution.Hypers(agent=lpg.Hypers(), std=std))


def other_strategy(config, hypers, theta):
    return evolution.open_es(config, hypers, theta)


def grooved(score=scores.algorithmic_regret, levels="small", **config):
    env, _ = envs.make(f"gridworld-{levels}")
    settings = groove.Config(num_agents=4, **{"capacity": 8} | config)
    lifetime = LEVELS[levels].sample_lifetime
    return identity(
        groove.make(settings, RULE, env, env.sample_level, lifetime, score), groove.hypers()
    )


def on_mazes(kind="plr", walls=25, num_edits=5, score=scores.positive_value_loss, capacity=8):
    env = OwnLevel(FlattenObservation(Maze(maze_levels.uniform(25))))
    sampler = maze_levels.uniform(walls)
    mutate = functools.partial(maze_levels.mutate, num_edits=num_edits)
    curriculum = {
        "uniform": lambda: uniform(sampler),
        "plr": lambda: plr.curriculum(sampler, score, capacity),
        "accel": lambda: accel.curriculum(sampler, mutate, score, capacity),
    }[kind]()
    agent = ppo_rnn.make(ppo_rnn.Config(**SIZES), env)
    return identity(student.make(agent, env, curriculum), plr.hypers(ppo_rnn.Hypers()))


def levels(seed):
    return jax.jit(jax.vmap(GRID.sample_level))(jax.random.split(jax.random.key(seed), 3))


OTHER_RUNS = {
    "static setting": (on_cart, lambda: on_cart(num_epochs=2)),
    "width of a layer": (on_cart, lambda: on_cart(hidden=(64, 32))),
    "hyperparameter": (on_cart, lambda: on_cart(hypers=ppo.Hypers(gamma=0.98))),
    "sweep": (on_cart, lambda: on_cart(rows=seeds(2) * grid(gamma=[0.9, 0.99]))),
    "seeds": (on_cart, lambda: on_cart(rows=seeds(2, start=1))),
    "order of members": (on_cart, lambda: on_cart(rows=seeds(2)[::-1])),
    "more members": (on_cart, lambda: on_cart(rows=seeds(3))),
    "environment": (
        lambda: on_cart(level=()),
        lambda: on_cart(env=envs.make("Acrobot-v1")[0], level=()),
    ),
    "level": (on_cart, lambda: on_cart(level=CART_PARAMS.replace(gravity=9.0))),
    "wrapper": (on_cart, lambda: on_cart(env=FlattenObservation(CART))),
    "wrapper's setting": (
        lambda: on_cart(env=Limited(CART, 10)),
        lambda: on_cart(env=Limited(CART, 20)),
    ),
    "wrapped environment": (
        lambda: on_cart(env=Limited(CART, 10), level=()),
        lambda: on_cart(env=Limited(envs.make("Acrobot-v1")[0], 10), level=()),
    ),
    "loss": (on_cart, lambda: on_cart(loss=loss_with(1.0))),
    "coefficient in a closure": (
        lambda: on_cart(loss=loss_with(1.0)),
        lambda: on_cart(loss=loss_with(2.0)),
    ),
    "callable object": (lambda: on_cart(loss=Loss(1.0)), lambda: on_cart(loss=Loss(2.0))),
    "lambda": (
        lambda: on_cart(loss=lambda x, h: -x.log_ratio * x.advantage),
        lambda: on_cart(loss=lambda x, h: -2 * x.log_ratio * x.advantage),
    ),
    "rule": (lambda: by_rule(0.0), lambda: by_rule(1e-3)),
    "drift": (lambda: by_drift(0.0), lambda: by_drift(1e-3)),
    "observation": (
        lambda: meta(),
        lambda: meta(env=envs.make("gridworld-small", observation="one_hot")[0]),
    ),
    "sampler of levels": (
        meta,
        lambda: meta(curriculum=uniform(envs.make("gridworld-medium")[0].sample_level)),
    ),
    "fixed levels": (
        lambda: meta(curriculum=fixed(levels(0))),
        lambda: meta(curriculum=fixed(levels(1))),
    ),
    "length of lives": (meta, lambda: meta(length=7)),
    "what is learned": (meta, lambda: meta(insert=put_rule)),
    "knowledge of time": (meta, lambda: meta(agent=ta_lpg.Config(**SIZES, rule_width=4))),
    "meta-gradient's K": (meta, lambda: meta(num_updates=2)),
    "agents' hyperparameter": (
        meta,
        lambda: meta(hypers=gradient.Hypers(agent=lpg.Hypers(learning_rate=0.1))),
    ),
    "lives that evolve": (evolved, lambda: evolved(length=7)),
    "levels that evolve": (
        evolved,
        lambda: evolved(sample_level=envs.make("gridworld-medium")[0].sample_level),
    ),
    "noise of evolution": (evolved, lambda: evolved(std=0.2)),
    "evolution strategy": (evolved, lambda: evolved(strategy=other_strategy)),
    "evaluation of candidates": (evolved, lambda: evolved(config={"num_episodes": 8})),
    "ranks of evolution": (evolved, lambda: evolved(shape=jnp.sign)),
    "start of evolution": (evolved, lambda: evolved(init_theta=lambda key: jnp.zeros(3))),
    "critic of the meta-objective": (meta, lambda: meta(features=2)),
    "priority of levels": (scored, lambda: scored(priority=buffer.in_proportion)),
    "evaluation of levels": (scored, lambda: scored(max_steps=7)),
    "antagonist": (lambda: scored(antagonist="adam"), lambda: scored(antagonist="sgd")),
    "GROOVE's score": (grooved, lambda: grooved(scores.positive_value_loss)),
    "GROOVE's buffer": (grooved, lambda: grooved(capacity=16)),
    "GROOVE's slots": (grooved, lambda: grooved(slots=4)),
    "GROOVE's levels": (grooved, lambda: grooved(levels="medium")),
    "walls of random mazes": (
        lambda: on_mazes("uniform"),
        lambda: on_mazes("uniform", walls=60),
    ),
    "walls of replayed mazes": (on_mazes, lambda: on_mazes(walls=60)),
    "score of mazes": (on_mazes, lambda: on_mazes(score=scores.max_monte_carlo)),
    "edits of mazes": (lambda: on_mazes("accel"), lambda: on_mazes("accel", num_edits=6)),
    "buffer of mazes": (on_mazes, lambda: on_mazes(capacity=16)),
}


@pytest.mark.parametrize("case", mostly_slow(OTHER_RUNS, [*OTHER_RUNS][::3]))
def test_another_run_is_told_apart_by_name(case):
    before, now = (make() for make in OTHER_RUNS[case])
    assert not record.first_difference(before, OTHER_RUNS[case][0]())
    assert " was " in record.first_difference(before, now)


EDITED = """
def loss(x, hypers):
    {docstring}
    return -x.log_ratio * x.advantage

def make(coefficient):
    def inner(x, hypers):
        {docstring}
        return -coefficient * x.log_ratio * x.advantage  {comment}
    return inner
"""


def module_with(docstring, comment):
    text = EDITED.format(docstring=docstring, comment=comment)
    found = {"__name__": "mine"}
    exec(compile(textwrap.dedent(text), "mine.py", "exec"), found)
    return found


def edited(name, *args):
    """The losses of a file before and after its words were edited."""
    before, after = module_with('"""Old."""', ""), module_with('"""New words."""', "# a remark")
    return [
        lambda one=one: on_cart(loss=one[name](*args) if args else one[name])
        for one in (before, after)
    ]


SAME_RUNS = {
    "docstring of a function": edited("loss"),
    "docstring of a closure": edited("make", 2.0),
    "default said explicitly": (on_cart, lambda: on_cart(num_epochs=4)),
    "equal closure made again": (
        lambda: on_cart(loss=loss_with(2.0)),
        lambda: on_cart(loss=loss_with(2.0)),
    ),
    "equal object made again": (lambda: on_cart(loss=Loss(2.0)), lambda: on_cart(loss=Loss(2.0))),
    "layout of a lambda": (
        lambda: on_cart(loss=lambda x, h: -x.log_ratio * x.advantage),
        lambda: on_cart(
            loss=lambda x, h: (
                -x.log_ratio * x.advantage  # a remark
            )
        ),
    ),
    "environment made again": (on_cart, lambda: on_cart(env=envs.make("CartPole-v1")[0])),
    "level of NumPy numbers": (
        on_cart,
        lambda: on_cart(level=jax.tree.map(np.asarray, CART_PARAMS)),
    ),
    "rows of NumPy numbers": (
        lambda: on_cart(rows=grid(gamma=[0.5, 0.25])),
        lambda: on_cart(rows=grid(gamma=np.array([0.5, 0.25], np.float32))),
    ),
    "infinite hyperparameter": (
        lambda: on_cart(hypers=ppo.Hypers(clip_eps=np.inf)),
        lambda: on_cart(hypers=ppo.Hypers(clip_eps=float("inf"))),
    ),
    "list for a tuple": (on_cart, lambda: on_cart(hidden=tuple([64, 64]))),
    "equal levels drawn again": (
        lambda: meta(curriculum=fixed(levels(0))),
        lambda: meta(curriculum=fixed(jax.tree.map(jnp.array, levels(0)))),
    ),
    "equal sampler made again": (
        lambda: on_mazes("uniform"),
        lambda: on_mazes("uniform"),
    ),
    "record read back from disk": (on_cart, lambda: json.loads(json.dumps(on_cart(), indent=1))),
}


@pytest.mark.parametrize("case", SAME_RUNS)
def test_the_same_run_is_recognised(case):
    before, now = (make() for make in SAME_RUNS[case])
    assert not record.first_difference(before, now)


def test_a_folder_that_was_moved_holds_the_same_run_under_other_versions(tmp_path):
    (tmp_path / "before").mkdir()
    record.claim(tmp_path / "before", False, on_cart())
    (tmp_path / "before" / record.SAVED).touch()
    moved = (tmp_path / "before").rename(tmp_path / "moved")
    kept = json.loads((moved / record.FILE).read_text())
    kept["versions"]["jax"] = "another"
    (moved / record.FILE).write_text(json.dumps(kept))
    with pytest.warns(UserWarning, match="had jax another and goes on with"):
        record.claim(moved, True, on_cart())
