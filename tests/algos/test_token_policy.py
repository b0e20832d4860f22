import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import grpo, sft, token_evaluation, token_policy
from algos.objectives import OBJECTIVES
from algos.token_policy import NetworkConfig
from envs.token_tasks import TokenTask
from purejaxrl.parts.action_values import of_action

ENV, _ = envs.make("token-arithmetic", num_operands=2, num_prompts=100, held_out=20)
NETWORK = token_policy.make_network(NetworkConfig(width=8, num_heads=2), ENV)
PARAMS = jax.jit(lambda key: token_policy.init_params(key, NETWORK))(jax.random.key(0))
LEVELS = jax.tree.map(lambda x: jnp.asarray(x[:5]), ENV.levels)
NUM = 6


@jax.jit
def answers(num_shown=0):
    return token_policy.answer(jax.random.key(1), NETWORK, PARAMS, LEVELS, NUM, ENV, num_shown)


read = jax.jit(
    lambda params, tokens: token_policy.read_answers(NETWORK, params, LEVELS.prompt, tokens)
)


def test_answers_end_with_their_first_end_token_and_padding_follows():
    seen = answers()
    assert seen.tokens.shape == (5, NUM, ENV.answer_length)
    for tokens, mask in zip(seen.tokens.reshape(-1, 3), seen.mask.reshape(-1, 3), strict=True):
        ends = np.flatnonzero(tokens == ENV.end)
        length = ends[0] + 1 if len(ends) else 3
        assert mask.tolist() == [i < length for i in range(3)]
        assert (tokens[length:] == ENV.pad).all() and (tokens[:length] != ENV.pad).all()


def test_generation_and_reading_agree():
    seen = answers()
    log_probs, value = read(PARAMS, seen.tokens)
    picked = of_action(log_probs, seen.tokens)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
    for found, expected in ((seen.log_prob, picked), (seen.entropy, entropy), (seen.value, value)):
        np.testing.assert_allclose(found, jnp.where(seen.mask, expected, 0.0), atol=1e-5)


def test_tokens_are_sampled_from_the_policy():
    many = jax.jit(
        lambda: token_policy.answer(jax.random.key(2), NETWORK, PARAMS, LEVELS, 4000, ENV)
    )()
    log_probs, _ = read(PARAMS, many.tokens[:, :1])
    first = jax.nn.one_hot(many.tokens[..., 0], ENV.vocabulary).mean(1)
    np.testing.assert_allclose(first, jnp.exp(log_probs[:, 0, 0]), atol=0.04)
    assert first[:, ENV.pad].max() == 0


def test_shown_tokens_are_the_solutions_and_are_not_learned_from():
    shown = jnp.array([0, 1, 1, 0, 0, 0])
    seen = answers(jnp.broadcast_to(shown, (5, NUM)))
    solution = jnp.broadcast_to(LEVELS.solution[:, None, 0], (5, NUM))
    is_shown = jnp.broadcast_to(shown > 0, (5, NUM))
    assert (seen.tokens[..., 0] == solution)[is_shown].all()
    np.testing.assert_array_equal(seen.mask[..., 0], ~is_shown)
    assert seen.mask[..., 1].all(where=is_shown)


def test_what_follows_the_end_has_no_gradient():
    tokens = jnp.broadcast_to(LEVELS.solution[:, None], (5, 1, ENV.answer_length))
    mask = tokens != ENV.pad
    assert not mask.all()

    def loss(params, tokens):
        log_probs, _ = token_policy.read_answers(NETWORK, params, LEVELS.prompt, tokens)
        return jnp.where(mask, of_action(log_probs, tokens), 0.0).sum()

    grad = jax.jit(jax.grad(loss))
    other = jnp.where(mask, tokens, 3)  # anything else after the end
    for a, b in zip(*(jax.tree.leaves(grad(PARAMS, x)) for x in (tokens, other)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_acts_in_the_environment_as_it_answers():
    act, memory = token_policy.act_by(NETWORK, ENV)
    level = jax.tree.map(lambda x: x[0], LEVELS)
    solution = [4, 7, ENV.end]
    observe = jax.jit(ENV.observe)
    obs, state = ENV.reset_env(jax.random.key(0), level)
    carried, first, greedy = memory(1), jnp.ones(1, bool), []
    step = jax.jit(lambda *x: act(*x, True))
    for token in solution:
        action, carried = step(PARAMS, carried, obs[None], first, jax.random.key(0))
        greedy.append(int(action[0]))
        state = state.replace(tokens=state.tokens.at[state.time].set(token), time=state.time + 1)
        obs = observe(state, level)
        first = jnp.zeros(1, bool)
    tokens = jnp.broadcast_to(jnp.array(solution), (5, 1, 3))
    log_probs, _ = read(PARAMS, tokens)
    assert greedy == log_probs[0, 0].argmax(-1).tolist()


def test_pass_at_k_is_the_mean_over_all_choices_of_k_answers():
    correct = [1, 0, 0, 1, 0, 0]
    for k in (1, 2, 3, 6):
        expected = np.mean([any(x) for x in itertools.combinations(correct, k)])
        assert float(token_evaluation.pass_at(k, jnp.array(2.0), 6)) == pytest.approx(expected)
    assert float(token_evaluation.pass_at(3, jnp.array(0.0), 6)) == 0


def test_unique_answers_are_counted_once_if_they_count():
    tokens = jnp.array([[1, 2], [1, 2], [3, 4], [5, 6], [3, 4]])
    counts = jnp.array([False, True, True, False, True])
    assert int(token_evaluation.count_unique(tokens, counts)) == 2


def test_k_above_the_samples_is_refused():
    with pytest.raises(ValueError, match="k: 17 is not valid; it must be an integer from 1 to 16"):
        token_evaluation.on_prompts(NetworkConfig(), ENV, ENV.held_out, num_answers=16, k=17)


def test_a_task_needs_an_end_token_and_a_verifier():
    class Endless(type(ENV)):
        end = -1

    with pytest.raises(ValueError, match="env.end: -1 is not valid; answers need an end token"):
        token_policy.make_network(NetworkConfig(), Endless(ENV.kind, 20))
    with pytest.raises(ValueError, match="env: .* is not valid; it must be a token task"):
        token_policy.make_network(NetworkConfig(), envs.make("CartPole-v1")[0])


@dataclass(frozen=True)
class Unsolved(type(ENV.kind)):
    """Calculations, one of whose prompts has no reference solution."""

    def prompts(self, rng):
        listed = super().prompts(rng)
        listed[-1] = [listed[-1][0]._replace(solution="", steps=())]
        return listed


def test_a_missing_reference_solution_is_named_where_one_is_needed():
    env = TokenTask(Unsolved(num_operands=2, num_prompts=40), held_out=20)
    last = len(env.levels.index) - 1
    grpo.make(grpo.Config(), env)  # does not need one
    for make in (
        lambda: sft.make(sft.Config(), env),
        lambda: grpo.make(grpo.Config(), env, OBJECTIVES["ghpo"]),
        lambda: grpo.make(grpo.Config(), env, OBJECTIVES["igpo"]),
    ):
        message = f"env.levels.solution: prompt {last} has none.* needs a reference solution"
        with pytest.raises(ValueError, match=message):
            make()


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="NetworkConfig.num_heads: 3 is not valid"):
        NetworkConfig(num_heads=3)
