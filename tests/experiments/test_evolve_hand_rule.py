"""The evolution of a hand-made rule: where it starts."""

import jax
import numpy as np
import pytest

from algos.hand_rules import TEACHER
from algos.residual_lpg import settings_of
from algos.rules.start import starting_rule


def test_it_starts_at_the_untrained_residual_rule_by_default(experiment):
    settings = experiment.Settings()
    ours = experiment.first_rule(settings)
    theirs = starting_rule("residual_lpg", settings.agent)
    assert ours.config == theirs.config
    for x, y in zip(*map(jax.tree.leaves, (ours.params, theirs.params)), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_it_starts_at_the_settings_that_it_is_given(experiment):
    first = experiment.first_rule(experiment.Settings(start=TEACHER))
    found = settings_of(first.params).settings()
    for name in ("gae_lambda", "target_width", "entropy_coef", "negative", "step_cost"):
        assert getattr(found, name) == pytest.approx(getattr(TEACHER, name), rel=1e-5)
    assert experiment.begin(first.params, jax.random.key(0)).settings() == found
