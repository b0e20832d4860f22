"""Which prompts are asked, which hints are given, and which answers are kept."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.objectives import OBJECTIVES, Inputs, with_advantages
from algos.objectives.demonstrations import Buffer
from algos.objectives.hints import HINT_LEVELS
from algos.objectives.selection import most_varied
from tests.algos.objectives.cases import (
    DIFFICULTY,
    LENGTH,
    NUM_BINS,
    NUM_PROMPTS,
    PROMPT,
    REWARD,
    STATES,
    G,
    P,
    make_answers,
    make_inputs,
)

BINS = jnp.array([0, 0, 1, 1, 1, 2])
NUM_DRAWS = 4000


def frequencies(name, state, coefs=None):
    objective = OBJECTIVES[name]
    coefs = objective.coefs if coefs is None else coefs
    drawn = objective.sampler.choose(jax.random.key(0), state, BINS, NUM_DRAWS, coefs)
    return np.bincount(drawn, minlength=NUM_PROMPTS) / NUM_DRAWS


def of_many_draws(name, state, place=0):
    """How often each prompt is at this place of a draw of all of them."""
    objective = OBJECTIVES[name]
    choose = lambda key: objective.sampler.choose(key, state, BINS, NUM_PROMPTS, objective.coefs)  # noqa: E731
    drawn = jax.vmap(choose)(jax.random.split(jax.random.key(1), NUM_DRAWS))
    return np.bincount(drawn[:, place], minlength=NUM_PROMPTS) / NUM_DRAWS


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_sampler_keeps_the_structure_of_its_state_and_chooses_prompts(name):
    objective = OBJECTIVES[name]
    sampler, coefs = objective.sampler, objective.coefs
    state = jax.eval_shape(lambda: sampler.init(NUM_PROMPTS, NUM_BINS))

    def observe(state):
        x = Inputs(make_answers(), state, jnp.float32(0.5), jnp.float32(0.1))
        return sampler.observe(x._replace(answers=with_advantages(objective, coefs, x)), coefs)

    def choose(state):
        return sampler.choose(jax.random.key(1), state, BINS, 5, coefs)

    assert jax.eval_shape(observe, state) == state
    drawn = jax.eval_shape(choose, state)
    assert drawn.shape == (5,) and drawn.dtype == jnp.int32


def test_dapo_keeps_mixed_groups_and_fills_up_without_tokens():
    dapo = OBJECTIVES["dapo"]
    answers = make_answers(REWARD[[2, 0, 3, 1]])
    kept = dapo.sampler.keep(answers, 2, G, dapo.coefs)
    np.testing.assert_array_equal(kept.prompt, PROMPT[[1, 3]])
    np.testing.assert_array_equal(kept.mask, answers.mask[[1, 3]])
    kept = dapo.sampler.keep(answers, 3, G, dapo.coefs)
    assert kept.prompt[2] == PROMPT[0] and not kept.mask[2].any()


def test_prof_keeps_correct_answers_with_good_steps_and_wrong_ones_with_bad_steps():
    prof, rng = OBJECTIVES["prof"], np.random.default_rng(0)
    for _ in range(5):
        reward = rng.integers(0, 2, (P, G))
        answers = make_answers(reward)
        answers = answers._replace(step_reward=rng.uniform(size=answers.mask.shape))
        score = np.where(answers.mask, answers.step_reward, 0).sum(-1) / LENGTH
        kept = prof.sampler.keep(answers, P, 2, prof.coefs)
        for k in range(P):
            right, wrong = np.flatnonzero(reward[k] == 1), np.flatnonzero(reward[k] == 0)
            num = np.clip(1, 2 - len(wrong), len(right))
            best = [*right[np.argsort(-score[k, right])][:num]]
            worst = [*wrong[np.argsort(score[k, wrong])][: 2 - num]]
            expected = np.sort(answers.old_log_prob[k, best + worst, 0])
            np.testing.assert_array_equal(np.sort(kept.old_log_prob[k, :, 0]), expected)
    assert kept.demonstration is answers.demonstration


def test_d3s_finds_the_answers_with_the_greatest_variance():
    values = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    for num in (2, 3, 5, 7):
        marked = np.asarray(most_varied(jnp.asarray(values), jnp.float32(num)))
        assert (marked.sum(-1) == num).all()
        for row, mark in zip(values, marked, strict=True):
            most = max(row[list(chosen)].var() for chosen in combinations(range(7), num))
            np.testing.assert_allclose(row[mark].var(), most, rtol=1e-5)


def test_spo_counts_fade_with_the_distance_that_the_policy_has_moved():
    spo, state = OBJECTIVES["spo"], STATES["spo"]
    x = Inputs(make_answers(), state, kl=jnp.float32(0.02))
    found = spo.sampler.observe(x, spo.coefs)
    for k, prompt in enumerate(PROMPT):
        memory = np.clip(2 ** (-(0.3 - state.seen_at[prompt]) / 0.06), 0.875, 0.96)
        expected = memory * state.correct[prompt] + REWARD[k].sum()
        np.testing.assert_allclose(found.correct[prompt], expected, rtol=1e-5)
        expected = memory * state.wrong[prompt] + (1 - REWARD[k]).sum()
        np.testing.assert_allclose(found.wrong[prompt], expected, rtol=1e-5)
    assert found.correct[1] == state.correct[1] and found.seen_at[1] == state.seen_at[1]
    np.testing.assert_allclose(found.seen_at[PROMPT], 0.3, rtol=1e-6)
    np.testing.assert_allclose(found.total_kl, 0.32, rtol=1e-6)


def test_spo_asks_prompts_whose_value_is_uncertain():
    state = STATES["spo"]
    count = state.correct + state.wrong
    value = state.correct / count
    weight = np.sqrt(value * (1 - value)) / np.sqrt(count) + 0.05
    np.testing.assert_allclose(frequencies("spo", state), weight / weight.sum(), atol=0.03)


def test_sec_moves_the_values_of_bins_that_were_asked_and_prefers_large_advantages():
    sec = OBJECTIVES["sec"]
    x = make_inputs("sec", make_answers())
    answers = with_advantages(sec, sec.coefs, x)
    found = sec.sampler.observe(x._replace(answers=answers), sec.coefs)
    size = np.abs(answers.advantage[..., 0]).mean(-1)
    expected = [0.5 * size[1], 0.5 * (size[0] + size[2]) / 2, 0.5 * size[3]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert list(DIFFICULTY) == [1, 0, 1, 2]
    share = np.exp(np.array([0.2, 0.6, 0.0]) / 0.5)
    expected = (share / share.sum())[BINS] / np.array([2, 3, 1])[BINS]
    np.testing.assert_allclose(frequencies("sec", jnp.array([0.2, 0.6, 0.0])), expected, atol=0.03)


def test_relift_gathers_failures_and_studies_each_once():
    relift = OBJECTIVES["relift"]
    sampler, coefs = relift.sampler, relift.coefs.replace(buffer=2.0)
    state = sampler.init(NUM_PROMPTS, NUM_BINS)
    answers = make_answers()
    state = sampler.observe(Inputs(answers, state), coefs)  # prompt 5 fails
    assert list(np.flatnonzero(state.waiting)) == [5] and not state.studied.any()
    failed = np.zeros_like(REWARD)
    state = sampler.observe(Inputs(make_answers(failed), state), coefs)
    assert list(np.flatnonzero(state.studied)) == [0, 2, 4, 5] and not state.waiting.any()
    asked = np.stack([of_many_draws("relift", state, place) for place in range(6)])
    np.testing.assert_allclose(asked[:4, [0, 2, 4, 5]], 0.25, atol=0.03)  # each of them once
    np.testing.assert_allclose(asked[4:, [1, 3]], 0.5, atol=0.03)  # others where too few wait
    state = sampler.observe(Inputs(make_answers(failed), state), coefs)
    assert not state.waiting.any() and not state.studied.any()


def test_relift_gathers_what_fails_while_others_are_studied():
    relift = OBJECTIVES["relift"]
    sampler, coefs = relift.sampler, relift.coefs.replace(buffer=2.0)
    answers, nobody = make_answers(), jnp.zeros(NUM_PROMPTS, bool)
    half = Buffer(nobody, nobody.at[jnp.array([1, 4])].set(True))
    state = sampler.observe(Inputs(answers, half), coefs)  # 4 is imitated, and 5 fails
    assert list(np.flatnonzero(state.studied)) == [1]
    assert list(np.flatnonzero(state.waiting)) == [5]
    state = sampler.observe(Inputs(answers, half._replace(waiting=state.waiting)), coefs)
    assert list(np.flatnonzero(state.studied)) == [1], "one is too few to begin again"
    last = Buffer(nobody.at[3].set(True), nobody.at[0].set(True))
    state = sampler.observe(Inputs(answers, last), coefs)  # 0 is imitated, and 5 fails: two wait
    assert list(np.flatnonzero(state.studied)) == [3, 5] and not state.waiting.any()
    idle = Buffer(state.studied, nobody)
    assert np.ptp(frequencies("relift", idle)) < 0.05
    assert np.ptp(of_many_draws("relift", idle)) < 0.05


def hints(name, age=0.5, state=()):
    objective = OBJECTIVES[name]
    x = Inputs(make_answers(), state, jnp.float32(age))
    return np.asarray(objective.sampler.hint(x, objective.coefs))


def test_hints_are_for_groups_that_failed():
    np.testing.assert_allclose(hints("ghpo")[3], [0.75, 0.75, 0.25, 0.25])  # after 0.5, and after 0
    np.testing.assert_allclose(hints("pope")[3], [0.5, 0.5, 0, 0])
    levels = jnp.arange(NUM_PROMPTS, dtype=jnp.int32) % HINT_LEVELS
    np.testing.assert_allclose(hints("scaf_grpo", 0.5, levels)[3], [1, 0, 0, 0])
    assert not hints("scaf_grpo", 0.1, levels).any()
    for name in ("ghpo", "pope"):
        assert not hints(name)[:3].any()


def test_scaf_grpo_strengthens_hints_that_do_not_help():
    scaf = OBJECTIVES["scaf_grpo"]
    state = scaf.sampler.init(NUM_PROMPTS, NUM_BINS)
    hint = np.where(np.arange(G) == 0, 1 / 3, 0) * np.ones((P, 1))
    answers = make_answers()._replace(hint=hint)
    for expected in (1, 2, 2):
        state = scaf.sampler.observe(Inputs(answers, state), scaf.coefs)
        np.testing.assert_array_equal(state, expected * np.array([1, 0, 0, 0, 0, 1]))


def test_epo_remembers_the_mean_entropy_of_all_updates():
    epo, answers = OBJECTIVES["epo"], make_answers()
    state = epo.sampler.init(NUM_PROMPTS, NUM_BINS)
    for factor in (1.0, 3.0):
        seen = answers._replace(entropy=factor * answers.entropy)
        state = epo.sampler.observe(Inputs(seen, state), epo.coefs)
    mean = answers.entropy[answers.mask].mean()
    np.testing.assert_allclose(state.total / state.count, 2 * mean, rtol=1e-5)
