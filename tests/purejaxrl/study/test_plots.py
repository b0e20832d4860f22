import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from purejaxrl.study.plots import curves, heat_map, learning_curves
from purejaxrl.study.stats import interval


def frame_of(returns, episodes, **columns):
    """Lay out `[members, updates]` as a run's metrics, 100 environment steps per update."""
    returns, episodes = np.asarray(returns, float), np.asarray(episodes)
    members, updates = returns.shape
    frame = pd.DataFrame(
        {
            "member": np.repeat(np.arange(members), updates),
            "update": np.tile(np.arange(1, updates + 1), members),
            "env_steps": np.tile(100 * np.arange(1, updates + 1), members),
            "return": returns.ravel(),
            "episodes": episodes.ravel(),
        }
    )
    return frame.assign(**{name: np.repeat(v, updates) for name, v in columns.items()})


def test_curves_leave_a_member_out_from_where_it_diverged():
    """Its last good policy is still evaluated, and has finite returns."""
    frame = frame_of([[1.0, 2.0], [3.0, 50.0]], [[1, 1], [1, 1]])
    data = curves(frame.assign(alive=[True, True, True, False]), num_points=2)
    np.testing.assert_allclose(data["mean"], [2.0, 2.0])
    np.testing.assert_array_equal(data["members"], [2, 1])


def test_curves_weigh_by_episodes_within_a_member_and_average_over_members():
    frame = frame_of(
        [[10.0, 40.0, np.nan, 6.0], [0.0, 0.0, 5.0, 8.0]],
        [[1, 3, 0, 2], [1, 1, 4, 4]],
    )
    data = curves(frame, num_points=2)  # bins: updates 1-2 and 3-4
    assert list(data.columns) == ["env_steps", "mean", "low", "high", "members"]
    np.testing.assert_array_equal(data["env_steps"], [200, 400])
    np.testing.assert_allclose(data["mean"], [(130 / 4 + 0) / 2, (6 + 52 / 8) / 2])
    np.testing.assert_array_equal(data["members"], [2, 2])
    assert (data["low"] <= data["mean"]).all() and (data["mean"] <= data["high"]).all()
    expected = stats.t.interval(0.95, 1, loc=16.25, scale=16.25)  # of 0 and 32.5
    np.testing.assert_allclose(data.loc[0, ["low", "high"]].astype(float), expected)


def test_curves_leave_out_members_and_bins_without_episodes():
    frame = frame_of(
        [[np.nan, 1.0, np.nan], [np.nan, 3.0, 4.0]],
        [[0, 1, 0], [0, 1, 1]],
    )
    data = curves(frame)
    np.testing.assert_array_equal(data["env_steps"], [200, 300])
    np.testing.assert_allclose(data["mean"], [2.0, 4.0])
    np.testing.assert_array_equal(data["members"], [2, 1])


def test_rules_and_members_both_count_in_the_interval_of_a_curve():
    scores = np.random.default_rng(0).normal([0.0, 1.0, 2.0], size=(5, 3))
    rules = [frame_of(of_rule[:, None], np.ones((5, 1), int)).assign(rule=i)
             for i, of_rule in enumerate(scores.T)]  # fmt: skip
    data = curves(pd.concat(rules))
    np.testing.assert_allclose(data[["mean", "low", "high"]].to_numpy()[0], interval(scores))
    assert data["members"].item() == 15


def test_curves_tell_groups_apart():
    frame = frame_of([[1.0], [3.0], [10.0]], [[1], [1], [1]], learning_rate=[0.1, 0.1, 0.2])
    data = curves(frame, by=["learning_rate"])
    np.testing.assert_allclose(data["learning_rate"], [0.1, 0.2])
    np.testing.assert_allclose(data["mean"], [2.0, 10.0])
    np.testing.assert_array_equal(data["members"], [2, 1])


def test_curves_have_no_more_points_than_asked_for():
    frame = frame_of(np.ones((2, 100)), np.ones((2, 100), int))
    data = curves(frame, num_points=10)
    np.testing.assert_array_equal(data["env_steps"], np.arange(1000, 10001, 1000))


