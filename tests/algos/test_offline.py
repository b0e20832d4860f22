"""Offline algorithms: losses by hand, the optimum of a grid-world, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from scipy import optimize

import envs
from algos import bc, iql, rebrac, td3_bc
from envs.optimum import optimal_returns
from purejaxrl.algorithm import Task, make_train, update
from purejaxrl.offline.record import record
from purejaxrl.parts import networks
from purejaxrl.parts.dataset import Dataset
from purejaxrl.parts.policies import Fitted
from purejaxrl.parts.rollout import uniform
from purejaxrl.parts.transitions import Step
from purejaxrl.parts.wrappers import for_network
from purejaxrl.running.evaluate import evaluate_members
from tests.algos.chain import Chain
from tests.helpers import assert_equal, begin

PENDULUM, LEVEL = envs.make("Pendulum-v1")
PENDULUM = for_network(PENDULUM)
SIZES = dict(batch_size=32, hidden=(8,))


def recorded(size=64, action=None, seed=0):
    """Random steps of Pendulum's shapes, in episodes of eight; every other one is terminated."""
    obs_key, action_key, reward_key = jax.random.split(jax.random.key(seed), 3)
    obs = jax.random.normal(obs_key, (size + 1, 3))
    if action is None:
        action = jax.random.uniform(action_key, (size, 1), minval=-1, maxval=1)
    last = jnp.arange(size) % 8 == 7
    odd = jnp.arange(size) // 8 % 2 == 1
    reward = jax.random.normal(reward_key, (size,))
    return Dataset(Step(obs[:-1], action, reward, last & odd, last & ~odd, obs[1:]))


def started(module, hypers, **config):
    agent = module.make(module.Config(**SIZES, **config), PENDULUM)
    return agent, begin(agent, hypers, Task(LEVEL, jnp.int32(100)))


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_loss_finds_the_expectile(expectile):
    """Of x, it is the m with τ E (x - m)⁺ = (1 - τ) E (m - x)⁺."""
    x = np.random.default_rng(0).normal(size=999)
    loss = lambda m: float(iql.expectile_loss(jnp.asarray(x - m), expectile).mean())  # noqa: E731
    found = optimize.minimize_scalar(loss, bounds=(-3, 3), method="bounded").x
    above, below = np.maximum(x - found, 0).mean(), np.maximum(found - x, 0).mean()
    assert expectile * above == pytest.approx((1 - expectile) * below, rel=1e-2)


def test_actions_are_weighted_by_the_exponential_of_their_advantage():
    weight = iql.imitation_weight(jnp.array([-1.0, 0.0, 1.0, 9.0]), 2.0)
    np.testing.assert_allclose(weight, [np.exp(-2), 1, np.exp(2), 100], rtol=1e-6)


def test_td3_bc_without_values_is_behaviour_cloning():
    """The gradients of both policies' losses are parallel, and equal up to the number of dims."""
    dataset = recorded()
    cloning, cloned = started(bc, bc.Hypers(dataset))
    agent, state = started(td3_bc, td3_bc.Hypers(dataset, alpha=0.0), policy_delay=1)
    params = state.params.actor
    batch = dataset.read(jnp.arange(32), 0.99)
    obs = (batch.obs - cloned.moments.mean) / np.sqrt(cloned.moments.var)

    def loss(params):
        action = agent.act(Fitted(params, None), (), obs, None, None, True)[0]
        inputs = td3_bc.ActorInputs(action, batch.action, jnp.ones((2, 32)))
        return td3_bc.imitate(inputs, td3_bc.Hypers(alpha=0.0))

    def likelihood(params):
        action = cloning.act(Fitted(params, None), (), obs, None, None, True)[0]
        return 0.5 * ((action - batch.action) ** 2).sum(-1).mean()

    for a, b in zip(
        jax.tree.leaves(jax.grad(loss)(params)), jax.tree.leaves(jax.grad(likelihood)(params)),
        strict=True,
    ):  # fmt: skip
        np.testing.assert_allclose(a, 2 * b, rtol=1e-4, atol=1e-6)


