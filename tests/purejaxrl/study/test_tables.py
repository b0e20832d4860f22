"""Tables of comparisons: crossed intervals, fractions of the optimum, chances to be better."""

import numpy as np
import pandas as pd
import pytest

from purejaxrl.study import tables
from purejaxrl.study.stats import PROBABILITY, interval, probability_of_improvement


def scores_of(own_level=False, optimum=np.nan, env="here", greedy=np.nan, **contenders):
    """Scores `[num_agents, num_rules]` by contender, as `compare` returns them."""
    parts = []
    for name, scores in contenders.items():
        scores = np.asarray(scores, float)
        scores = scores[:, None] if scores.ndim == 1 else scores
        agent, rule = np.indices(scores.shape)
        parts.append(pd.DataFrame({
            "env": env, "contender": name, "rule": rule.ravel(), "agent": agent.ravel(),
            "score": scores.ravel(), "greedy": greedy, "alive": np.isfinite(scores.ravel()),
            "optimum": np.broadcast_to(optimum, len(scores))[agent.ravel()],
            "own_level": own_level, "hyperparameters": "rate=1", "tried": 3,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def table_of(scores, baseline="A2C"):
    return tables.tabulate(scores, baseline).set_index("contender")


def test_means_have_intervals_for_other_rules_and_other_agents():
    scores = np.random.default_rng(0).normal(size=(20, 3)) + np.arange(3)
    table = table_of(scores_of(LPG=scores, A2C=scores[:, 0]))
    assert table.loc["LPG", "return"] == str(interval(scores))
    assert table["rules"].tolist() == [3, 1] and table["agents"].tolist() == [60, 20]


def test_agents_of_three_rules_are_not_taken_for_independent_ones():
    """The rules differ and their agents are alike: there are three scores, not 48."""
    rule = np.array([0.0, 1.0, 5.0])
    table = table_of(scores_of(LPG=rule * np.ones((16, 3)), A2C=np.zeros(16)))
    assert table.loc["LPG", "return"] == str(interval(rule))


def test_agents_that_diverged_are_left_out_and_counted():
    table = table_of(scores_of(LPG=[np.nan, 5.0, np.nan], dead=[np.nan] * 3, A2C=[1.0, 3.0, 2.0]))
    assert table["agents"].tolist() == [1, 0, 3]
    assert table["diverged"].tolist() == [2, 3, 0]
    assert table.loc["LPG", "return"] == "5 [5, 5]"
    assert table.loc["dead", "return"] == "none"
    assert table.loc["dead", "P(better than A2C)"] == "0 [0, 0]"
    assert table.loc["LPG", "P(better than A2C)"].startswith("0.3333 [")


def test_an_agent_that_finished_no_episode_is_not_one_that_diverged():
    scores = scores_of(LPG=[np.nan, 5.0])
    table = table_of(scores.assign(alive=True))
    assert table[["agents", "diverged"]].to_numpy().tolist() == [[1, 0]]


def test_scores_are_also_fractions_of_the_optimum_where_that_is_not_zero():
    table = table_of(scores_of(optimum=np.array([2.0, 4.0, 0.0]), LPG=[1.0, 2.0, 7.0]))
    assert table.loc["LPG", "of the optimum"] == "0.5 [0.5, 0.5]"
    assert "of the optimum" not in table_of(scores_of(LPG=[1.0]))


def test_levels_are_compared_one_by_one():
    """On each of four levels the rule is a little better; levels differ much more."""
    level = np.array([0.0, 10.0, 20.0, 30.0])
    ours, theirs = level + 1, level
    table = table_of(scores_of(own_level=True, LPG=ours, A2C=theirs))
    assert table.loc["LPG", "P(better than A2C)"] == "1 [1, 1]"


def test_where_only_seeds_differ_any_agent_is_compared_with_any_other():
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(0.5, 1, 12), rng.normal(size=12)
    wins = tables.chance_to_win(ours[:, None], theirs[:, None], by_level=False)
    expected = probability_of_improvement(ours, theirs)
    found = interval(wins, bounds=PROBABILITY)
    assert found.value == pytest.approx(expected.value)
    np.testing.assert_allclose(found, expected)
    table = table_of(scores_of(LPG=ours, A2C=theirs))
    assert table.loc["LPG", "P(better than A2C)"] == str(found)


def test_ties_count_half_and_an_agent_without_a_score_loses():
    x, y = np.array([[1, 1], [2, 3], [np.nan, 0], [0, np.nan], [np.nan, np.nan]]).T[..., None]
    wins = tables.chance_to_win(x, y, by_level=True)
    np.testing.assert_array_equal(wins[:, 0, 0], [0.5, 0.0, 0.0, 1.0, 0.5])
    assert tables.estimate(wins).value == 0.4


def test_greedy_scores_are_shown_beside_the_others_where_there_are_any():
    table = table_of(scores_of(greedy=[2.0, 4.0], LPG=[1.0, 2.0]))
    assert table.loc["LPG", "greedy"] == str(interval([2.0, 4.0]))
    assert "greedy" not in table_of(scores_of(LPG=[1.0, 2.0]))


def test_the_baseline_is_not_compared_with_itself_nor_across_environments():
    here, there = scores_of(A2C=[1.0], LPG=[2.0]), scores_of(env="there", LPG=[3.0])
    table = tables.tabulate(pd.concat([here, there]), "A2C")
    assert table["P(better than A2C)"].isna().tolist() == [True, False, True]


def test_a_printed_table_leaves_out_columns_where_nothing_is_unusual(capsys):
    scores = pd.concat([scores_of(A2C=[1.0], LPG=[2.0]), scores_of(env="there", LPG=[np.nan])])
    tables.show(tables.tabulate(scores.assign(hyperparameters="rate=1,bonus=2"), "A2C"))
    here, there = capsys.readouterr().err.split("there")
    assert "LPG" in here and "rate 1 " in here and "bonus 2 " in here
    assert "diverged" not in here and "diverged" in there and "better" not in there


def test_the_picture_is_drawn_also_where_a_contender_has_no_score(tmp_path):
    here = scores_of(A2C=[[1.0, 2.0], [2.0, 3.0]], dead=[np.nan, np.nan])
    scores = pd.concat([here, scores_of(env="there", LPG=[3.0, 1.0])])
    tables.draw(scores, tmp_path / "scores.png")
    assert (tmp_path / "scores.png").stat().st_size > 1000


def test_a_baseline_that_did_not_take_part_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown baseline 'a2c'; did you mean: A2C"):
        tables.report(scores_of(A2C=[1.0, 2.0]), "a2c", tmp_path)
    assert not list(tmp_path.iterdir())
