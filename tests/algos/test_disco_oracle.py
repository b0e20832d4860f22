"""DiscoRL against the published code: its outputs on random inputs are in `disco_golden.npz`.

The arrays were computed by `google-deepmind/disco_rl` (commit 9059a29, dm-haiku 0.0.17, rlax 0.1.9)
with the published weights, in float64, and kept in float32: of hundreds of categories, every 40th
or 60th. The rule is compared in float64, because rounding in float32 alone makes a difference of
1e-5 in its outputs, and of more in the gradient of q.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from algos import disco
from algos.disco_agent import Agent, Outputs, Scale, Trajectories, estimate_values
from algos.disco_rule import LSTMState
from algos.rules import load_rule
from purejaxrl.algorithm import Task
from purejaxrl.parts.rollout import Experience, Transition
from tests.algos.probes import Probe

with np.load(Path(__file__).parent / "disco_golden.npz") as archive:
    GOLDEN = dict(archive)
NUM_STEPS, BATCH, CATEGORIES, BINS = 5, 3, 600, 601
CLOSE = dict(rtol=1e-6, atol=1e-6)
RULE = load_rule("disco103")


QUICK = {"xla_backend_optimization_level": 0}  # compiling is all that these tests spend time on


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def as_float32(x):
    """Round as the published code's inputs were."""
    return x.astype(np.float32).astype(float)


def random_inputs(num_actions, seed):
    """Draw what the published code was given: outputs of two networks, and trajectories."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: as_float32(rng.normal(size=shape))  # noqa: E731
    states = (NUM_STEPS + 1, BATCH)

    def outputs():
        return Outputs(
            pi=normal(*states, num_actions),
            y=2 * normal(*states, CATEGORIES),
            z=2 * normal(*states, num_actions, CATEGORIES),
            next_pi=normal(*states, num_actions, num_actions),
            q=2 * normal(*states, num_actions, BINS),
        )

    online, slow = outputs(), outputs()
    steps = (NUM_STEPS, BATCH)
    behaviour, reward = normal(*steps, num_actions), 3 * normal(*steps)
    action, terminated = rng.integers(num_actions, size=steps), rng.random(steps) < 0.25
    seen = Trajectories((), action, reward, terminated, np.zeros(steps, bool), behaviour)
    return jax.tree.map(jnp.asarray, (online, slow, seen))


def learn_once(online, slow, seen, memory, scale):
    """Apply the rule, and compute the loss and its gradients with respect to the outputs."""
    h = disco.Hypers()
    values = estimate_values(online, slow, seen, h.gamma, h.retrace_lambda)
    scale = scale.advance(values.advantage, 1.0 - seen.truncated)
    inputs = disco.rule_inputs(online, slow, seen, values, scale)
    targets, memory = RULE.network.apply(RULE.params, inputs, memory)
    loss, grads = jax.value_and_grad(
        lambda online: disco.weigh(disco.losses(online, seen, targets, values), h)
    )(online)
    found = {
        "pi": targets.pi,
        "y": targets.y[..., ::40],
        "z": targets.z[..., ::40],
        "q_target": values.q_target,
        "advantage": values.advantage,
        "advantage_scaled": inputs.advantage_scaled,
        "loss": loss,
        **memory._asdict(),
    }
    for name, grad in grads._asdict().items():
        weights = np.random.default_rng(seen.behaviour.shape[-1]).normal(size=grad.shape)
        found[f"grad/{name}"] = (grad * weights).sum(tuple(range(2, grad.ndim)))
    return found, memory, scale


@pytest.mark.parametrize("num_actions", [2, pytest.param(6, marks=pytest.mark.slow)])
def test_two_updates_of_the_rule_equal_the_published_codes(num_actions, float64):
    """The second update sees what the first left in the memory and in the scale."""
    learn, state = (
        jax.jit(learn_once, compiler_options=QUICK),
        (LSTMState.start(128), Scale.start()),
    )
    for step in range(2):
        found, *state = learn(*random_inputs(num_actions, seed=10 * num_actions + step), *state)
        for name, array in found.items():
            expected = GOLDEN[f"{num_actions}/{step}/{name}"]
            np.testing.assert_allclose(array, expected, **CLOSE, err_msg=f"{name}, update {step}")


HAIKU = {
    "torso/layers_0": "mlp/~_embedding_pass/torso/~/linear_0",
    "torso/layers_2": "mlp/~_embedding_pass/torso/~/linear_1",
    "root": "mlp/linear",
    "pi": "mlp/~_head_pass/torso_head/~/linear_0",
    "y": "mlp/~_head_pass/torso_head_1/~/linear_0",
    "z_hidden": "mlp/mlp/~/linear_0",
    "z": "mlp/mlp/~/linear_1",
    "next_pi_hidden": "mlp/mlp_1/~/linear_0",
    "next_pi": "mlp/mlp_1/~/linear_1",
    "q_hidden": "mlp/mlp_2/~/linear_0",
    "q": "mlp/mlp_2/~/linear_1",
}
"""Layers of the agent's network, and what the published code calls them."""