def test_the_policy_of_td3_bc_weighs_values_by_their_size():
    q = jnp.array([[1.0, -3.0], [9.0, 9.0]])
    x = td3_bc.ActorInputs(jnp.array([[0.5], [0.5]]), jnp.array([[0.0], [1.0]]), q)
    expected = -(2.5 / 2) * (-1) + 0.25
    assert float(td3_bc.imitate(x, td3_bc.Hypers())) == pytest.approx(expected, rel=1e-5)


def test_rebrac_charges_both_policy_and_critics():
    action, data = jnp.array([[0.5, 0.0], [0.0, 0.0]]), jnp.array([[0.0, 1.0], [0.0, 2.0]])
    hypers = rebrac.Hypers(actor_penalty=2.0, critic_penalty=3.0)
    following = td3_bc.Following(action, data, jnp.array([True, False]))
    np.testing.assert_allclose(rebrac.penalty(following, hypers), [3 * 1.25, 0])
    q = jnp.array([[1.0, 5.0], [2.0, -3.0]])
    loss = rebrac.imitate(td3_bc.ActorInputs(action, data, q), hypers)
    assert float(loss) == pytest.approx(-(1 - 3) / 2 / 2 + 2 * (1.25 + 4) / 2)


@pytest.mark.parametrize("delay", [1, 3])
def test_the_policy_and_the_targets_move_once_in_a_delay(delay):
    hypers = td3_bc.Hypers(recorded(), actor_rate=0.0, critic_rate=0.0, target_rate=0.1)
    agent, state = started(td3_bc, hypers, policy_delay=delay)
    state = state._replace(target_params=jax.tree.map(jnp.zeros_like, state.target_params))
    after, _ = jax.jit(lambda state: update(agent, state, hypers))(state)
    assert int(after.opt_state.critic[0].count) == delay
    assert int(after.opt_state.actor[0].count) == 1
    now, params = map(jax.tree.leaves, (after.target_params, state.params))
    for target, learned in zip(now, params, strict=True):
        np.testing.assert_allclose(target, 0.1 * learned, rtol=1e-5, atol=1e-7)


def test_a_penalty_is_taken_off_the_targets():
    """With critics that are zero, the targets are the rewards minus the discounted penalty."""
    dataset = Dataset(recorded().steps._replace(reward=jnp.ones(64)))
    hypers = rebrac.Hypers(dataset, critic_penalty=0.0, critic_rate=0.0)
    agent, state = started(rebrac, hypers)
    zero = jax.tree.map(jnp.zeros_like, state.params.critic)
    state = state._replace(params=state.params._replace(critic=zero))
    state = state._replace(target_params=state.target_params._replace(critic=zero))
    loss = lambda hypers: float(update(agent, state, hypers)[1]["critic_loss"])  # noqa: E731
    assert loss(hypers) == pytest.approx(1.0, rel=1e-5)
    assert loss(hypers.replace(critic_penalty=0.1)) < 0.98
    assert loss(hypers.replace(critic_penalty=1e3)) > 100


def test_the_penalty_of_a_target_is_the_distance_from_the_next_action_discounted():
    """Episodes of two steps, 0.2 then 0.6; only first steps are drawn, and the policy says 0."""
    steps, first = recorded().steps, jnp.arange(64) % 2 == 0
    steps = steps._replace(
        action=jnp.where(first, 0.2, 0.6)[:, None], reward=jnp.ones(64),
        terminated=~first, truncated=jnp.zeros(64, bool),
    )  # fmt: skip
    dataset = Dataset.weighted(steps, np.asarray(first, np.float64))
    hypers = rebrac.Hypers(dataset, critic_penalty=0.5, critic_rate=0.0, target_noise=0.0)
    agent, state = started(rebrac, hypers)
    zero = jax.tree.map(jnp.zeros_like, state.params)
    state = state._replace(params=zero, target_params=state.target_params._replace(
        actor=zero.actor, critic=zero.critic))  # fmt: skip
    loss = float(update(agent, state, hypers)[1]["critic_loss"])
    assert loss == pytest.approx((1 - 0.99 * 0.5 * 0.6**2) ** 2, rel=1e-5)


