"""A network is an argument: any flax module, checked where the algorithm is made."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import envs
from algos import a2c, dpo, lpg, lpo, ppo, ppo_rnn
from purejaxrl.algorithm import make_train
from purejaxrl.parts.networks import MLP
from purejaxrl.parts.recurrent import GRU
from tests.helpers import ENV, ENV_PARAMS, assert_equal

GRID, LEVEL = envs.make("gridworld-small")
SIZES = dict(num_envs=4, num_steps=4)
MODULES = {module.__name__: module for module in (a2c, dpo, lpg, lpo, ppo, ppo_rnn)}


class Skip(nn.Module):
    """Observations beside features of them."""

    @nn.compact
    def __call__(self, obs):
        return jnp.concatenate([obs, MLP((4,))(obs)], axis=-1)


class Embedding(nn.Module):
    """Features of a grid-world's observation, a row and a time."""

    @nn.compact
    def __call__(self, obs):
        return nn.Embed(GRID.observation_space().spaces["row"].n, 3)(obs[0])


class Returns(nn.Module):
    """A torso that computes what it is told to."""

    function: object

    @nn.compact
    def __call__(self, obs):
        return self.function(obs)


class Remembers(nn.Module):
    """A torso with a memory, an exponential average, that computes what it is told to."""

    after: object = lambda memory: memory
    features: object = lambda memory, first: jnp.broadcast_to(memory, (*first.shape, 4))
    start: object = lambda num_envs: jnp.zeros((num_envs, 4))

    @nn.compact
    def __call__(self, memory, obs, first):
        (memory,) = jax.tree.leaves(memory)
        memory = 0.5 * memory + 0.5 * obs[-1]
        return self.after(memory), self.features(memory, first)

    def initial_memory(self, num_envs):
        return self.start(num_envs)


def train(module, env, level, torso):
    config = module.Config(**SIZES)

    def run(key):
        hypers = module.Hypers(learning_rate=1e-2)
        if module is lpo:
            hypers = hypers.replace(drift=lpo.init_drift(key, config))
        if module is lpg:
            hypers = hypers.replace(rule=lpg.init_rule(key, config))
        return make_train(module.make(config, env, torso=torso), 1)(key, hypers, level)

    return jax.eval_shape(run, jax.random.key(0))[0]


def names(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize("name", MODULES)
def test_any_flax_module_is_a_torso(name):
    state = train(MODULES[name], ENV, ENV_PARAMS, Skip())
    assert any("MLP_0" in name for name in names(state.params))


@pytest.mark.parametrize("module", [a2c, lpg], ids=lambda module: module.__name__)
def test_a_torso_replaces_the_table(module):
    state = train(module, GRID, LEVEL, Embedding())
    assert any("embedding" in name for name in names(state.params))


def test_the_torso_that_a_config_names_trains_alike_when_it_is_given():
    config = ppo.Config(**SIZES, num_minibatches=2, hidden=(8,))
    run = lambda torso: jax.jit(make_train(ppo.make(config, ENV, torso=torso), 2))(  # noqa: E731
        jax.random.key(0), ppo.Hypers(), ENV_PARAMS
    )
    assert_equal(run(None)[0].params, run(MLP((8,)))[0].params)


def test_a_given_torso_is_part_of_the_identity():
    made = lambda torso: ppo.make(ppo.Config(), ENV, torso=torso).made_of  # noqa: E731
    assert len({made(None), made(MLP((8,))), made(MLP((4,))), made(Skip())}) == 4
    assert made(None) == made(None)[:2] and made(MLP((8,))) == made(MLP((8,)))


BAD = {
    "a name": ("cnn", "'cnn' is not valid; it must be an instance of a flax module"),
    "a class": (MLP, "MLP'> is not valid; it must be an instance of a flax module"),
    "no feature axis": (Returns(lambda obs: obs.sum(-1)), r"\(2, width\), .* float32\(2,\)"),
    "integers": (Returns(lambda obs: obs.astype(jnp.int32)), r"returns int32\(2, 4\)"),
    "flat": (Returns(lambda obs: obs.reshape(-1, 4)), r"\(3, 2, width\), .* float32\(6, 4\)"),
    "two outputs": (Returns(lambda obs: (obs, obs)), r"0: float32\(2, 4\), 1: float32\(2, 4\)"),
    "images": (nn.Conv(4, (3, 3, 3)), r"Conv is not valid for inputs 0: float32\(2, 4\): "),
}


@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("name", BAD)
def test_a_torso_of_the_wrong_output_is_refused(name, module):
    torso, message = BAD[name]
    with pytest.raises(ValueError, match=f"torso: .*{message}"):
        module.make(module.Config(**SIZES), ENV, torso=torso)


@pytest.mark.parametrize("module", [a2c, lpg, ppo], ids=lambda module: module.__name__)
def test_a_torso_with_a_memory_is_refused_by_algorithms_without_one(module):
    with pytest.raises(ValueError, match="torso: GRU is not valid; it has a memory"):
        module.make(module.Config(**SIZES), ENV, torso=GRU(4))


WRONG_MEMORY = {
    "it grows": (dict(after=lambda m: jnp.concatenate([m, m], 1)), r"float32\(2, 8\)"),
    "it changes its dtype": (dict(after=lambda m: m.astype(jnp.bfloat16)), r"bfloat16\(2, 4\)"),
    "it changes its structure": (dict(after=lambda m: {"m": m}), r"m: float32\(2, 4\)"),
    "a tuple becomes a list": (
        dict(start=lambda n: (jnp.zeros((n, 4)),), after=lambda m: [m]),
        r"structure.*0: float32",
    ),
    "features of one step": (
        dict(features=lambda m, first: m),
        r"\(1, 2, width\), .* float32\(2, 4\)",
    ),
    "features without width": (
        dict(features=lambda m, first: m[None, :, 0]),
        r"returns float32\(1, 2\)",
    ),
    "a memory of all environments": (dict(start=lambda n: jnp.zeros(4)), r"is float32\(4,\)"),
    "a memory it cannot read": (
        dict(start=lambda n: jnp.zeros((n, 7))),
        r"for inputs 0: float32\(2, 7\), 1: ",
    ),
}


@pytest.mark.parametrize("name", WRONG_MEMORY)
def test_a_torso_with_a_wrong_memory_is_refused(name):
    functions, message = WRONG_MEMORY[name]
    with pytest.raises(ValueError, match=f"torso: Remembers is not valid.*{message}"):
        ppo_rnn.make(ppo_rnn.Config(**SIZES), ENV, torso=Remembers(**functions))


def test_a_torso_that_returns_no_memory_is_refused():
    class Forgets(Remembers):
        @nn.compact
        def __call__(self, memory, obs, first):
            return obs

    with pytest.raises(ValueError, match=r"Forgets is not valid; .* \(memory, features\)"):
        ppo_rnn.make(ppo_rnn.Config(**SIZES), ENV, torso=Forgets())


def test_a_torso_with_a_memory_replaces_the_gru():
    state = train(ppo_rnn, ENV, ENV_PARAMS, Remembers())
    assert state.interaction.memory.shape == (4, 4)
    assert set(state.params["params"]) == {"PolicyHead_0", "Dense_0"}
