"""Tuning chooses the best combination, and widens a grid whose edge is best."""

import numpy as np
import pytest

from algos import ppo
from purejaxrl.study.tuning import choose, outside, tune


class Agents:
    """Two agents, whose score a function of the combination gives."""

    def __init__(self, score):
        self.score, self.calls = score, []

    def __call__(self, choices):
        self.calls.append(choices)
        return np.array([[self.score(**c)] * 2 for c in choices]).T


def log_distance(learning_rate, best, **_):
    return -abs(np.log(learning_rate / best))


RATES = {"learning_rate": (0.01, 0.1, 1.0)}


def found(score, grid=RATES, max_widenings=2):
    agents = Agents(score)
    return tune("PPO", grid, ppo.Hypers(), agents, max_widenings), agents.calls


def test_the_best_combination_inside_the_grid_is_chosen():
    def score(learning_rate, entropy_coef):
        return log_distance(learning_rate, 0.1) - abs(entropy_coef - 0.02)

    grid = RATES | {"entropy_coef": (0.01, 0.02, 0.04)}
    tuned, calls = found(score, grid)
    assert tuned.choice == {"learning_rate": 0.1, "entropy_coef": 0.02}
    assert tuned.num_tried == 9 == len(calls[0]) and len(calls) == 1


def test_the_order_of_a_grid_is_of_no_importance():
    tuned, calls = found(lambda **c: log_distance(**c, best=0.1), {"learning_rate": (1, 0.01, 0.1)})
    assert tuned.choice == {"learning_rate": 0.1} and len(calls) == 1


@pytest.mark.parametrize(("best", "tried"), [(10.0, [10.0, 100.0]), (1e-3, [1e-3, 1e-4])])
def test_a_grid_whose_edge_is_best_is_widened_until_it_is_not(best, tried, capsys):
    tuned, calls = found(lambda **c: log_distance(**c, best=best))
    assert tuned.choice["learning_rate"] == pytest.approx(best)
    new = [[c["learning_rate"] for c in choices] for choices in calls[1:]]
    np.testing.assert_allclose(new, [[value] for value in tried])
    assert tuned.num_tried == 5
    said = capsys.readouterr().err
    assert "PPO: learning_rate=" in said and "is best, at the edge of the grid; trying also" in said


def test_widenings_are_bounded_and_an_edge_that_stays_best_is_reported(capsys):
    tuned, calls = found(lambda **c: log_distance(**c, best=1e9), max_widenings=2)
    assert tuned.choice["learning_rate"] == pytest.approx(100) and len(calls) == 3
    assert (
        "at the edge of the grid after all widenings (2); a better value may be outside"
        in capsys.readouterr().err
    )
    tuned, calls = found(lambda **c: log_distance(**c, best=1e9), max_widenings=0)
    assert tuned.choice == {"learning_rate": 1.0} and len(calls) == 1


def test_widening_one_field_tries_it_with_all_values_of_the_others():
    def score(learning_rate, entropy_coef):
        return log_distance(learning_rate, 1.0) - abs(entropy_coef - 0.02)

    grid = {"learning_rate": (0.1, 1.0), "entropy_coef": (0.01, 0.02, 0.04)}
    tuned, calls = found(score, grid)
    assert tuned.choice == {"learning_rate": 1.0, "entropy_coef": 0.02}
    assert [c["entropy_coef"] for c in calls[1]] == [0.01, 0.02, 0.04]
    assert {c["learning_rate"] for c in calls[1]} == {10.0}


def test_a_grid_is_not_widened_beyond_what_is_valid():
    hypers = ppo.Hypers()
    assert outside({"gamma": [0.9, 0.99]}, {"gamma": 0.99}, hypers) == {}
    assert outside({"entropy_coef": [0.0, 0.01]}, {"entropy_coef": 0.0}, hypers) == {}
    beyond = outside({"entropy_coef": [0.0, 0.01]}, {"entropy_coef": 0.01}, hypers)
    assert beyond == {"entropy_coef": 0.02}


def test_one_combination_is_not_tried():
    grid = {"learning_rate": (0.1,), "entropy_coef": (0.02,)}
    assert found(None, grid)[0] == ({"learning_rate": 0.1, "entropy_coef": 0.02}, 1)
    assert found(None, {})[0] == ({}, 1)


def test_a_field_with_one_value_is_not_widened():
    grid = RATES | {"entropy_coef": (0.02,)}
    tuned, calls = found(lambda **c: log_distance(**c, best=0.1), grid)
    assert tuned.choice == {"learning_rate": 0.1, "entropy_coef": 0.02} and len(calls) == 1


def test_where_all_agents_fail_the_grid_is_not_widened(capsys):
    tuned, calls = found(lambda **_: np.nan)
    assert len(calls) == 1 and tuned.num_tried == 3
    assert "2 of 2 agents diverged or finished no episode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], 1),
        ([[1.0, 9.0], [1.0, np.nan]], 0),  # an agent failed with the second
        ([[np.nan, np.nan], [np.nan, -5.0]], 1),  # the fewest failed with the second
        ([[np.nan, np.nan], [np.nan, np.nan]], 0),
    ],
)
def test_a_combination_where_agents_fail_is_the_last_choice(scores, best):
    assert choose(np.array(scores)) == best


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"learning_rate": ()}, r"PPO: learning_rate: \(\) is not valid; it must be one or more"),
        ({"learning_rate": (1.0, 1.0)}, r"learning_rate: \(1.0, 1.0\) is not valid; .* different"),
        ({"learning_rate": (0.1, -1.0)}, "Hypers.learning_rate: -1.0 is not valid"),
        (
            {"learning_rat": (0.1,)},
            "unknown algos.ppo.Hypers field 'learning_rat'; .*learning_rate",
        ),
    ],
)
def test_a_bad_grid_is_named(grid, message):
    with pytest.raises(ValueError, match=message):
        found(None, grid)
