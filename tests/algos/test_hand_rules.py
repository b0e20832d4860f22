"""Rules made by hand, against A2C's advantages and closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos import a2c, hand_rules, lpg
from algos.lpg_rule import RuleInputs, Target
from envs.random_mdp import RandomMDP
from purejaxrl.algorithm import Task, make_train
from purejaxrl.parts import networks
from purejaxrl.parts.rollout import estimate_values
from purejaxrl.validation import check_hypers
from tests.helpers import begin

RULE, BINS, GAMMA = hand_rules.ActorCritic(), 16, 0.9
SETTINGS = hand_rules.Settings(gae_lambda=0.8)


def predict(value):
    """A prediction whose value is exact: two neighbouring categories share the probability."""
    z, x = np.asarray(RULE.values(BINS)), np.sign(value) * np.log1p(np.abs(value))
    place = (x - z[0]) / (z[1] - z[0])
    return jnp.asarray(np.maximum(0, 1 - abs(place[..., None] - np.arange(BINS))), jnp.float32)


@pytest.fixture(scope="module")
def experience():
    """A rollout of A2C with ends of both kinds, and what its critic says of it."""
    env = RandomMDP(num_states=8)
    level = env.sample_level(jax.random.key(1)).replace(max_steps_in_episode=jnp.int32(4))
    level = level.replace(terminate_prob=jnp.full_like(level.terminate_prob, 0.2))
    agent = a2c.make(a2c.Config(num_envs=8, num_steps=12), env)
    hypers = a2c.Hypers(gamma=GAMMA)
    state = begin(agent, hypers, Task(level, jnp.int32(1)))
    rng = np.random.default_rng(0)
    draw = lambda x: jnp.asarray(3 * rng.normal(size=x.shape), x.dtype)  # noqa: E731
    state = state._replace(params=jax.tree.map(draw, state.params))
    state, found = agent.collect(state, hypers)
    seen, critic = found.transitions, networks.readout(env.observation_space(), None, 1)
    value, next_value, last_value = (
        critic.apply(state.params.critic, obs)[..., 0]
        for obs in (seen.obs, seen.final_obs, state.interaction.obs)
    )
    assert seen.terminated.any() and seen.truncated.any() and abs(value).max() > 2
    return seen, value, next_value, last_value


def inputs(seen, value, next_value, _=None):
    alive = 1.0 - seen.terminated[..., None]
    return RuleInputs(
        reward=seen.reward,
        terminated=1.0 * seen.terminated,
        done=seen.terminated | seen.truncated,
        gamma=jnp.float32(GAMMA),
        prob=jnp.full(seen.reward.shape, 0.2),
        prediction=predict(value),
        next_prediction=alive * predict(next_value),
    )


def naive_advantages(seen, value, next_value, gae_lambda):
    """Generalised advantages, one environment and step after the other."""
    out = np.zeros(seen.reward.shape)
    for b in range(out.shape[1]):
        after = 0.0
        for t in reversed(range(out.shape[0])):
            bootstrap = 0.0 if seen.terminated[t, b] else next_value[t, b]
            delta = seen.reward[t, b] + GAMMA * bootstrap - value[t, b]
            cut = seen.terminated[t, b] or seen.truncated[t, b]
            after = delta + GAMMA * gae_lambda * (0.0 if cut else after)
            out[t, b] = after
    return out


@pytest.mark.slow
def test_where_the_prediction_is_exact_its_advantages_are_a2cs(experience):
    seen, value, next_value, last_value = experience
    advantage = hand_rules.symexp(RULE.apply(SETTINGS, inputs(*experience)).pi)
    a2cs = estimate_values(seen, value, last_value, GAMMA, 0.8).advantage  # as in its `learn`
    np.testing.assert_allclose(advantage, a2cs, rtol=1e-4, atol=1e-4)
    naive = naive_advantages(seen, value, next_value, 0.8)
    np.testing.assert_allclose(advantage, naive, rtol=1e-4, atol=1e-4)


def test_the_target_of_the_prediction_has_the_return_as_its_value(experience):
    seen, value, next_value, _ = experience
    found = RULE.apply(SETTINGS, inputs(*experience))
    returns = naive_advantages(seen, value, next_value, 0.8) + value
    inside = abs(returns) < 15  # near the largest value a Gaussian is cut off
    got = RULE.value(jnp.exp(found.log_y))
    np.testing.assert_allclose(got[inside], returns[inside], rtol=0.02, atol=0.02)


def test_pooled_targets_have_the_mean_symlog_return_as_their_value():
    """KL(y ‖ ŷ), averaged over targets, is least at the normalised mean of their logarithms."""
    returns = jnp.array([1.0, 2.0, 6.0])
    z = RULE.values(BINS)
    log_y = jax.nn.log_softmax(
        -0.5 * ((z - hand_rules.symlog(returns)[:, None]) / (z[1] - z[0]) / 0.75) ** 2
    )
    pooled = jax.nn.softmax(log_y.mean(0))
    expected = hand_rules.symexp(hand_rules.symlog(returns).mean())
    np.testing.assert_allclose(RULE.value(pooled), expected, rtol=1e-2)


def test_the_entropy_bonus_is_the_gradient_of_the_entropy_and_falls_with_age(experience):
    x = inputs(*experience)._replace(reward=jnp.zeros_like(experience[0].reward))
    flat = x._replace(prediction=0 * x.prediction, next_prediction=0 * x.next_prediction)
    settings = hand_rules.Settings(entropy_coef=0.1, entropy_decay=0.5)
    for age, beta in ((0.0, 0.1), (1.0, 0.05)):
        found = RULE.apply(settings, flat._replace(age=jnp.float32(age)))
        np.testing.assert_allclose(found.pi, -beta * np.log(0.2), rtol=1e-5)


def test_negative_advantages_can_weigh_less(experience):
    x = inputs(*experience)
    plain = RULE.apply(SETTINGS, x).pi
    found = RULE.apply(SETTINGS.replace(negative=0.5, prob_power=1.0), x).pi
    np.testing.assert_allclose(found, np.where(plain < 0, 0.5 * 0.2 * plain, plain), rtol=1e-5)
    assert (plain < 0).any() and (plain > 0).any()


def test_a_step_cost_makes_states_where_nothing_is_earned_worth_less_than_new_ones(experience):
    """Without rewards, V = -cost / (1 - γ), while the value of a new table's states is 0."""
    cost, x = 0.02, inputs(*experience)
    never = jnp.zeros_like(x.terminated)
    new = jnp.full_like(x.prediction, 1 / BINS)
    x = x._replace(
        reward=never, terminated=never, done=never > 0, gamma=jnp.float32(0.9),
        prediction=new, next_prediction=new,
    )  # fmt: skip
    apply = jax.jit(partial(RULE.apply, SETTINGS.replace(step_cost=cost)))
    for _ in range(60):
        known = jnp.exp(apply(x).log_y)
        x = x._replace(prediction=known, next_prediction=known)
    np.testing.assert_allclose(RULE.value(known), -cost / 0.1, rtol=0.02)
    assert (apply(x._replace(next_prediction=new)).pi > 0.01).all()


