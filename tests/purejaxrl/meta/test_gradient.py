"""The meta-gradient against finite differences and a naive life; what a meta-learner promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from algos import lpg, ppo
from envs.gridworld import GridWorld
from envs.gridworld_levels import LEVELS
from purejaxrl.meta import gradient
from purejaxrl.parts import networks
from purejaxrl.parts.returns import generalized_advantage
from purejaxrl.running.population import populate, seeds
from purejaxrl.running.runner import RunOptions, run
from purejaxrl.ued.curriculum import uniform
from tests.algos.probes import Params, Probe
from tests.helpers import assert_equal, planned_memory

AGENT = lpg.Config(
    num_envs=3, num_steps=5, num_predictions=3, rule_width=6, rule_embedding=4, optimizer="sgd"
)
ENV = GridWorld(LEVELS["small"].sample)
INNER = lpg.make(AGENT, ENV)
HYPERS = gradient.Hypers(
    agent=lpg.Hypers(learning_rate=3.0, gamma=0.9),
    regularizer=lpg.Regularizer(),
    critic_learning_rate=0.01,
)


def make(
    num_agents=2, num_updates=2, axis_name=None, lifetime=10, inner=INNER, env=ENV, rule=AGENT,
    **settings,
):  # fmt: skip
    return gradient.make(
        gradient.Config(num_agents, num_updates, **settings),
        inner,
        networks.readout(env.observation_space(), None, 1),
        init_theta=lambda key: lpg.init_rule(key, rule),
        insert=lpg.with_rule,
        curriculum=uniform(LEVELS["small"].sample),
        sample_lifetime=lambda key: jnp.int32(lifetime),
        axis_name=axis_name,
    )


def first_gradient(state):
    """Adam's first moment after its first step is a tenth of the gradient."""
    return jax.tree.map(lambda mu: 10 * mu, state.opt_state[0].mu)


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class NaiveLife:
    """Two updates and a meta-loss as plain loops over what was recorded of a life at θ.

    What the rule reads, the actions and the advantages are the recorded ones, whatever θ is.
    """

    def __init__(self, agent, theta):
        hypers = HYPERS.agent.replace(rule=theta)
        state, self.seen, self.inputs = agent.state, [], []
        self.start = jax.tree.map(jnp.asarray, state.params)
        for _ in range(2):
            params = state.params
            state, experience = INNER.collect(state, hypers)
            seen = experience.transitions
            probs = jax.nn.softmax(self.logits(params.actor, seen.obs))
            self.inputs.append(
                (
                    jnp.take_along_axis(probs, seen.action[..., None], -1)[..., 0],
                    jax.nn.softmax(self.logits(params.predictor, seen.obs)),
                    jax.nn.softmax(self.logits(params.predictor, seen.final_obs)),
                )
            )
            self.seen.append(seen)
            state, _ = INNER.learn(state, hypers, experience)
        _, experience = INNER.collect(state, hypers)
        self.fresh = seen = experience.transitions
        zero = jnp.zeros(seen.reward.shape)
        self.advantage = generalized_advantage(
            seen.reward, zero, zero, seen.terminated, seen.truncated, 0.99, 0.95
        )

    @staticmethod
    def logits(params, obs):
        table = params["params"]
        one_hot = jax.nn.one_hot(obs.row, len(table["rows"]))
        return one_hot @ table["rows"] + obs.time[..., None] * table["time"]

    def rule(self, theta, seen, inputs):
        """π̂ and ŷ, one step after the other from the end."""
        p = theta["params"]
        prob, y, next_y = inputs

        def embed(y):
            layers = p["Dense_0"], p["Dense_1"]
            hidden = jnp.maximum(y @ layers[0]["kernel"] + layers[0]["bias"], 0)
            return (hidden @ layers[1]["kernel"] + layers[1]["bias"])[:, 0]

        width = AGENT.rule_width
        h, outputs = jnp.zeros((AGENT.num_envs, width)), []
        for t in reversed(range(AGENT.num_steps)):
            h = jnp.where((seen.terminated[t] | seen.truncated[t])[:, None], 0, h)
            gamma = jnp.full(AGENT.num_envs, HYPERS.agent.gamma)
            d = 1.0 * seen.terminated[t]
            x = jnp.stack(
                [seen.reward[t], d, gamma, prob[t], embed(y[t]), embed(next_y[t])], axis=1
            )
            a, b = x @ p["inputs"] + p["inputs_bias"], h @ p["state"]
            r = jax.nn.sigmoid(a[:, :width] + b[:, :width])
            z = jax.nn.sigmoid(a[:, width : 2 * width] + b[:, width : 2 * width])
            n = jnp.tanh(a[:, 2 * width :] + r * (b[:, 2 * width :] + p["state_bias"]))
            h = (1 - z) * n + z * h
            outputs.append(h)
        h = jnp.stack(outputs[::-1])
        pi_hat = (h @ p["Dense_2"]["kernel"] + p["Dense_2"]["bias"])[..., 0]
        return pi_hat, jax.nn.softmax(h @ p["Dense_3"]["kernel"] + p["Dense_3"]["bias"])

    def agent_loss(self, params, seen, pi_hat, y_hat):
        log_pi = jax.nn.log_softmax(self.logits(params.actor, seen.obs))
        log_prob = jnp.take_along_axis(log_pi, seen.action[..., None], -1)[..., 0]
        y = jax.nn.softmax(self.logits(params.predictor, seen.obs))
        return (0.5 * (y * jnp.log(y / y_hat)).sum(-1) - log_prob * pi_hat).mean()

    def meta_loss(self, theta):
        params, penalty, c = self.start, 0.0, HYPERS.regularizer
        for seen, inputs in zip(self.seen, self.inputs, strict=True):
            pi_hat, y_hat = self.rule(theta, seen, inputs)
            grads = jax.grad(self.agent_loss)(params, seen, pi_hat, y_hat)
            params = jax.tree.map(lambda p, g: p - HYPERS.agent.learning_rate * g, params, grads)
            penalty += c.pi_hat * (pi_hat**2).mean() / 2
            penalty += c.y_hat * (y_hat**2).sum(-1).mean() / 2
        log_pi = jax.nn.log_softmax(self.logits(params.actor, self.fresh.obs))
        log_y = jax.nn.log_softmax(self.logits(params.predictor, self.fresh.obs))
        log_prob = jnp.take_along_axis(log_pi, self.fresh.action[..., None], -1)[..., 0]
        penalty += c.entropy * (jnp.exp(log_pi) * log_pi).sum(-1).mean()
        penalty += c.prediction_entropy * (jnp.exp(log_y) * log_y).sum(-1).mean()
        return penalty - (log_prob * self.advantage).mean()


