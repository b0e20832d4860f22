"""A member that diverges is frozen and reported, and leaves the others alone."""

import jax
import numpy as np
import pytest

from algos import ppo
from purejaxrl.running.population import grid, populate, seeds
from purejaxrl.study.stats import final_scores
from tests.helpers import CONFIG, ENV_PARAMS, assert_equal, train


def test_a_member_that_fails_is_frozen_and_the_others_are_unchanged(tmp_path):
    rates = seeds(1) * grid(learning_rate=[1e-3, 1e38, 1e-2])
    sound = seeds(1) * grid(learning_rate=[1e-3, 1e-1, 1e-2])
    with pytest.warns(UserWarning, match=r"member 'seed=0,learning_rate=1e\+38' is frozen"):
        broken = train(tmp_path / "broken", 6, population=populate(rates, ppo.Hypers(), ENV_PARAMS))
    whole = train(tmp_path / "whole", 6, population=populate(sound, ppo.Hypers(), ENV_PARAMS))
    assert list(broken.alive) == [True, False, True]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(broken.state.params))
    for member in (0, 2):
        assert_equal(whole.member(member), broken.member(member))
    frozen = broken.metrics[broken.metrics["member"] == 1]
    dead = frozen[~frozen["alive"]]
    assert len(dead) and dead["return"].isna().all() and (dead["episodes"] == 0).all()
    assert frozen["env_steps"].iloc[-1] == broken.state.step[1] * CONFIG.batch_size
    assert np.isnan(final_scores(broken.metrics, fraction=1.0)[1])


def test_a_run_whose_members_are_all_frozen_says_so_once_and_again_when_resumed(tmp_path):
    def said(rates, updates, **options):
        who = populate(seeds(1) * grid(learning_rate=rates), ppo.Hypers(), ENV_PARAMS)
        with pytest.warns(UserWarning) as seen:
            done = train(tmp_path / f"{len(rates)}", updates, population=who, **options)
        texts = [str(one.message) for one in seen]
        return done, [text for text in texts if text.startswith("all members are frozen since")]

    assert said([1e38, 1e-3], 6)[1] == []
    done, texts = said([1e38], 6, horizon=8)
    since = done.metrics.query("not alive")["update"].min()
    told = "all members are frozen since update {}; nothing more is learned; Ctrl-C ends the run"
    assert texts == [told.format(since)]
    assert said([1e38], 8, resume=True)[1] == [told.format(6)]