def test_a_step_cost_does_not_change_which_action_is_best(experience):
    """It lowers all values by cost / (1 - γ), and no advantage, not even where episodes end."""
    seen, value, next_value, _ = experience
    cost = 0.3
    saved = cost / (1 - GAMMA)
    plain, _ = RULE.estimate(SETTINGS, inputs(*experience))
    lower = inputs(seen, value - saved, next_value - saved)
    found, _ = RULE.estimate(SETTINGS.replace(step_cost=cost), lower)
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-4)


def test_a_step_cost_is_finite_without_a_discount(experience):
    x = inputs(*experience)._replace(gamma=jnp.float32(1))
    for cost in (0.0, 0.02):
        assert jnp.isfinite(RULE.apply(SETTINGS.replace(step_cost=cost), x).pi).all()


def test_advantages_can_be_divided_by_their_root_mean_square(experience):
    x = inputs(*experience)
    plain = RULE.apply(SETTINGS, x).pi
    for power in (0.5, 1.0):
        found = RULE.apply(SETTINGS.replace(scale_power=power), x).pi
        expected = plain / np.sqrt((plain**2).mean()) ** power
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_settings_without_bounds_start_at_usual_values_and_stay_within_bounds():
    start = hand_rules.Unbounded(*jnp.zeros(len(hand_rules.Unbounded._fields)))
    found = start.settings()
    assert abs(found.gae_lambda - 0.95) < 0.01 and found.target_width == 0.75
    for sign in (-20.0, 20.0):
        extreme = jax.tree.map(lambda x: x + sign, start).settings()  # noqa: B023
        check_hypers(extreme)


@pytest.mark.slow
def test_agents_learn_by_hand_made_rules():
    env = RandomMDP(num_states=8, kinds=("dense",))
    level = env.sample_level(jax.random.key(0)).replace(max_steps_in_episode=jnp.int32(20))
    config = lpg.Config(num_envs=8, num_steps=10, num_predictions=BINS)
    for rule, params in ((RULE, hand_rules.Settings()), (hand_rules.Reinforce(), None)):
        hypers = lpg.Hypers(rule=params, learning_rate=0.05)
        train = jax.jit(make_train(lpg.make(config, env, rule), 120))
        _, metrics = train(jax.random.key(0), hypers, level)
        gained = metrics["return"] - env.optimal_return(level)  # at most 0
        assert np.nanmean(gained[-20:]) > 0.5 * np.nanmean(gained[:10])


def test_a_prediction_of_one_number_cannot_hold_a_distribution():
    with pytest.raises(ValueError, match="num_predictions: 1 is not valid; .* integer >= 2"):
        hand_rules.ActorCritic().values(1)


MISTAKES = {
    "a tuple": (lambda x: (x.reward, x.prediction), "it returned a tuple; it must return a Target"),
    "one number": (
        lambda x: Target(x.reward.mean(), x.prediction),
        r"its pi has shape \(\); it must have shape \(12, 8\)",
    ),
    "too few predictions": (
        lambda x: Target(x.reward, x.prediction[..., 1:]),
        r"its log_y has shape \(12, 8, 7\); it must have shape \(12, 8, 8\)",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_rule_returns_is_checked(mistake):
    returned, message = MISTAKES[mistake]
    rule = type("Mine", (), {"apply": lambda self, params, x: returned(x)})()
    env = RandomMDP(num_states=8)
    train = make_train(lpg.make(lpg.Config(num_envs=8, num_steps=12), env, rule), 1)
    level = env.sample_level(jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(train, jax.random.key(0), lpg.Hypers(rule=()), level)


def test_a_rule_must_be_an_instance_with_an_apply():
    with pytest.raises(ValueError, match="the class Reinforce .* must be an instance"):
        lpg.make(lpg.Config(), RandomMDP(num_states=8), hand_rules.Reinforce)
    with pytest.raises(ValueError, match=r"rule: .* is not valid; it must have `apply"):
        lpg.make(lpg.Config(), RandomMDP(num_states=8), lambda params, x: x)
