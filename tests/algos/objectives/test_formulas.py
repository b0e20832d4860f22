"""Every objective against its formula, written plainly in NumPy: values and gradients."""

import copy
import itertools

import jax
import numpy as np
import pytest

from algos.objectives import OBJECTIVES
from tests.algos.objectives.advantage_formulas import ADVANTAGES
from tests.algos.objectives.cases import (
    AGE,
    REWARD,
    V,
    loss_and_gradient,
    make_answers,
    make_inputs,
    make_policy,
)
from tests.algos.objectives.formulas import SURROGATES, Batch, live
from tests.algos.objectives.loss_formulas import LOSSES, red_weight

FORMULAS = SURROGATES | ADVANTAGES | LOSSES
COEFS = {
    "dapo": {"overlong_coef": 1.0},
    "d3s": {"answers_start": 0.1},  # so that no two choices of answers vary the same
    "lp_reg": {"noise": 0.2, "rare": 0.5},  # so that some tokens are held up
}
NUM_DIRECTIONS, STEP = 6, 1e-5


def formula_of(name, answers):
    state = make_inputs(name, answers).state
    batch = Batch(answers, state, AGE)
    return lambda policy, held: FORMULAS[name](batch, policy, held)


def moved(policy, direction, step):
    policy = copy.copy(policy)
    for field, values in direction.items():
        setattr(policy, field, getattr(policy, field) + step * values)
    return policy


def test_every_objective_has_a_formula():
    assert FORMULAS.keys() == OBJECTIVES.keys()


def test_lp_reg_has_a_gradient_where_no_token_is_likelier_than_the_noise():
    answers, policy = make_answers(), make_policy()
    value, gradient = loss_and_gradient("lp_reg", answers, policy, noise=0.9, rare=0.5)
    assert np.isfinite(value) and np.isfinite(gradient.log_probs).all()


@pytest.mark.parametrize("apart", [0.15, 0.8])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_value_and_gradient_are_those_of_the_formula(name, apart):
    """Far apart, ratios lie between 0.14 and 2.8, so that every clip has tokens on both sides."""
    answers, policy = make_answers(), make_policy(apart=apart)
    value, gradient = loss_and_gradient(name, answers, policy, **COEFS.get(name, {}))
    formula, held = formula_of(name, answers), live(policy)
    np.testing.assert_allclose(value, formula(held, held), rtol=2e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    for _ in range(NUM_DIRECTIONS):
        direction = {k: rng.normal(size=v.shape) for k, v in vars(held).items()}
        ahead, behind = (formula(moved(held, direction, s), held) for s in (STEP, -STEP))
        slope = sum((getattr(gradient, k) * v).sum() for k, v in direction.items())
        expected = (ahead - behind) / (2 * STEP)
        np.testing.assert_allclose(slope, expected, rtol=2e-3, atol=2e-5)


def test_red_imitates_where_the_changes_of_entropy_cancel():
    weights = []
    for correct in itertools.combinations(range(4), 2):  # of the answers to the first prompt
        reward, policy = REWARD.copy(), make_policy()
        reward[0] = np.isin(np.arange(4), correct)
        answers, held = make_answers(reward), live(policy)
        value, _ = loss_and_gradient("red", answers, policy)
        np.testing.assert_allclose(value, formula_of("red", answers)(held, held), rtol=2e-4)
        state = make_inputs("red", answers).state
        weights.append(red_weight(Batch(answers, state, AGE), held))
    assert min(weights) == 0 < max(weights) < 1, weights


def spoil(answers, policy):
    """Change everything after the end of an answer and of a demonstration."""
    rng, after = np.random.default_rng(9), ~answers.mask
    shown = answers.demonstration_mask
    fields = ("old_log_prob", "ref_log_prob", "entropy", "step_reward", "value", "ref_log_probs")
    changed = {}
    for field in fields:
        values = np.array(getattr(answers, field))
        values[after] = rng.normal(size=values[after].shape)
        changed[field] = values
    belief = np.array(answers.belief)
    belief[..., 1:][after] = rng.uniform(size=after.sum())
    tokens, demonstration = (
        np.where(kept, values, (values + 1) % V)
        for kept, values in ((answers.mask, answers.tokens), (shown, answers.demonstration))
    )
    changed |= {"belief": belief, "tokens": tokens, "demonstration": demonstration}
    answers = answers._replace(**changed)
    arrays = {k: np.array(v) for k, v in policy._asdict().items()}
    for field in ("log_prob", "log_probs", "value"):
        arrays[field][after] -= rng.uniform(size=arrays[field][after].shape)
    arrays["demonstration_log_probs"][~shown] -= 1.0
    return answers, type(policy)(**arrays)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_nothing_after_the_end_counts(name):
    answers, policy = make_answers(), make_policy()
    value, gradient = loss_and_gradient(name, answers, policy)
    for found in (gradient.log_prob, gradient.log_probs, gradient.value):
        assert not np.asarray(found)[~answers.mask].any()
    assert not np.asarray(gradient.demonstration_log_probs)[~answers.demonstration_mask].any()
    spoilt, _ = loss_and_gradient(name, *spoil(answers, policy))
    np.testing.assert_allclose(value, spoilt, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_groups_of_one_kind_and_far_policies_give_finite_gradients(name):
    for reward in (REWARD, np.ones_like(REWARD), np.zeros_like(REWARD)):
        for policy in (make_policy(), make_policy(7, 30.0)):
            value, gradient = loss_and_gradient(name, make_answers(reward), policy)
            assert np.isfinite(value)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