def test_acting_and_likelihood_read_standardised_observations():
    steps = recorded().steps
    steps = steps._replace(obs=5 + 3 * steps.obs, next_obs=5 + 3 * steps.next_obs)
    agent, state = started(td3_bc, td3_bc.Hypers(Dataset(steps)))
    action, _ = agent.act(agent.policy(state), (), steps.obs, None, None, True)
    raw = steps._replace(obs=(steps.obs - steps.obs.mean(0)) / steps.obs.std(0))
    assert np.abs(action).max() < 1 and np.std(action) > 0
    same, standard = started(td3_bc, td3_bc.Hypers(Dataset(raw)))
    standard = standard._replace(params=state.params)
    expected, _ = same.act(same.policy(standard), (), raw.obs, None, None, True)
    np.testing.assert_allclose(action, expected, rtol=1e-3, atol=1e-4)
    found, expected = agent.log_prob(state, steps)[0], same.log_prob(standard, raw)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert np.abs(found - same.log_prob(standard, steps)[0]).max() > 1e-2


@pytest.mark.parametrize(
    ("module", "hypers"),
    [
        (bc, dict(learning_rate=1e-2)),
        (td3_bc, dict(actor_rate=1e-2, alpha=0.01)),
        (iql, dict(learning_rate=1e-2)),
        (rebrac, dict(actor_rate=1e-2, actor_penalty=100.0)),
    ],
)
def test_it_imitates_a_dataset_of_one_action(module, hypers):
    """All actions are 0.6, the rewards say nothing, and values weigh little."""
    steps = recorded(action=jnp.full((64, 1), 0.6)).steps._replace(reward=jnp.zeros(64))
    hypers = module.Hypers(Dataset(steps), **hypers)
    agent = module.make(module.Config(**SIZES), PENDULUM)
    state, _ = jax.jit(make_train(agent, 300))(jax.random.key(0), hypers, LEVEL)
    action, _ = agent.act(agent.policy(state), (), steps.obs, None, None, True)
    assert np.abs(action - 0.6).mean() < 0.1


def test_iql_finds_the_better_actions_of_a_table():
    """In every state of a chain, action 1 earns 1 and action 0 nothing; both are in the data."""
    obs, action = jnp.tile(jnp.arange(2), 32), jnp.repeat(jnp.arange(2), 32)
    last = obs == 1
    steps = Step(obs, action, action.astype(jnp.float32), last, jnp.zeros(64, bool), obs + 1)
    agent = iql.make(iql.Config(batch_size=32), Chain())
    hypers = iql.Hypers(Dataset(steps), learning_rate=0.03, expectile=0.9, target_rate=0.1)
    state, _ = jax.jit(make_train(agent, 600))(jax.random.key(0), hypers, None)
    policy = agent.policy(state)
    assert agent.act(policy, (), jnp.arange(2), None, None, True)[0].tolist() == [1, 1]
    value = state.params.value["params"]["rows"][:2, 0]
    np.testing.assert_allclose(value, [1 + 0.99, 1], atol=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("gridworld-small", 0.95), ("chain-short", 1.0)])
def test_iql_finds_the_optimum_in_random_steps_that_cover_everything(name, share):
    env, level = envs.make(name)
    env = for_network(env, tables=True)
    act, sizes = uniform(env), dict(num_steps=3000, num_envs=10)
    dataset = jax.jit(lambda key: record(key, env, level, act, **sizes))(jax.random.key(0))
    agent = iql.make(iql.Config(), env)
    hypers = iql.Hypers(dataset, learning_rate=0.01, expectile=0.9, beta=10.0, target_rate=0.02)
    state, _ = jax.jit(make_train(agent, 5000))(jax.random.key(0), hypers, level)
    members = jax.tree.map(lambda x: x[None], state)
    played = evaluate_members(agent, env, jax.random.key(1), members, level, num_episodes=512)
    best = optimal_returns(env, jax.tree.map(lambda x: jnp.asarray(x)[None], level))[0]
    assert played.ret.mean() >= share * best - 1e-6