@pytest.fixture(scope="module")
def life():
    """A life in float64, its naive twin, and our meta-gradient; the critic stays at zero."""
    with jax.enable_x64(True):
        learner = make(num_agents=1)
        hypers = HYPERS.replace(critic_learning_rate=0.0, max_grad_norm=jnp.inf)
        state = learner.init(jax.random.key(5), hypers, None)
        double = lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x  # noqa: E731
        is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        noise = np.random.default_rng(0)
        agents = state.agents
        params = jax.tree.map(
            lambda x: jnp.asarray(noise.normal(size=x.shape)) if is_float(x) else x,
            agents.state.params,
        )
        level = agents.state.task.env_params  # made rich, for a gradient of the return to see
        ones = jnp.ones_like(level.reward)
        level = level.replace(
            reward=ones,
            respawn_prob=ones,
            object_exists=jnp.ones_like(level.object_exists),
            object_cell=level.object_cell.at[:, 0].set(level.start),
        )
        agents = agents._replace(
            state=agents.state._replace(
                params=params,
                env_state=agents.state.env_state.replace(
                    object_cell=jnp.repeat(level.object_cell[:, None], AGENT.num_envs, axis=1)
                ),
                task=agents.state.task._replace(env_params=level),
            ),
            critic=jax.tree.map(double, agents.critic),
        )
        theta = jax.tree.map(double, state.params)
        state = state._replace(
            params=theta, agents=agents, opt_state=jax.tree.map(double, state.opt_state)
        )
        agent = jax.tree.map(lambda x: x[0], agents)
        naive = NaiveLife(agent, theta)
        after, metrics = jax.jit(learner.learn)(state, hypers, ())
        return theta, naive, first_gradient(after), metrics


def test_the_meta_loss_is_the_naive_lifes(life):
    theta, naive, _, metrics = life
    with jax.enable_x64(True):
        np.testing.assert_allclose(metrics["meta_loss"], naive.meta_loss(theta), rtol=1e-10)
        assert abs(naive.advantage).max() > 1  # there is something to learn from


def test_the_meta_gradient_is_that_of_the_naive_life(life):
    theta, naive, ours, _ = life
    with jax.enable_x64(True):
        theirs = jax.jit(jax.grad(naive.meta_loss))(theta)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_meta_gradient_agrees_with_finite_differences(life, seed):
    theta, naive, ours, _ = life
    with jax.enable_x64(True):
        rng, eps = np.random.default_rng(seed), 1e-6
        direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), theta)
        loss = jax.jit(naive.meta_loss)
        ahead, behind = (
            loss(jax.tree.map(lambda x, d: x + sign * eps * d, theta, direction))  # noqa: B023
            for sign in (1, -1)
        )
        np.testing.assert_allclose((ahead - behind) / (2 * eps), dot(ours, direction), rtol=1e-6)


