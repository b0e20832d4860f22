"""Every coefficient of every objective matters: to its loss, or to what its sampler decides."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algos.objectives import OBJECTIVES, compute_loss, with_advantages
from algos.objectives.inputs import Sampler
from tests.algos.objectives.cases import G, P, make_answers, make_inputs, make_policy

BINS = jnp.array([0, 0, 1, 1, 1, 2])
TO = {
    "aepo.target_entropy": 3.0,  # above the policy's
    "cispo.ratio_max": 1.5,  # which some ratios exceed
    "d3s.answers_start": 0.1,  # two answers of a group, rather than three
    "d3s.tokens_start": 0.01,  # fewer than the tokens of mixed groups
    "dapo.overlong_share": 0.6,
    "dph_rl.solved": 0.5,  # the accuracy of a group
    "dph_rl_js.solved": 0.5,
    "empo.entropy_low": 0.45,  # above that of a group
    "empo.entropy_high": 0.3,  # below it
    "epo.lower": 0.7,  # above which some tokens are
    "epo.upper": 0.6,
    "gbpo.temperature": 1.0,  # which is wide
    "hpt.gate": 0.5,  # the accuracy of a group
    "lp_reg.noise": 0.1,
    "lp_reg.rare": 0.5,
    "red.weight_max": 0.1,  # below the weight
    "relift.buffer": 1.0,  # as many as wait
    "scaf_grpo.exempt": 0.5,  # after the age of the batch
    "spo.half_life": 2.0,  # long enough to leave the bounds of the memory
    "tppo.window": 0.8,
}
"""Values to which a coefficient changes; others move by the rule in `changed`."""
HELD_UP = {"noise": 0.05, "rare": 0.9}  # so that some tokens are
OUTSIDE = {"lower": 0.7, "entropy_coef": 1.0}  # so that some tokens are
WITH = {
    "aepo.temperature_high": {"target_entropy": 3.0},
    "d3s.answers_start": {"answers_start": 0.9},
    "dapo.overlong_share": {"overlong_coef": 1.0},
    "drpo.length_temperature": {"kl_weight": 0.0},
    "epo.lower": {"entropy_coef": 1.0},
    "epo.upper": {"entropy_coef": 1.0},
    "epo.outside_penalty": OUTSIDE,
    "epo.smooth": OUTSIDE,
    "lp_reg.noise": HELD_UP,
    "lp_reg.proxy_coef": HELD_UP,
    "lp_reg.rare": HELD_UP,
    "red.weight_max": {"gate": 0.0},  # so that the changes of entropy have opposite signs
}
"""Other coefficients that a change needs to matter."""
NOT_READ = {"pass_at_4.clip_low"}  # it bounds negative advantages, and there are none
STATES = {"sec": jnp.array([0.2, 0.6, 0.0])}


def decisions(name, coefs):
    """The loss of a batch, and what the sampler does that a plain sampler does not."""
    objective, plain = OBJECTIVES[name], Sampler()
    sampler = objective.sampler
    x = make_inputs(name, make_answers())
    x = x._replace(state=STATES.get(name, x.state))
    x = x._replace(answers=with_advantages(objective, coefs, x))
    found = [compute_loss(objective, coefs, x._replace(policy=make_policy(apart=0.8)))[0]]
    if sampler.choose is not plain.choose:
        found.append(sampler.choose(jax.random.key(0), x.state, BINS, 1000, coefs))
    if sampler.observe is not plain.observe:
        found.append(sampler.observe(x, coefs))
    if sampler.keep is not plain.keep:
        found.append(sampler.keep(x.answers, P // 2, G // 2, coefs))
    if sampler.hint is not None:
        found.append(sampler.hint(x, coefs))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def is_read(name, field):
    """Whether a change of a coefficient changes anything, by more than a rounding error."""
    place = f"{name}.{field}"
    coefs = OBJECTIVES[name].coefs.replace(**WITH.get(place, {}))
    now = TO.get(place, 0.7 * getattr(coefs, field) + 0.05)
    before, after = (decisions(name, c) for c in (coefs, coefs.replace(**{field: now})))
    return not all(
        np.allclose(x, y, rtol=1e-4, atol=1e-6) for x, y in zip(before, after, strict=True)
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_coefficient_matters(name):
    fields = [field.name for field in dataclasses.fields(OBJECTIVES[name].coefs)]
    unread = {f"{name}.{field}" for field in fields if not is_read(name, field)}
    assert unread == {place for place in NOT_READ if place.startswith(f"{name}.")}
