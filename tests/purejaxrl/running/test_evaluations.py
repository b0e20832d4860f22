"""Evaluation inside a run: when, on what, what is kept, and that it changes no training."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from purejaxrl.running.evaluate import evaluate, on_episodes, own_key
from purejaxrl.running.runner import RunOptions, run
from tests.helpers import ENV, ENV_PARAMS, PPO, assert_equal, population, train

EVALUATOR = on_episodes(ENV, num_episodes=3, max_steps=20)
EVERY_3 = {"evaluator": EVALUATOR, "eval_every": 3, "members": 2}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight updates, evaluated after the third and the sixth."""
    return train(tmp_path_factory.mktemp("whole"), 8, chunk=8, **EVERY_3)


def assert_same(a, b) -> None:
    """Assert that two runs left the same states, best policies and tables."""
    assert_equal((a.state, a.best), (b.state, b.best))
    for name in ("metrics", "evaluations"):
        pd.testing.assert_frame_equal(getattr(a, name), getattr(b, name), check_exact=True)


@pytest.mark.slow
def test_evaluations_are_at_the_multiples_whatever_the_chunk(tmp_path, whole):
    assert whole.evaluations["update"].tolist() == [3, 6, 3, 6]
    steps = 3 * PPO.steps_per_update
    assert whole.evaluations["env_steps"].tolist() == [steps, 2 * steps] * 2
    assert_same(whole, train(tmp_path, 8, chunk=5, **EVERY_3))


def test_they_do_not_change_what_is_learned(tmp_path, whole):
    assert_equal(train(tmp_path, 8, members=2).state, whole.state)


def test_a_resumed_run_has_the_same_evaluations(tmp_path, whole):
    train(tmp_path, 5, horizon=8, chunk=2, **EVERY_3)
    assert_same(whole, train(tmp_path, 8, resume=True, chunk=4, **EVERY_3))


def test_evaluations_after_the_last_checkpoint_are_made_again(tmp_path, whole):
    def interrupt(table):
        if table["update"][0].as_py() == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, chunk=2, checkpoint_every=3, sinks=(interrupt,), **EVERY_3)
    assert_same(whole, train(tmp_path, 8, resume=True, chunk=2, **EVERY_3))


def test_sinks_get_each_evaluation_after_the_rows_up_to_it(tmp_path):
    tables = []
    done = train(tmp_path, 5, chunk=2, sinks=(tables.append,), **EVERY_3)
    updates = [table["update"].to_pylist() for table in tables]
    assert updates == [[1, 2] * 2, [3] * 2, [3] * 2, [4] * 2, [5] * 2]
    own = ["member", "update", "seed"]
    shown = tables[2].to_pandas().set_index(own)
    kept = done.evaluations.set_index(own).drop(columns="env_steps")
    pd.testing.assert_frame_equal(shown, kept.add_prefix("evaluation_"))


def test_the_last_line_of_progress_tells_the_last_evaluation(tmp_path, capsys):
    done = train(tmp_path, 6, chunk=8, progress=True, **EVERY_3)
    last = done.evaluations.query("update == 6")["return"].mean()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("6/6 updates") and f"evaluation {last:.4g}" in line


def test_the_best_policy_of_each_member_is_kept(tmp_path, whole):
    scores = whole.evaluations.pivot(index="member", columns="update", values="return").to_numpy()
    np.testing.assert_array_equal(whole.best.score, scores.max(1))
    np.testing.assert_array_equal(whole.best.update, np.array([3, 6])[scores.argmax(1)])
    keys = {n: train(tmp_path / str(n), n, members=2, horizon=8).state.key for n in (3, 6)}
    assert len(np.unique(jax.random.key_data(keys[3]), axis=0)) == 2
    for member in range(2):
        policy, score, update = jax.tree.map(lambda x, m=member: x[m], whole.best)
        assert_equal(policy, whole.best_policy(member))
        key = own_key(jax.random.fold_in(jax.random.key(0), update), keys[int(update)][member])
        how = {"num_episodes": 3, "greedy": False, "max_steps": 20}
        again = evaluate(PPO, ENV, key, policy, ENV_PARAMS, **how)
        finished = np.asarray(again.ret)[np.asarray(again.finished)]
        np.testing.assert_allclose(finished.mean(), score, rtol=1e-6)


def test_curves_and_scores_read_the_evaluations_where_there_are_any(tmp_path, whole):
    pd.testing.assert_frame_equal(whole.scores, whole.evaluations)
    without = train(tmp_path, 2, members=2)
    assert without.evaluations.empty and without.best == ()
    with pytest.raises(ValueError, match="best_policy: there is none; the run needs"):
        without.best_policy(0)
    pd.testing.assert_frame_equal(without.scores, without.metrics)


def test_a_frozen_member_keeps_the_best_policy_from_before(tmp_path):
    """Its learning rate is so large that its parameters overflow in the first updates."""
    who = population(2)
    rates = who.hypers.replace(learning_rate=jnp.array([2.5e-4, 3e38]))
    with pytest.warns(UserWarning, match="'seed=1' is frozen"):
        done = train(tmp_path, 4, population=who._replace(hypers=rates),
                     evaluator=EVALUATOR, eval_every=1)  # fmt: skip
    assert done.evaluations.groupby("member")["alive"].last().tolist() == [True, False]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(done.best.policy))
    dead = done.evaluations.query("member == 1 and not alive")["update"].min()
    assert done.best.update[1] < dead


def test_a_run_is_not_resumed_with_another_evaluation(tmp_path):
    train(tmp_path, 2, **EVERY_3)
    other = EVERY_3 | {"evaluator": on_episodes(ENV, num_episodes=4, max_steps=20)}
    for changed in (other, {"members": 2}):
        with pytest.raises(ValueError, match="holds another run: evaluator was"):
            train(tmp_path, 4, resume=True, **changed)


def test_an_algorithm_that_cannot_act_cannot_be_evaluated(tmp_path):
    blind = PPO._replace(act=None)
    with pytest.raises(ValueError, match="algorithm: algos.ppo .* evaluation needs its `act`"):
        run(blind, population(1), 2, RunOptions(str(tmp_path)), evaluator=EVALUATOR)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "updates", "every"),
    [
        ({}, 100, 5),
        ({}, 7, 1),
        ({"eval_every": 9}, 100, 9),
        ({"log_every": 4}, 100, 4),
        ({"log_every": 64, "chunk": 64}, 127, 127),
        ({"log_every": 64, "chunk": 64}, 63, 63),
        ({"log_every": 64, "chunk": 64}, 128, 64),
    ],
)
def test_the_default_is_a_twentieth_of_the_run(options, updates, every):
    assert RunOptions(**options).evaluation_interval(updates) == every
