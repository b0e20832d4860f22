"""Supervised and reinforcement learning on a token task, from a tiny network."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from algos import grpo, sft, token_evaluation, token_policy
from algos.objectives import OBJECTIVES
from algos.objectives.advantages import whiten
from algos.objectives.losses import maximise
from algos.prompt_weights import weigh_prompts
from purejaxrl.algorithm import Task, make_train, update
from purejaxrl.identity import is_named
from purejaxrl.parts.action_values import of_action
from purejaxrl.running.population import Rows, populate, seeds
from purejaxrl.running.runner import RunOptions, run
from tests.helpers import begin, mostly_slow

ENV, _ = envs.make("token-arithmetic", num_operands=2, num_prompts=100, held_out=20)
LEVELS = jax.tree.map(lambda x: jnp.asarray(x[:8]), ENV.levels)
SIZES = dict(num_layers=1, width=16, num_heads=2)
SFT = sft.make(sft.Config(**SIZES, batch_size=8), ENV)
CONFIG = grpo.Config(**SIZES, num_prompts=8, num_answers=8, num_minibatches=2)
GRPO = grpo.make(CONFIG, ENV)
NETWORK = token_policy.make_network(CONFIG, ENV)
RANDOM = jax.jit(lambda key: token_policy.init_params(key, NETWORK))(jax.random.key(4))


@pytest.fixture(scope="module")
def warm():
    """A policy after a few updates on solutions, and the losses."""
    train = jax.jit(make_train(SFT, 30))
    state, metrics = train(jax.random.key(0), sft.Hypers(learning_rate=1e-2), LEVELS)
    return state.params, metrics["loss"]


def pass_at_1(params):
    evaluator = token_evaluation.on_prompts(CONFIG, ENV, LEVELS, num_answers=64, k=2)
    return float(
        jax.jit(lambda p: evaluator.play(GRPO, jax.random.key(5), p, None))(params)["return"]
    )


def test_supervised_learning_makes_solutions_likely(warm):
    _, loss = warm
    assert loss[0] > 2.5
    assert loss[-1] < 0.7 * loss[0]


def test_reinforcement_raises_pass_at_1_above_the_warm_start(warm):
    start, _ = warm
    hypers = grpo.Hypers(start, OBJECTIVES["grpo"].coefs, learning_rate=3e-3)
    state, metrics = jax.jit(make_train(GRPO, 60))(jax.random.key(1), hypers, LEVELS)
    before, after = pass_at_1(start), pass_at_1(state.params)
    assert before < 0.7
    assert after > before + 0.2
    divergence = metrics["kl_to_reference"]  # of few answers: from one update to the next it jumps
    assert divergence[0] < 0.3 < divergence.max()
    assert divergence[0] < divergence[-10:].mean() - 0.05
    assert metrics["env_steps"].max() <= 8 * 8 * ENV.answer_length


@pytest.mark.parametrize("name", ["grpo", "drgrpo"])
def test_prompts_are_weighed_by_the_variance_of_their_rewards_or_its_root(warm, name):
    """Where every answer counts the same: then Σ|r − r̄| is 2 G r̄ (1 − r̄), and GRPO divides by σ."""
    start, _ = warm
    objective = OBJECTIVES[name]._replace(loss=maximise)
    config = replace(CONFIG, num_prompts=16)
    hypers = grpo.Hypers(start, objective.coefs)
    weigh = jax.jit(lambda key: weigh_prompts(key, config, ENV, objective, hypers, LEVELS))
    accuracy, weight = map(np.asarray, weigh(jax.random.key(2)))
    variance = accuracy * (1 - accuracy)
    assert len(np.unique(variance)) > 2
    std = np.sqrt(variance * 8 / 7) + 1e-6  # of eight answers
    expected = 2 * variance / 16 / (std if name == "grpo" else 1.0)
    np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", mostly_slow(OBJECTIVES, ("grpo", "spo")))
def test_a_state_keeps_its_types_under_every_objective(name):
    objective, start = OBJECTIVES[name], RANDOM
    algorithm = grpo.make(CONFIG, ENV, objective)
    hypers = grpo.Hypers(start=start, coefs=objective.coefs)
    before = jax.eval_shape(
        lambda: algorithm.init(jax.random.key(0), hypers, Task(LEVELS, jnp.int32(4)))
    )
    after, metrics = jax.eval_shape(lambda state: update(algorithm, state, hypers), before)
    old, new = (jax.tree.map(lambda x: (x.shape, x.dtype), x) for x in (before, after))
    assert old == new
    assert {"env_steps", "episodes", "return", "dead_groups"} <= metrics.keys()
    assert all(x.shape == () for x in metrics.values())
    assert all(map(is_named, algorithm.made_of))


@pytest.mark.slow
def test_a_population_sweeps_coefficients_and_shares_the_warm_start(warm, tmp_path):
    start, _ = warm
    rows = seeds(1, 3) * Rows([{"coefs.kl_coef": 0.0}, {"coefs.kl_coef": 10.0}])
    who = populate(
        rows, grpo.Hypers(start, OBJECTIVES["grpo"].coefs, 1e-2), LEVELS, shared=("start",)
    )
    options = RunOptions(str(tmp_path / "out"), chunk=4, progress=False, eval_every=8)
    evaluator = token_evaluation.on_prompts(CONFIG, ENV, LEVELS, num_answers=8, k=4)
    result = run(GRPO, who, 16, options, evaluator=evaluator)
    assert result.evaluations.columns.isin(["pass_at_4", "unique_correct", "entropy"]).sum() == 3
    late = result.metrics.groupby("member")["kl_to_reference"].last()
    assert result.alive.all()
    assert late[1] < late[0]  # the second is held near the start

    more = RunOptions(str(tmp_path / "out"), chunk=4, progress=False, eval_every=8, resume=True)
    again = run(GRPO, who, 16, more, evaluator=evaluator)
    for a, b in zip(jax.tree.leaves(again.best), jax.tree.leaves(result.best), strict=True):
        np.testing.assert_array_equal(a, b)


def collected(objective, start, **changes):
    algorithm = grpo.make(CONFIG, ENV, objective)
    hypers = grpo.Hypers(start=start, coefs=objective.coefs)
    state = begin(algorithm, hypers, Task(LEVELS, jnp.int32(4)))
    state = state._replace(**changes)
    return jax.jit(algorithm.collect)(state, hypers)[1]


@pytest.mark.slow
def test_failed_groups_get_hints_and_the_others_none():
    seen = collected(OBJECTIVES["pope"], RANDOM)
    failed = seen.answers.hint[:, 0] > 0
    assert failed.any()
    solution = LEVELS.solution[seen.answers.prompt]
    hinted = np.asarray(seen.answers.hint) > 0
    assert (hinted.sum(1)[np.asarray(failed)] == 4).all()
    first = np.asarray(seen.answers.tokens[..., 0] == solution[:, None, 0])
    assert first[hinted].all()
    assert not np.asarray(seen.answers.mask[..., 0])[hinted].any()
    assert int(seen.num_tokens) > np.asarray(seen.answers.mask).sum()


@pytest.mark.slow
def test_ghpo_shows_more_of_the_solution_until_a_group_does_not_fail():
    seen = collected(OBJECTIVES["ghpo"], RANDOM)
    hint, failed = np.asarray(seen.answers.hint), np.asarray(seen.answers.reward.sum(1) == 0)
    assert (hint == hint[:, :1]).all() and failed.any() and not failed.all()
    assert {*np.unique(hint)} <= {0, 0.25, 0.5, 0.75}
    assert (hint[failed] == 0.75).all(), "a group that still fails has seen the most"


@pytest.mark.slow
def test_a_belief_is_the_probability_of_the_solutions_rest(warm):
    start, _ = warm
    tokens = LEVELS.solution[:, None]
    found = jax.jit(lambda: token_policy.beliefs(NETWORK, start, LEVELS, tokens, ENV.pad))()
    log_probs, _ = token_policy.read_answers(NETWORK, start, LEVELS.prompt, tokens)
    picked = jnp.where(tokens != ENV.pad, of_action(log_probs, tokens), 0.0)
    rest = jnp.cumsum(picked[..., ::-1], -1)[..., ::-1]
    np.testing.assert_allclose(found[..., :-1], jnp.exp(rest), rtol=1e-4)
    np.testing.assert_array_equal(found[..., -1], 1)
    wrong = tokens.at[..., 1].set((tokens[..., 1] + 1) % 10)
    left = jax.jit(lambda: token_policy.beliefs(NETWORK, start, LEVELS, wrong, ENV.pad))()
    np.testing.assert_allclose(left[..., :2], found[..., :2], rtol=1e-4)
    np.testing.assert_array_equal(left[..., 2:], 0)


def test_coefficients_of_another_objective_are_refused():
    with pytest.raises(ValueError, match=r"Hypers.coefs: None .* objective 'grpo' needs .* Clip\("):
        make_train(GRPO, 1)(jax.random.key(0), grpo.Hypers(RANDOM), LEVELS)
    hypers = grpo.Hypers(RANDOM, OBJECTIVES["spo"].coefs)
    with pytest.raises(ValueError, match=r"Hypers.coefs: Spo\(.* is not valid; objective 'grpo'"):
        make_train(GRPO, 1)(jax.random.key(0), hypers, LEVELS)


def test_an_objective_with_groups_of_its_own_size_asks_more_prompts():
    assert CONFIG.sizes(OBJECTIVES["spo"]) == (64, 1)
    assert CONFIG.sizes(OBJECTIVES["two_grpo"]) == (32, 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grpo.Config(num_prompts=0), "Config.num_prompts: 0 is not valid"),
        (lambda: grpo.Config(num_minibatches=3), "Config.num_minibatches: 3 is not valid"),
        (
            lambda: grpo.make(grpo.Config(num_answers=1), ENV),
            "num_answers: 1 is not valid; grpo needs an integer >= 2",
        ),
        (
            lambda: grpo.make(
                grpo.Config(num_prompts=4, num_answers=3, num_minibatches=4),
                ENV,
                OBJECTIVES["two_grpo"],
            ),
            r"two_grpo is not valid; it has groups of 2, .* = 12 must be a multiple of .* 2 = 8",
        ),
        (lambda: sft.Config(batch_size=0), "Config.batch_size: 0 is not valid"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_start_of_another_network_is_refused():
    larger = token_policy.make_network(replace(CONFIG, num_layers=2), ENV)
    start = token_policy.init_params(jax.random.key(0), larger)
    for wrong in (start, None):
        with pytest.raises(ValueError, match=r"Hypers.start: .* is not valid; .* such as sft.py"):
            begin(GRPO, grpo.Hypers(wrong, OBJECTIVES["grpo"].coefs), Task(LEVELS, jnp.int32(4)))


def test_a_token_of_probability_zero_is_never_drawn():
    log_probs = jnp.log(jnp.array([0.0, 0.25, 0.0, 0.75, 0.0]))
    draws = jnp.array([0.0, 0.2499, 0.2501, 1 - 2**-24])
    found = jax.vmap(token_policy.sample_token, (None, 0))(log_probs, draws)
    assert found.tolist() == [1, 1, 3, 3]


def test_values_are_whitened_and_a_single_one_becomes_zero():
    np.testing.assert_allclose(whiten(jnp.array([1.0, 3.0])), [-(0.5**0.5), 0.5**0.5], rtol=1e-4)
    assert whiten(jnp.array([7.0])).tolist() == [0.0]


def test_evaluations_on_other_prompts_have_other_names():
    first, second = (jax.tree.map(lambda x, i=i: x[i : i + 2], LEVELS) for i in (0, 2))
    names = [token_evaluation.on_prompts(CONFIG, ENV, x).name for x in (first, first, second)]
    assert names[0] == names[1] != names[2]
