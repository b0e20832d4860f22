"""What objectives have in common, and what sets each apart."""

from functools import cache
from itertools import combinations
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.objectives import OBJECTIVES, Inputs, Policy, compute_loss, push, with_advantages
from algos.objectives.group import leave_one_out, pass_at_k
from algos.objectives.weights import log_ratio, mean_log_ratio
from tests.algos.objectives.cases import (
    REWARD,
    G,
    P,
    T,
    make_answers,
    make_inputs,
    make_policy,
    quick_jit,
)

ANSWERS, POLICY = make_answers(), make_policy()
AT_START = POLICY._replace(log_prob=ANSWERS.old_log_prob)
"""The policy that sampled: every ratio is 1."""
FAR = POLICY._replace(log_prob=POLICY.log_prob + np.where(REWARD > 0, 1.0, -1.0)[..., None])
"""A policy that has gone further than every clip, in the direction of the reward."""


def with_lengths(answers, length):
    return answers._replace(mask=np.arange(T) < np.broadcast_to(length, (P, G))[..., None])


@cache
def program(name):
    """`(coefs, x) -> pushes`, compiled once."""
    objective = OBJECTIVES[name]

    def run(coefs, x):
        x = x._replace(answers=with_advantages(objective, coefs, x))
        return push(objective, coefs, x) * x.answers.reward.size

    return quick_jit(run)


def pushes(name, answers=ANSWERS, policy=AT_START, **coefs):
    """How hard each answer is pushed up, times the number of answers."""
    coefs = OBJECTIVES[name].coefs.replace(**coefs)
    return np.asarray(program(name)(coefs, make_inputs(name, answers, policy)))


@pytest.mark.parametrize(
    ("name", "correct", "wrong"),
    [
        ("grpo", 1.5, -0.5),  # (1 − 1/4)/σ and (0 − 1/4)/σ
        ("gspo", 1.5, -0.5),
        ("drgrpo", 0.75 / T, -0.25 / T),  # no σ, and divided by the greatest length
        ("rloo", 1, -1 / 3),  # 1 − 0 and 0 − 1/3
        ("pass_at_4", 2, 0),  # (r_(1) − r_(2))/σ for the best answer alone
        ("topr", 1, -1),  # rewards of ±1 and no baseline
        ("nft", 3**0.5, -(3**0.5) / 3),  # √3 for log R, and −√3 r̄/(1 − r̄)
        ("rebel", 4, -4 / 3),  # 4 · 4/12 (4 r_i − Σ r)
        ("copg", 2, -2 / 3),  # 4 · 2/12 (4 r_i − Σ r)
    ],
)
def test_pushes_on_a_group_of_four_by_hand(name, correct, wrong):
    """r = (1, 0, 0, 0): r̄ = 1/4, σ = 1/2. Answers have one token; π = π_old = π_ref."""
    answers = with_lengths(make_answers(np.array([[1, 0, 0, 0]] * P)), 1)
    found = pushes(name, answers._replace(ref_log_prob=answers.old_log_prob))
    np.testing.assert_allclose(found, [[correct, wrong, wrong, wrong]] * P, rtol=1e-4)


