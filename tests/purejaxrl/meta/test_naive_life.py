"""The meta-gradient against finite differences, and against a life written as plain loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import lpg
from purejaxrl.parts.returns import generalized_advantage
from tests.helpers import mostly_slow
from tests.purejaxrl.meta.small import (
    AGENT,
    ENV,
    HYPERS,
    agents_of,
    first_gradient,
    make,
    start,
    with_agents,
)


def dot(a, b):
    return sum((x * y).sum() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


class NaiveLife:
    """Two updates and a meta-loss as plain loops over the recorded experience of a life at θ.

    Observations, actions, rewards and advantages are the recorded ones, whatever θ is. What the
    rule reads of the policy and the predictions follows from θ.
    """

    def __init__(self, inner, hypers, agent, theta):
        self.config, self.hypers = inner.config, hypers
        hypers = hypers.replace(rule=theta)
        state, rollouts = agent.state, []
        self.start = jax.tree.map(jnp.asarray, state.params)
        collect, learn = jax.jit(inner.collect), jax.jit(inner.learn)
        for _ in range(2):
            state, experience = collect(state, hypers)
            rollouts.append(experience.transitions)
            state, _ = learn(state, hypers, experience)
        _, experience = collect(state, hypers)
        rollouts.append(experience.transitions)
        self.advantage = self.normalized_advantage(rollouts)
        if self.config.normalize_reward:
            variances = self.variances_of_returns(rollouts, hypers.gamma)
            for i, (seen, var) in enumerate(zip(rollouts, variances, strict=True)):
                rollouts[i] = seen._replace(reward=np.clip(seen.reward / np.sqrt(var), -10, 10))
        *self.seen, self.fresh = rollouts
        self.loss_and_slope = jax.jit(jax.value_and_grad(self.meta_loss))

    @staticmethod
    def variances_of_returns(rollouts, gamma):
        """The variance of all discounted returns so far, after each rollout."""
        running, found = np.zeros(AGENT.num_envs), []
        mean, var, count = 0.0, 1.0, 1e-4
        for seen in rollouts:
            done, returns = seen.terminated | seen.truncated, []
            for reward, ends in zip(seen.reward, done, strict=True):
                running = gamma * running + reward
                returns.append(running)
                running = np.where(ends, 0.0, running)
            new, total = np.ravel(returns), count + np.size(returns)
            second = (count * (var + mean**2) + (new**2).sum()) / total
            mean = (count * mean + new.sum()) / total
            var, count = second - mean**2, total
            found.append(var + 1e-8)
        return found

    def normalized_advantage(self, rollouts):
        """Advantages of the last rollout without a critic, divided by their running scale."""
        square, variances = 1.0, self.variances_of_returns(rollouts, 0.99)
        for seen, var in zip(rollouts, variances, strict=True):
            zero = jnp.zeros(seen.reward.shape)
            advantage = generalized_advantage(
                seen.reward, zero, zero, seen.terminated, seen.truncated, 0.99, 0.95
            )
            square = 0.9 * square + 0.1 * (advantage**2).mean() / var
        return advantage / np.sqrt(var * max(square, 0.01))

    @staticmethod
    def logits(params, obs):
        table = params["params"]
        one_hot = jax.nn.one_hot(obs.row, len(table["rows"]))
        return one_hot @ table["rows"] + obs.time[..., None] * table["time"]

    def rule(self, theta, params, seen):
        """π̂ and ŷ, one step after the other from the end."""
        p = theta["params"]
        probs = jax.nn.softmax(self.logits(params.actor, seen.obs))
        prob = jnp.take_along_axis(probs, seen.action[..., None], -1)[..., 0]
        y = jax.nn.softmax(self.logits(params.predictor, seen.obs))
        next_y = jax.nn.softmax(self.logits(params.predictor, seen.final_obs))
        next_y = jnp.where(seen.terminated[..., None], 0.0, next_y)

        def embed(y):
            layers = p["Dense_0"], p["Dense_1"]
            hidden = jax.nn.relu(y @ layers[0]["kernel"] + layers[0]["bias"])
            return (hidden @ layers[1]["kernel"] + layers[1]["bias"])[:, 0]

        width = AGENT.rule_width
        h, outputs = jnp.zeros((AGENT.num_envs, width)), []
        for t in reversed(range(AGENT.num_steps)):
            h = jnp.where((seen.terminated[t] | seen.truncated[t])[:, None], 0, h)
            gamma = jnp.full(AGENT.num_envs, self.hypers.gamma)
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

    def log_prob(self, params, seen):
        log_pi = jax.nn.log_softmax(self.logits(params.actor, seen.obs))
        return jnp.take_along_axis(log_pi, seen.action[..., None], -1)[..., 0]

    def agent_loss(self, params, seen, pi_hat, y_hat, old_log_prob):
        """PPO's clipped objective with π̂ for the advantage, and the prediction's KL divergence."""
        ratio = jnp.exp(self.log_prob(params, seen) - old_log_prob)
        ratio = jnp.where(pi_hat > 0, jnp.minimum(ratio, 1.2), jnp.maximum(ratio, 0.8))
        y = jax.nn.softmax(self.logits(params.predictor, seen.obs))
        return (0.5 * (y * jnp.log(y / y_hat)).sum(-1) - ratio * pi_hat).mean()

    def descend(self, params, grads, m, v, step):
        """One step of SGD, or of Adam (Kingma and Ba 2015)."""
        rate = self.hypers.learning_rate
        if self.config.optimizer == "sgd":
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), m, v
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, grads)

        def move(p, m, v):
            root = jnp.sqrt(v / (1 - 0.999**step) + 1e-16)
            return p - rate * m / (1 - 0.9**step) / (root + 1e-5)

        return jax.tree.map(move, params, m, v), m, v

    def meta_loss(self, theta, c):
        params, penalty, step = self.start, 0.0, 0
        m = v = jax.tree.map(jnp.zeros_like, params)
        for seen in self.seen:
            pi_hat, y_hat = self.rule(theta, params, seen)
            old_log_prob = self.log_prob(params, seen)
            for _ in range(self.config.num_epochs):
                step += 1
                grads = jax.grad(self.agent_loss)(params, seen, pi_hat, y_hat, old_log_prob)
                params, m, v = self.descend(params, grads, m, v, step)
            penalty += c.pi_hat * (pi_hat**2).mean() / 2
            penalty += c.y_hat * (y_hat**2).sum(-1).mean() / 2
        log_pi = jax.nn.log_softmax(self.logits(params.actor, self.fresh.obs))
        log_y = jax.nn.log_softmax(self.logits(params.predictor, self.fresh.obs))
        penalty += c.entropy * (jnp.exp(log_pi) * log_pi).sum(-1).mean()
        penalty += c.prediction_entropy * (jnp.exp(log_y) * log_y).sum(-1).mean()
        return penalty - (self.log_prob(params, self.fresh) * self.advantage).mean()


WAYS = {
    "sgd": (dict(optimizer="sgd"), 3.0),
    "adam": (dict(optimizer="adam", normalize_reward=True), 0.3),
    "sgd_twice": (dict(optimizer="sgd", num_epochs=2), 3.0),
    "adam_twice": (dict(optimizer="adam", normalize_reward=True, num_epochs=2), 0.3),
}
"""How the agent descends: settings of its own, and its step size."""


@pytest.fixture(scope="module", params=mostly_slow(WAYS, {"sgd", "adam_twice"}))
def life(request):
    """A life in float64, its naive version, and our meta-gradient; the critic stays at zero."""
    settings, rate = WAYS[request.param]
    inner = lpg.make(dataclasses.replace(AGENT, **settings), ENV)
    with jax.enable_x64(True):
        learner = make(num_agents=1, inner=inner)
        own = HYPERS.agent.replace(learning_rate=rate)
        hypers = HYPERS.replace(agent=own, critic_learning_rate=0.0, max_grad_norm=jnp.inf)
        state = start(learner, hypers, seed=15)
        double = lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x  # noqa: E731
        is_float = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
        noise = np.random.default_rng(0)
        agents = agents_of(state)
        params = jax.tree.map(
            lambda x: jnp.asarray(noise.normal(size=x.shape)) if is_float(x) else x,
            agents.state.params,
        )
        level = agents.state.task.env_params  # with many rewards, so that the return has a gradient
        ones = jnp.ones_like(level.reward)
        level = level.replace(
            reward=ones,
            respawn_prob=ones,
            object_exists=jnp.ones_like(level.object_exists),
            object_cell=level.object_cell.at[:, 0].set(level.start),
        )
        interaction = agents.state.interaction
        env_state = interaction.env_state.replace(
            object_cell=jnp.repeat(level.object_cell[:, None], AGENT.num_envs, axis=1)
        )
        agents = agents._replace(
            state=agents.state._replace(
                params=params,
                interaction=interaction._replace(env_state=env_state),
                task=agents.state.task._replace(env_params=level),
            ),
            critic=jax.tree.map(double, agents.critic),
        )
        # Without biases the embedding of a masked y(s') would lie on the kink of its units.
        theta = jax.tree.map(lambda x: double(x) + 0.1 * noise.normal(size=x.shape), state.params)
        state = with_agents(state, agents)._replace(
            params=theta, opt_state=jax.tree.map(double, state.opt_state)
        )
        agent = jax.tree.map(lambda x: x[0], agents)
        naive = NaiveLife(inner, own, agent, theta)
        after, metrics = jax.jit(learner.learn)(state, hypers, ())
        return theta, naive, first_gradient(after), metrics


def test_the_meta_loss_equals_the_naive_one(life):
    theta, naive, _, metrics = life
    with jax.enable_x64(True):
        loss, _ = naive.loss_and_slope(theta, HYPERS.regularizer)
        np.testing.assert_allclose(metrics["meta_loss"], loss, rtol=1e-10)
        assert abs(naive.advantage).max() > 1  # there is something to learn from


def test_the_meta_gradient_equals_the_naive_one(life):
    theta, naive, ours, _ = life
    with jax.enable_x64(True):
        _, theirs = naive.loss_and_slope(theta, HYPERS.regularizer)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_the_return_has_a_gradient_by_the_target_of_the_prediction(life):
    """By way of the next update's prediction, which the rule reads; without any regulariser."""
    theta, naive, _, _ = life
    with jax.enable_x64(True):
        none = jax.tree.map(lambda x: 0.0 * x, HYPERS.regularizer)
        _, grads = naive.loss_and_slope(theta, none)
        assert abs(grads["params"]["Dense_3"]["kernel"]).max() > 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_the_meta_gradient_agrees_with_finite_differences(life, seed):
    theta, naive, ours, _ = life
    with jax.enable_x64(True):
        rng, eps = np.random.default_rng(seed), 1e-6
        direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), theta)
        loss = lambda theta: naive.loss_and_slope(theta, HYPERS.regularizer)[0]  # noqa: E731
        plus, minus = (
            loss(jax.tree.map(lambda x, d: x + sign * eps * d, theta, direction))  # noqa: B023
            for sign in (1, -1)
        )
        np.testing.assert_allclose((plus - minus) / (2 * eps), dot(ours, direction), rtol=1e-6)
