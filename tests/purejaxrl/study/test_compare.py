"""Comparisons: equal budgets, common seeds and levels, and runs that are found again."""

import dataclasses
import threading

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from purejaxrl.identity import part_names
from purejaxrl.parts.wrappers import FlattenObservation
from purejaxrl.running import record
from purejaxrl.running.population import populate, seeds
from purejaxrl.study import compare
from purejaxrl.study.compare import Problem, Scale
from purejaxrl.study.terms import require_equal_budgets
from tests.algos.probes import Params, Probe
from tests.purejaxrl.study.peak import LEVELS, ONE_LEVEL, Hypers, contender, make

SCALE = Scale(num_agents=4, num_tuning=2, num_updates=10, tuning_rounds=1)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Leave the progress line out."""
    options = compare.RunOptions
    monkeypatch.setattr(
        compare, "RunOptions", lambda *a, **k: dataclasses.replace(options(*a, **k), progress=False)
    )


def by_name(frame):
    return {name: part for name, part in frame.groupby("contender", sort=False)}


def test_each_contender_is_tuned_to_its_own_best_and_scored_on_common_levels(tmp_path):
    contenders = [contender("low", 0.1), contender("middle", 1.0), contender("high", 100.0)]
    scores, metrics = compare.compare(contenders, LEVELS, SCALE, tmp_path)
    found = by_name(scores)
    assert found["low"]["hyperparameters"].unique() == ["rate=0.1"]
    assert found["middle"]["hyperparameters"].unique() == ["rate=1"]
    assert found["high"]["hyperparameters"].unique() == ["rate=100"]  # outside of its grid
    assert set(scores["tried"]) == {3 + 2}
    for part in found.values():  # of the optimum, all but the bonus's (0.1)² is reached
        np.testing.assert_allclose(part["score"], part["optimum"] - 0.01, rtol=1e-5)
        np.testing.assert_array_equal(part["optimum"], found["low"]["optimum"])
    assert found["low"]["optimum"].nunique() == 4  # every agent has its own level
    assert scores["own_level"].all() and scores["alive"].all()
    assert sorted(metrics["contender"].unique()) == ["high", "low", "middle"]


def test_tuning_sees_neither_the_seeds_nor_the_levels_of_the_test(tmp_path, monkeypatch):
    seen = []
    train = compare.train

    def spy(algorithm, population, num_updates, out, *more):
        seen.append((out.name, {row["seed"] for row in population.rows}, population.env_params))
        return train(algorithm, population, num_updates, out, *more)

    monkeypatch.setattr(compare, "train", spy)
    compare.compare([contender("one", 1.0)], LEVELS, SCALE, tmp_path)
    *tunings, (test, tested_on, levels) = seen
    assert test == "test" and {name for name, _, _ in tunings} == {"tuning"}
    _, tuned_on, its_levels = tunings[0]
    assert tested_on == {0, 1, 2, 3} and not tuned_on & tested_on
    assert not set(its_levels.tolist()) & set(levels.tolist())


def test_contenders_of_different_numbers_of_fields_are_refused():
    """Each field gets two more values in every round, so the one would have more tries."""
    one = contender("one", 1.0, {"rate": (0.1, 0.3, 1.0, 3.0)})
    two = contender("two", 1.0, {"rate": (0.1, 1.0), "bonus": (0.1, 0.2)})
    with pytest.raises(ValueError, match=r"one: 4 \(rate\), two: 4 \(rate, bonus\); all must"):
        require_equal_budgets([one, two])


def test_final_policies_are_also_scored_by_their_most_likely_actions(tmp_path):
    """The most likely action is paid 1; the returns in training are those of sampled ones."""
    problem = Problem("one-step", Probe(lambda state, action: action), Params())

    def act(policy, memory, obs, first, key, greedy):
        actions = jnp.ones(4, jnp.int32) if greedy else jax.random.randint(key, (4,), 0, 2)
        return actions, memory

    def learn(state, hypers, experience):
        metrics = {"return": 0.55, "episodes": jnp.int32(1), "env_steps": jnp.int32(1)}
        return state, jax.tree.map(jnp.asarray, metrics)

    one = contender("one", 1.0, {})
    parts = {"act": act, "learn": learn, "made_of": part_names(problem.env)}
    one = dataclasses.replace(one, algorithm=one.algorithm._replace(**parts))
    scale = Scale(num_agents=2, num_tuning=1, num_updates=2, greedy_episodes=4)
    scores, _ = compare.compare([one], problem, scale, tmp_path / "greedy")
    assert (scores["greedy"] == 1.0).all() and np.allclose(scores["score"], 0.55)
    without = dataclasses.replace(scale, greedy_episodes=0)
    scores, _ = compare.compare([one], problem, without, tmp_path / "without")
    assert scores["greedy"].isna().all() and np.allclose(scores["score"], 0.55)


def test_agents_that_diverge_are_counted_and_do_not_decide(tmp_path):
    """At rate 10 the return is highest, but agents diverge."""
    contenders = [contender("careful", 10.0, limit=2.0), contender("dead", 1.0, limit=1e-9)]
    with pytest.warns(UserWarning, match="is frozen"):
        scores, _ = compare.compare(contenders, ONE_LEVEL, SCALE, tmp_path)
    found = by_name(scores)
    assert found["careful"]["hyperparameters"].unique() == ["rate=1"]
    assert found["careful"]["alive"].all() and not found["dead"]["alive"].any()
    assert found["dead"]["score"].isna().all()
    assert not scores["own_level"].any() and scores["optimum"].isna().all()


def test_contenders_of_one_name_are_its_rules(tmp_path):
    contenders = [contender("mine", 0.1, {}), contender("mine", 1.0, {}), contender("other", 1, {})]
    scores, metrics = compare.compare(contenders, ONE_LEVEL, SCALE, tmp_path)
    rules = scores.groupby(["contender", "rule"], sort=False)["score"].mean()
    assert list(rules.index) == [("mine", 0), ("mine", 1), ("other", 0)]
    assert rules["mine", 0] < rules["mine", 1]
    mine = metrics[metrics["contender"] == "mine"]
    assert len(mine[["rule", "member"]].drop_duplicates()) == 8  # four agents of each rule
    assert not list(tmp_path.glob("*/*/tuning*"))  # there is nothing to choose


def test_a_comparison_is_read_again_without_training(tmp_path, monkeypatch):
    contenders = [contender("low", 0.1), contender("high", 1000.0)]
    first, _ = compare.compare(contenders, LEVELS, SCALE, tmp_path)
    from purejaxrl.running import runner

    trained = []
    monkeypatch.setattr(runner, "_advance", lambda *_: trained.append(1))
    again, _ = compare.compare(contenders, LEVELS, SCALE, tmp_path)
    assert not trained and again.equals(first)


def test_a_comparison_that_was_killed_continues(tmp_path, monkeypatch):
    contenders = [contender("low", 0.1), contender("high", 10.0)]
    whole, _ = compare.compare(contenders, LEVELS, SCALE, tmp_path / "whole")
    run, done = compare.run, []

    def killed_in_the_third_run(algorithm, population, num_updates, options, **more):
        num_updates = num_updates if len(done) < 2 else 3
        done.append(run(algorithm, population, num_updates, options, **more))
        if len(done) == 3:
            raise SystemExit("stopped")
        return done[-1]

    monkeypatch.setattr(compare, "run", killed_in_the_third_run)
    with pytest.raises(SystemExit):
        compare.compare(contenders, LEVELS, SCALE, tmp_path / "broken")
    monkeypatch.setattr(compare, "run", run)
    again, _ = compare.compare(contenders, LEVELS, SCALE, tmp_path / "broken")
    pd.testing.assert_frame_equal(again, whole)


def test_grids_of_different_sizes_are_refused(tmp_path):
    grid = {"rate": (0.1, 1.0), "bonus": (0.1, 0.2)}
    with pytest.raises(ValueError, match=r"small: 3 \(rate\), large: 4 \(rate, bonus\); all"):
        compare.compare(
            [contender("small", 1), contender("large", 1, grid)], LEVELS, SCALE, tmp_path
        )
    assert not list(tmp_path.iterdir())


def test_a_contender_of_another_environment_is_refused(tmp_path):
    other = Problem("other", FlattenObservation(gymnax.make("Catch-bsuite")[0]), None)
    with pytest.raises(ValueError, match=r"'low': was made for peak .* not for .*Catch.* 'other'"):
        compare.compare([contender("low", 1)], other, SCALE, tmp_path)


def test_contenders_of_one_name_must_be_alike(tmp_path):
    two = [contender("one", 1), contender("one", 1, {"rate": (0.1, 1.0, 3.0)})]
    with pytest.raises(ValueError, match="two of the name 'one' are not alike"):
        compare.compare(two, LEVELS, SCALE, tmp_path)


def taking(steps: int | None) -> compare.Contender:
    """Make a contender whose updates take this many environment steps."""
    one = contender(f"{steps} steps", 1.0, {})
    return dataclasses.replace(one, algorithm=one.algorithm._replace(steps_per_update=steps))


def test_contenders_whose_updates_differ_in_size_live_equally_many_environment_steps(tmp_path):
    scale = Scale(num_agents=2, num_tuning=1, total_steps=12.5)
    _, metrics = compare.compare([taking(2), taking(5)], ONE_LEVEL, scale, tmp_path)
    assert metrics.groupby("contender")["update"].nunique().to_dict() == {
        "2 steps": 6,
        "5 steps": 2,
    }


def test_a_number_of_updates_is_refused_where_updates_differ_in_size(tmp_path):
    scale = Scale(num_agents=2, num_tuning=1, num_updates=3)
    with pytest.raises(ValueError, match="2 steps: 2, 5 steps: 5; give total_steps instead"):
        compare.compare([taking(2), taking(5)], ONE_LEVEL, scale, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (20, r"Scale.total_steps: 12.5 is not valid; it must be a number >= 20, the environment"),
        (None, r"contender: .* a length in environment steps needs its `steps_per_update`"),
    ],
)
def test_a_life_that_is_no_whole_update_is_named_before_training(steps, message, tmp_path):
    scale = Scale(num_agents=2, num_tuning=1, total_steps=12.5)
    with pytest.raises(ValueError, match=message):
        compare.compare([taking(2), taking(steps)], ONE_LEVEL, scale, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_agents=0), "Scale.num_agents: 0 is not valid"),
        (dict(num_tuning=1.5), "Scale.num_tuning: 1.5 is not valid"),
        (dict(num_updates=None), "Scale.num_updates: None is not valid"),
        (dict(total_steps=100), "Scale.num_updates: 10 is not valid; .* None where total_steps"),
        (dict(num_updates=None, total_steps=np.nan), "Scale.total_steps: nan is not valid"),
        (dict(tuning_rounds=-1), "Scale.tuning_rounds: -1 is not valid; .* >= 0"),
        (dict(greedy_episodes=0.5), "Scale.greedy_episodes: 0.5 is not valid; .* >= 0"),
    ],
)
def test_a_bad_scale_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SCALE, **changes)


def test_a_bad_grid_of_a_contender_is_named():
    with pytest.raises(ValueError, match=r"mine: rate: \(\) is not valid"):
        contender("mine", 1.0, {"rate": ()})


def test_runs_of_one_folder_are_kept_apart_by_what_they_are(tmp_path):
    def scores(peak, num_updates=3):
        population = populate(seeds(2), Hypers(), np.float32(0))
        result = compare.train(make(peak), population, num_updates, tmp_path / "test")
        return compare.score_members(result)

    one, two = scores(1.0), scores(10.0)
    assert (one != two).all()
    folders = set(tmp_path.iterdir())
    np.testing.assert_array_equal(one, scores(1.0))
    assert set(tmp_path.iterdir()) == folders and len(folders) == 2
    scores(1.0, num_updates=2)  # shorter: another run
    assert len(list(tmp_path.iterdir())) == 3


def test_a_contender_that_another_process_trains_is_waited_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "SECONDS_BETWEEN_LOOKS", 0.01)
    population = populate(seeds(2), Hypers(), np.float32(0))

    def train():
        return compare.train(make(1.0), population, 3, tmp_path / "test")

    expected = train().state.params
    (folder,) = tmp_path.iterdir()
    held, free = threading.Event(), threading.Event()

    def hold():
        with record.locked(folder):
            held.set()
            free.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    looked = []
    monkeypatch.setattr(
        compare.time, "sleep", lambda _: (looked.append(1), free.set(), other.join())
    )
    np.testing.assert_array_equal(train().state.params, expected)
    assert looked == [1]
    assert "is being trained by another process; waiting" in capsys.readouterr().err


def test_what_a_contender_shares_is_held_once_and_levels_by_every_agent():
    table = np.zeros((3, 5))
    one = dataclasses.replace(contender("one", 1.0), hypers=Hypers(table=table), shared=("table",))
    members = compare.members(one, seeds(4), LEVELS)
    assert members.hypers.table.shape == table.shape and members.hypers.rate.shape == (4,)
    np.testing.assert_array_equal(members.env_params, LEVELS.levels(seeds(4)))


def test_levels_belong_to_seeds():
    rows = seeds(3)
    levels = LEVELS.levels(rows)
    np.testing.assert_array_equal(LEVELS.levels(seeds(2, start=1)), levels[1:])
    assert ONE_LEVEL.levels(rows) is None
    assert jax.tree.leaves(levels)[0].shape == (3,)