def test_rloo_is_a_multiple_of_the_centred_reward():
    reward = np.random.default_rng(0).normal(size=(P, G))
    found = leave_one_out(Inputs(make_answers(reward)), None)[..., 0]
    expected = G / (G - 1) * (reward - reward.mean(1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_drgrpo_and_grpo_agree_in_direction_within_each_group():
    answers = with_lengths(ANSWERS, 3)
    pairs = zip(pushes("grpo", answers, kl_coef=0.0), pushes("drgrpo", answers), strict=True)
    for grpo, drgrpo in pairs:
        sizes = np.linalg.norm(grpo) * np.linalg.norm(drgrpo)
        np.testing.assert_allclose(grpo @ drgrpo, sizes, rtol=1e-5, atol=1e-8)


def test_only_grpo_pushes_short_answers_as_hard_as_long_ones():
    reward = np.array([[1, 0, 0, 0]] * P)
    answers = with_lengths(make_answers(reward), [3, 1, 2, 5])
    grpo, drgrpo = pushes("grpo", answers, kl_coef=0.0), pushes("drgrpo", answers)
    np.testing.assert_allclose(grpo[:, 1:], -0.5, rtol=1e-4)
    np.testing.assert_allclose(drgrpo[0, 1:], [-0.05, -0.1, -0.25], rtol=1e-4)


def test_dividing_by_the_deviation_favours_extreme_prompts():
    """Σ|push| of a group with one correct answer, over that of a group with two."""
    answers = with_lengths(make_answers(np.array([[1, 0, 0, 0], [1, 1, 0, 0]] * 2)), 3)
    for name, expected in (("grpo", 3**0.5 / 2), ("drgrpo", 3 / 4), ("nft", 3**0.5 / 2)):
        one, two = np.abs(pushes(name, answers)).sum(1)[:2]
        np.testing.assert_allclose(one / two, expected, rtol=1e-2)


@pytest.mark.parametrize("name", ["gspo", "gmpo", "sapo"])
def test_where_every_ratio_is_1_it_pushes_like_grpo(name):
    np.testing.assert_allclose(pushes(name), pushes("grpo", kl_coef=0.0), rtol=1e-4, atol=1e-6)


def test_gspos_ratio_of_a_one_token_answer_is_grpos():
    answers = with_lengths(ANSWERS, 1)
    x = make_inputs("gspo", answers, POLICY)
    np.testing.assert_allclose(mean_log_ratio(x)[..., 0], log_ratio(x)[..., 0], rtol=1e-6)
    found = pushes("gspo", answers, POLICY, clip_low=0.2, clip_high=0.2)
    np.testing.assert_allclose(found, pushes("grpo", answers, POLICY, kl_coef=0.0), rtol=1e-5)


def test_cispos_gradient_never_vanishes_and_grpos_does():
    mixed = REWARD.std(1) > 0
    assert not pushes("grpo", policy=FAR, kl_coef=0.0).any()
    assert (np.abs(pushes("cispo", policy=FAR))[mixed] > 0).all()
    capped, right = pushes("cispo", policy=FAR, ratio_max=1.0), REWARD > 0
    np.testing.assert_allclose(capped[right], pushes("cispo")[right], rtol=1e-5)


def test_topr_needs_no_ratio_for_correct_answers_and_tapers_wrong_ones():
    near, far, right = pushes("topr"), pushes("topr", policy=FAR), REWARD > 0
    np.testing.assert_allclose(near[right], far[right], rtol=1e-6)
    assert (np.abs(far[~right]) < 0.5 * np.abs(near[~right])).all()


def test_nft_on_groups_of_correct_answers_is_sft():
    answers = make_answers(np.ones_like(REWARD))
    lengths = answers.mask.sum(-1)
    sft = lengths / lengths.sum() * lengths.size  # of −log π, averaged over tokens
    for policy in (AT_START, POLICY):
        np.testing.assert_allclose(pushes("nft", answers, policy, prompt_power=0.0), sft, rtol=1e-5)
        found = pushes("nft", answers, policy)
        np.testing.assert_allclose(found / found[0, 0], sft / sft[0, 0], rtol=1e-5)


@pytest.mark.parametrize("name", ["disco", "disco_ratio", "drpo"])
def test_discriminative_objectives_ignore_groups_of_one_kind(name):
    found, mixed = pushes(name), REWARD.std(1) > 0
    assert not found[~mixed].any() and found[mixed].all()
    np.testing.assert_allclose(found[mixed].sum(1), 0, atol=1e-5)  # as much up as down


def test_dead_groups_starve_grpo_and_not_spo_or_gdpo():
    dead = REWARD.std(1) == 0
    assert not pushes("grpo", kl_coef=0.0)[dead].any()
    assert pushes("spo")[dead].all() and pushes("gdpo")[dead].all()


@pytest.mark.parametrize("k", [2, 3, 4])
def test_pass_at_k_is_the_mean_of_the_published_rule_over_subsets(k):
    objective, expected = pass_at_k(k), np.zeros((P, G))
    for row, reward in zip(expected, REWARD, strict=True):
        for chosen in combinations(range(G), k):
            best, second = sorted(chosen, key=lambda i: -reward[i])[:2]
            row[best] += (reward[best] - reward[second]) / comb(G - 1, k - 1)
    expected /= REWARD.std(1, ddof=1, keepdims=True) + 1e-6
    found = objective.advantage(Inputs(ANSWERS), objective.coefs)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


ARMS, REWARD_OF_ARM = 4, np.array([1.0, 0.0, 0.6, 0.3])
REF = np.log([0.1, 0.5, 0.15, 0.25])
EVEN, SKEWED = [0, 1, 2, 3], [1, 1, 1, 1, 0, 2, 3, 3]


def bandit(arms):
    """Answers of one token to one prompt: the arms that some policy pulled."""
    arms = np.array(arms)
    of_arms = lambda values: np.asarray(values, np.float32)[arms].reshape(1, -1, 1)  # noqa: E731
    zeros = np.zeros((1, len(arms), 1), np.float32)
    old = np.log(np.bincount(arms, minlength=ARMS) / len(arms))
    return ANSWERS._replace(
        tokens=arms.reshape(1, -1, 1), mask=zeros == 0, old_log_prob=of_arms(old),
        ref_log_prob=of_arms(REF), reward=of_arms(REWARD_OF_ARM)[..., 0], prompt=PROMPT_0,
    )  # fmt: skip


PROMPT_0 = np.zeros(1, np.int32)


def learned_policy(name, arms, **coefs):
    """Descend the loss of a softmax over arms, always on the same answers."""
    objective, answers = OBJECTIVES[name], bandit(arms)
    coefs = objective.coefs.replace(**coefs)
    answers = with_advantages(objective, coefs, Inputs(answers))

    def loss(logits):
        log_prob = jax.nn.log_softmax(logits)[answers.tokens]
        policy = Policy(log_prob, jnp.zeros((*log_prob.shape, ARMS)))
        return compute_loss(objective, coefs, Inputs(answers, policy=policy))[0]

    def descend(logits, _):
        return logits - 0.5 * jax.grad(loss)(logits), None

    logits, _ = jax.jit(lambda: jax.lax.scan(descend, jnp.zeros(ARMS), length=3000))()
    return np.asarray(jax.nn.softmax(logits))


@pytest.mark.parametrize("arms", [EVEN, SKEWED])
def test_copg_finds_the_regularised_optimum_from_any_sampling_distribution(arms):
    best = np.exp(REF + REWARD_OF_ARM / 0.5)
    np.testing.assert_allclose(learned_policy("copg", arms, beta=0.5), best / best.sum(), atol=2e-3)


def test_a_policy_gradient_on_the_same_answers_collapses_onto_the_best():
    assert learned_policy("rloo", SKEWED)[0] > 0.99


def test_coefficients_can_be_vmapped():
    objective = OBJECTIVES["grpo"]
    x = make_inputs("grpo", ANSWERS, POLICY)
    x = x._replace(answers=with_advantages(objective, objective.coefs, x))
    low = jnp.array([0.01, 0.1, 1.0])
    coefs = objective.coefs.replace(clip_low=low)
    axes = jax.tree.map(lambda _: None, objective.coefs).replace(clip_low=0)
    losses, _ = jax.vmap(lambda c: compute_loss(objective, c, x), in_axes=(axes,))(coefs)
    one_by_one = [compute_loss(objective, objective.coefs.replace(clip_low=v), x)[0] for v in low]
    np.testing.assert_allclose(losses, one_by_one, rtol=1e-4)
    assert len(set(map(float, losses))) == 3