class Swamp:
    """A walk on [-1, 1], as an offline algorithm needs to know it: pay in the middle, earn beyond.

    Who only looks one step ahead stays on the left.
    """

    default_params = None

    def observation_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

    @staticmethod
    def move(x, action):
        """Return the next place and the reward."""
        x = np.clip(x + 0.25 * action, -1, 1)
        return x, 1.0 * (x > 0.75) - 0.3 * (np.abs(x) < 0.25)

    @classmethod
    def recorded(cls, num_episodes=400, length=20):
        """Episodes of random actions."""
        rng = np.random.default_rng(0)
        x, steps = rng.uniform(-1, 1, num_episodes), []
        for t in range(length):
            action = rng.uniform(-1, 1, num_episodes)
            after, reward = cls.move(x, action)
            never, last = np.zeros(num_episodes, bool), np.full(num_episodes, t == length - 1)
            steps.append((x[:, None], action[:, None], reward, never, last, after[:, None]))
            x = after
        by_episode = [np.stack(part, 1) for part in zip(*steps, strict=True)]
        flat = [jnp.asarray(x.reshape(-1, *x.shape[2:])) for x in by_episode]
        return Dataset(Step(*flat))

    @classmethod
    def ret(cls, act):
        """Return what a policy earns in 20 steps from everywhere, `[41]`."""
        x, total = np.linspace(-1, 1, 41), 0.0
        for _ in range(20):
            x, reward = cls.move(x, act(x))
            total += reward
        return total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "share", "hypers"),
    [
        (iql, 0.95, dict(learning_rate=1e-3, expectile=0.95, beta=30.0, target_rate=0.02)),
        (td3_bc, 0.97, dict(actor_rate=1e-3, critic_rate=1e-3, alpha=200.0, target_rate=0.02)),
        (rebrac, 0.97, dict(target_rate=0.02)),
    ],
)
def test_continuous_actions_find_the_optimum_where_data_cover_everything(module, share, hypers):
    """IQL's policy is the mean of all actions that are better than most, here 0.8 in place of 1."""
    agent = module.make(module.Config(hidden=(64, 64)), Swamp())
    hypers = module.Hypers(Swamp.recorded(), gamma=0.95, **hypers)
    state, _ = jax.jit(make_train(agent, 4000))(jax.random.key(0), hypers, None)
    policy = agent.policy(state)
    act = jax.jit(lambda x: agent.act(policy, (), x[:, None], None, None, True)[0][:, 0])
    best = Swamp.ret(np.ones_like).mean()
    assert share * best < Swamp.ret(lambda x: np.asarray(act(x))).mean() <= best
    assert Swamp.ret(np.zeros_like).mean() < 0.4 * best


def test_the_step_size_of_iqls_policy_falls_to_zero():
    """At the end of life the policy stands still, and the values do not."""
    hypers = iql.Hypers(recorded())
    agent, state = started(iql, hypers)
    after, _ = update(agent, state._replace(step=state.task.horizon), hypers)
    assert_equal(after.params.policy, state.params.policy)
    moved = jax.tree.map(lambda a, b: (a != b).any(), after.params.value, state.params.value)
    assert any(jax.tree.leaves(moved))


@pytest.mark.parametrize("module", [td3_bc, rebrac])
def test_discrete_actions_are_refused(module):
    with pytest.raises(ValueError, match=r"action_space: Discrete\(2\) is not valid"):
        module.make(module.Config(), envs.make("CartPole-v1")[0])


def test_layers_of_another_torso_cannot_be_normalised():
    torso = networks.MLP((8,))
    td3_bc.make(td3_bc.Config(), PENDULUM, torso)
    with pytest.raises(ValueError, match="critic_norm: True is not valid; .* a torso is given"):
        rebrac.make(rebrac.Config(), PENDULUM, torso)


@pytest.mark.parametrize("field", ["batch_size", "policy_delay"])
def test_bad_sizes_are_named(field):
    with pytest.raises(ValueError, match=f"Config.{field}: 0 is not valid"):
        td3_bc.Config(**{field: 0})


def test_a_member_is_itself_alone_and_among_others():
    dataset = recorded()
    agent = iql.make(iql.Config(**SIZES), PENDULUM)
    run = make_train(agent, 3)
    keys = jax.random.split(jax.random.key(0), 2)
    many, _ = jax.jit(jax.vmap(lambda key: run(key, iql.Hypers(dataset), LEVEL)))(keys)
    for i in range(2):
        one, _ = jax.jit(run)(keys[i], iql.Hypers(dataset), LEVEL)
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(many.params), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-4, atol=1e-6)