def drawn_network():
    """Draw the parameters of the agent's network as for the published code, and observations."""
    num_actions, obs_size, hidden = 4, 5, 8
    shapes = {
        "mlp/action_cond/linear": (num_actions + 128, 512),
        "mlp/linear": (hidden, 128),
        "mlp/~_embedding_pass/torso/~/linear_0": (obs_size, hidden),
        "mlp/~_embedding_pass/torso/~/linear_1": (hidden, hidden),
        "mlp/~_head_pass/torso_head/~/linear_0": (hidden, num_actions),
        "mlp/~_head_pass/torso_head_1/~/linear_0": (hidden, CATEGORIES),
    }
    for head, size in (("mlp", CATEGORIES), ("mlp_1", num_actions), ("mlp_2", BINS)):
        shapes |= {f"mlp/{head}/~/linear_0": (128, 128), f"mlp/{head}/~/linear_1": (128, size)}
    shapes = {f"{name}/w": shape for name, shape in shapes.items()} | {
        f"{name}/b": shape[-1:] for name, shape in shapes.items()
    }
    rng = np.random.default_rng(0)
    theirs = {
        name: as_float32(rng.normal(size=shapes[name]) / np.sqrt(shapes[name][0]))
        for name in sorted(shapes)
    }
    params = {}
    for ours, name in HAIKU.items():
        *above, layer = ours.split("/")
        place = params.setdefault(above[0], {}) if above else params
        place[layer] = {"kernel": theirs[f"{name}/w"], "bias": theirs[f"{name}/b"]}
    stacked = theirs["mlp/action_cond/linear/w"]  # one-hot actions above the hidden state
    params["action_gates"] = stacked[:num_actions]
    bias = theirs["mlp/action_cond/linear/b"]
    params["root_gates"] = {"kernel": stacked[num_actions:], "bias": bias}
    obs = as_float32(rng.normal(size=(NUM_STEPS + 1, BATCH, obs_size)))
    return {"params": params}, obs, rng


def published_torso():
    """Unlike ours, it has no nonlinearity after its last layer."""
    return nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(8)])


def test_the_agents_network_equals_the_published_codes(float64):
    params, obs, _ = drawn_network()
    agent = Agent(published_torso(), 4, 128, CATEGORIES, BINS)
    outputs = jax.jit(agent.apply, compiler_options=QUICK)(params, obs)
    for name, array in outputs._asdict().items():
        array = array if array.shape[-1] <= 6 else array[..., ::60]
        np.testing.assert_allclose(array, GOLDEN[f"network/{name}"], **CLOSE, err_msg=name)


class Vectors(Probe):
    """Observations of five numbers, and four actions."""

    def get_obs(self, state, params=None, key=None):
        return jnp.zeros(5)

    def action_space(self, params=None):
        return spaces.Discrete(4)

    def observation_space(self, params=None):
        return spaces.Box(-1.0, 1.0, (5,))


@pytest.mark.slow
def test_six_updates_of_an_agent_equal_the_published_codes():
    """From the same parameters on the same trajectories, the losses stay the same."""
    params, obs, rng = drawn_network()
    steps = (NUM_STEPS, BATCH)
    reward, action = as_float32(rng.normal(size=steps)), rng.integers(4, size=steps)
    behaviour = as_float32(rng.normal(size=(*steps, 4)))
    terminated, never = np.zeros((2, *steps), bool)
    terminated[-1, 1] = True
    seen = Transition(obs[:-1], action, reward, terminated, never, never, (), (), behaviour)

    sizes = dict(num_envs=BATCH, num_steps=NUM_STEPS, num_trajectories=BATCH)
    config = disco.Config(**sizes, replay_capacity=BATCH)
    env = Vectors(reward=lambda state, action: action)
    algorithm = disco.make(config, env, published_torso())
    hypers = disco.Hypers(rule=RULE.params, learning_rate=1e-3)
    task = Task(env.default_params, jnp.int32(6))
    state = jax.jit(algorithm.init)(jax.random.key(0), hypers, task)
    assert jax.tree.map(jnp.shape, state.params) == jax.tree.map(jnp.shape, params)
    state = state._replace(
        params=params,
        target_params=params,
        interaction=state.interaction._replace(obs=jnp.asarray(obs[-1])),
    )
    experience = jax.tree.map(jnp.asarray, Experience(seen, {}))
    learn = jax.jit(
        lambda state: algorithm.learn(state, hypers, experience), compiler_options=QUICK
    )
    for expected in GOLDEN["updates/losses"]:
        state, metrics = learn(state)
        found = [metrics[name] for name in ("policy_loss", "next_policy_loss", "value_loss")]
        found.append(disco.weigh(metrics, hypers))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