def test_it_is_finite_where_nothing_can_be_learned():
    """A rule whose units are all dead, agents that get no reward."""
    level = ENV.default_params
    level = level.replace(reward=0 * level.reward)
    learner = make()
    state = learner.init(jax.random.key(0), HYPERS, None)
    state = state._replace(params=jax.tree.map(jnp.zeros_like, state.params))
    agents = state.agents
    task = agents.state.task._replace(env_params=jax.tree.map(lambda x: jnp.stack([x, x]), level))
    state = state._replace(agents=agents._replace(state=agents.state._replace(task=task)))
    after, metrics = jax.jit(learner.learn)(state, HYPERS, ())
    assert metrics["unsound"] == 0
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves((after.params, after.opt_state)))


def test_an_agent_does_not_depend_on_its_neighbours():
    learner = make(num_agents=4, group=2)
    hypers = HYPERS.replace(max_grad_norm=jnp.inf)
    state = learner.init(jax.random.key(1), hypers, None)
    step = jax.jit(learner.learn)
    together, _ = step(state, hypers, ())
    order = jnp.array([2, 0, 3, 1])
    shuffled = state._replace(agents=jax.tree.map(lambda x: x[order], state.agents))
    apart, _ = step(shuffled, hypers, ())
    # An agent that has just been born differs by the new θ alone, which sums in another order.
    for a, b in zip(
        jax.tree.leaves(together.agents.state.params),
        jax.tree.leaves(apart.agents.state.params),
        strict=True,
    ):
        np.testing.assert_allclose(a[order], b, rtol=1e-5, atol=1e-7)
    for a, b in zip(*map(jax.tree.leaves, map(first_gradient, (together, apart))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_rematerialised_it_is_the_same():
    state = make().init(jax.random.key(0), HYPERS, None)
    plain, _ = jax.jit(make().learn)(state, HYPERS, ())
    again, _ = jax.jit(make(rematerialize=True).learn)(state, HYPERS, ())
    for a, b in zip(*map(jax.tree.leaves, map(first_gradient, (plain, again))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
def test_rematerialised_its_memory_hardly_grows_with_k():
    agent = lpg.Config(num_envs=16, rule_width=64, optimizer="sgd")

    def memory(num_updates, rematerialize):
        inner = lpg.make(agent, ENV)
        learner = make(2, num_updates, inner=inner, rule=agent, rematerialize=rematerialize)
        return planned_memory(learner, HYPERS)

    grown = [memory(20, again) - memory(5, again) for again in (False, True)]
    assert grown[1] < grown[0] / 3


def test_a_diverging_agent_cannot_poison_the_rule():
    learner = make(num_agents=4)
    state = learner.init(jax.random.key(0), HYPERS, None)
    params = jax.tree.map(lambda x: x.at[2].set(jnp.nan), state.agents.state.params)
    ill = state._replace(
        agents=state.agents._replace(state=state.agents.state._replace(params=params))
    )
    step = jax.jit(learner.learn)
    after, metrics = step(ill, HYPERS, ())
    assert metrics["unsound"] == 1
    assert all(
        jnp.isfinite(x).all() for x in jax.tree.leaves((after.params, after.agents.state.params))
    )
    assert (first_gradient(after)["params"]["state"] != 0).any()
    assert after.agents.state.step[2] == 0  # another was born in its place


def test_the_critic_of_the_meta_objective_learns():
    """In the published code its gradient was zero and its parameters never moved."""
    learner = make()
    state = learner.init(jax.random.key(0), HYPERS, None)
    step, explained = jax.jit(learner.learn), []
    for _ in range(5):
        before = state.agents.critic.params
        state, metrics = step(state, HYPERS, ())
        explained.append(metrics["explained_variance"])
        assert (state.agents.critic.params["params"]["rows"] != before["params"]["rows"]).any()


def test_a_life_has_its_length_and_the_first_ones_are_staggered():
    learner = make(num_agents=4, lifetime=7)  # not a multiple of K
    state = learner.init(jax.random.key(0), HYPERS, None)
    assert state.agents.state.task.horizon.tolist() == [2, 4, 6, 7]
    step, ages, ended, updates = jax.jit(learner.learn), [], [], []
    for _ in range(8):
        state, metrics = step(state, HYPERS, ())
        ages.append(state.agents.state.step.tolist())
        ended.append(int(metrics["lives_ended"]))
        updates.append(int(metrics["env_steps"]) // INNER.config.batch_size - 4)  # less the exam
        assert (state.agents.state.step < state.agents.state.task.horizon).all()
    assert ages[0] == [0, 2, 2, 2] and ages[2] == [4, 2, 0, 6]
    assert ages[3] == [6, 4, 2, 0]  # the seventh update ended it, the eighth was not made
    assert step._cache_size() == 1  # a meta-step never compiles again
    assert ended[:4] == [1, 1, 1, 1] and updates[:4] == [8, 8, 8, 7]


def options(out, **settings):
    return RunOptions(str(out), chunk=2, checkpoint_every=1, progress=False, **settings)


def test_resumed_equals_uninterrupted(tmp_path):
    who = populate(seeds(2), HYPERS, ())
    learner = make(num_agents=4, axis_name="agents")
    whole = run(learner, who, 6, options(tmp_path / "whole"), horizon=6)
    run(learner, who, 4, options(tmp_path / "parts"), horizon=6)
    parts = run(learner, who, 6, options(tmp_path / "parts", resume=True), horizon=6)
    assert_equal(whole.state, parts.state)


def test_over_devices_it_is_the_same_after_an_update(tmp_path):
    who = populate(seeds(1), HYPERS, ())
    learner = make(num_agents=8, axis_name="agents")
    states = [
        run(learner, who, 1, options(tmp_path / str(n)), devices=jax.devices()[:n]).state
        for n in (1, 2, 8)
    ]
    grads = [jax.tree.leaves(first_gradient(state)) for state in states]
    for other in grads[1:]:
        for a, b in zip(grads[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_meta_learners_side_by_side_are_as_alone(tmp_path):
    learner, alone = make(axis_name="agents"), populate(seeds(1, 1), HYPERS, ())
    both = run(learner, populate(seeds(2), HYPERS, ()), 4, options(tmp_path / "a"))
    alone = run(learner, alone, 4, options(tmp_path / "b"))
    assert_equal(both.member(1).params, alone.member(0).params)


class Tuned(struct.PyTreeNode):
    """Hyperparameters of PPO that are tuned online."""

    log_learning_rate: jax.Array
    entropy_coef: jax.Array
    discount_logit: jax.Array


def tune(theta, hypers):
    return hypers.replace(
        learning_rate=jnp.exp(theta.log_learning_rate),
        entropy_coef=theta.entropy_coef,
        gamma=jax.nn.sigmoid(theta.discount_logit),
    )


@pytest.mark.slow
def test_the_same_code_tunes_ppo():
    """Its learning rate rises where it was set too low; the discount's gradient arrives, too."""
    env = Probe(lambda state, action: jnp.where(action == (state.cue > 0), 1, -1))
    config = ppo.Config(num_envs=8, num_steps=8, num_epochs=1, num_minibatches=2, hidden=(8,))
    start = Tuned(jnp.log(1e-3), jnp.float32(0.0), jnp.float32(2.0))
    learner = gradient.make(
        gradient.Config(num_agents=4, num_updates=3),
        ppo.make(config, env),
        networks.readout(env.observation_space(), networks.MLP((8,)), 1),
        init_theta=lambda key: jax.tree.map(jnp.float32, start),
        insert=tune,
        curriculum=uniform(lambda key: Params(length=2, max_steps_in_episode=2)),
        sample_lifetime=lambda key: jnp.int32(30),
        axis_name=None,
    )
    hypers = gradient.Hypers(agent=ppo.Hypers(learning_rate_end=1.0), learning_rate=0.05)
    state = learner.init(jax.random.key(0), hypers, None)
    step = jax.jit(learner.learn)
    returns = []
    for _ in range(80):
        state, metrics = step(state, hypers, ())
        returns.append(float(metrics["return"]))
    assert metrics["unsound"] == 0
    assert state.params.log_learning_rate > start.log_learning_rate + 0.5
    assert state.params.discount_logit != start.discount_logit
    assert np.mean(returns[-20:]) > np.mean(returns[:20]) + 0.2


@pytest.mark.parametrize(("field", "value"), [("num_agents", 0), ("num_updates", 0), ("group", 0)])
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=rf"Config\.{field}: 0 is not valid"):
        gradient.Config(**{field: value})


def test_an_algorithm_without_log_prob_is_refused():
    with pytest.raises(ValueError, match="inner: .*log_prob"):
        make(inner=INNER._replace(log_prob=None))