@pytest.mark.parametrize("by", [(), ("learning_rate",)])
def test_learning_curves_writes_the_picture_and_its_data(tmp_path, by):
    frame = frame_of([[1.0, 2.0], [3.0, 4.0]], [[1, 1], [2, 2]], learning_rate=[0.1, 0.2])
    path = tmp_path / "deep" / "curves.png"
    data = learning_curves(frame, path, by=by, title="a title")
    assert path.read_bytes().startswith(b"\x89PNG")
    pd.testing.assert_frame_equal(pd.read_csv(path.with_suffix(".csv")), data, check_dtype=False)


def test_a_value_has_one_colour_in_all_panels_and_in_the_legend(tmp_path, monkeypatch):
    """No agent of the smallest step size finished an episode in the first panel."""
    saved = []
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda self, *_, **__: saved.append(self)
    )
    frame = frame_of(
        [[np.nan], [1.0], [2.0], [3.0], [4.0], [5.0]],
        [[0], [1], [1], [1], [1], [1]],
        gamma=[0.9, 0.9, 0.9, 0.99, 0.99, 0.99],
        learning_rate=[0.1, 0.2, 0.3, 0.1, 0.2, 0.3],
    )
    learning_curves(frame, tmp_path / "curves.png", by=("gamma", "learning_rate"))
    (figure,) = saved
    colors = lambda lines: {line.get_label(): tuple(line.get_color()) for line in lines}  # noqa: E731
    legend, first, second = (
        colors(part.get_lines()) for part in (*figure.legends, *figure.axes[:2])
    )
    names = [f"learning_rate {rate} (1 members)" for rate in (0.1, 0.2, 0.3)]
    assert [*second] == names and [*first] == names[1:]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert first.items() <= second.items() and second == dict(
        zip(names, legend.values(), strict=True)
    )
    assert len(set(second.values())) == 3


def test_heat_map_averages_the_final_scores_of_equal_settings(tmp_path):
    frame = frame_of(
        [[0.0, 2.0], [0.0, 4.0], [0.0, 5.0], [9.0, np.nan], [0.0, 7.0]],
        [[1, 1], [1, 1], [1, 1], [1, 0], [1, 1]],
        learning_rate=[0.1, 0.1, 0.2, 0.1, 0.2],
        gamma=[0.9, 0.9, 0.9, 0.99, 0.99],
    )
    path = tmp_path / "deep" / "heat_map.png"
    table = heat_map(frame, path, x="learning_rate", y="gamma")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert (table.columns.name, table.index.name) == ("learning_rate", "gamma")
    np.testing.assert_allclose(table.columns, [0.1, 0.2])
    np.testing.assert_allclose(table.index, [0.9, 0.99])
    np.testing.assert_array_equal(table.to_numpy(), [[3.0, 5.0], [np.nan, 7.0]])


def test_heat_map_keeps_values_without_a_score_and_draws_none_without_any(tmp_path):
    values = {"learning_rate": [0.1, 0.1, 9.0, 9.0], "gamma": [0.9, 0.99, 0.9, 0.99]}
    counts = [[1, 1], [1, 1], [0, 0], [0, 0]]
    returns = [[0.0, 2.0], [0.0, 4.0], [np.nan, np.nan], [np.nan, np.nan]]
    half = heat_map(
        frame_of(returns, counts, **values), tmp_path / "half.png", x="learning_rate", y="gamma"
    )
    np.testing.assert_array_equal(half.to_numpy(), [[2.0, np.nan], [4.0, np.nan]])
    assert (tmp_path / "half.png").exists()
    none = frame_of([[np.nan, np.nan]] * 4, [[0, 0]] * 4, **values)
    assert heat_map(none, tmp_path / "none.png", x="learning_rate", y="gamma").isna().all(axis=None)
    assert not (tmp_path / "none.png").exists()


def test_a_column_that_is_not_there_is_named(tmp_path):
    frame = frame_of([[1.0, 2.0]], [[1, 1]], rate=[0.5])
    assert curves(frame, by="rate").equals(curves(frame, by=["rate"]))
    with pytest.raises(ValueError, match="unknown column 'rates'; did you mean: rate"):
        learning_curves(frame, tmp_path / "curves.png", by="rates")
    with pytest.raises(ValueError, match="unknown column 'x'; it must be one of"):
        heat_map(frame, tmp_path / "map.png", x="x", y="rate")
