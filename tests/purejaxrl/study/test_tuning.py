"""Tuning chooses the best combination, and tries more values around it."""

import numpy as np
import pytest

from algos import ppo
from purejaxrl.study.tuning import around, choose, is_edge, tune


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


def found(score, grid=RATES, num_rounds=2):
    agents = Agents(score)
    return tune("PPO", grid, ppo.Hypers(), agents, num_rounds), agents.calls


def rates_of(calls):
    return [[c["learning_rate"] for c in choices] for choices in calls]


def test_the_best_combination_inside_the_grid_is_chosen():
    def score(learning_rate, entropy_coef):
        return log_distance(learning_rate, 0.1) - abs(entropy_coef - 0.02)

    grid = RATES | {"entropy_coef": (0.01, 0.02, 0.04)}
    tuned, calls = found(score, grid)
    assert tuned.choice == {"learning_rate": 0.1, "entropy_coef": 0.02}
    assert [len(choices) for choices in calls] == [9, 4, 4] and tuned.num_tried == 17


def test_the_order_of_a_grid_is_of_no_importance():
    shuffled = {"learning_rate": (1, 0.01, 0.1)}
    tuned, calls = found(lambda **c: log_distance(**c, best=0.1), shuffled)
    assert tuned.choice == {"learning_rate": 0.1}
    assert calls == found(lambda **c: log_distance(**c, best=0.1))[1]


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (10.0, [[0.1**0.5, 10.0], [10**0.5, 100.0]]),
        (1e-3, [[1e-1**1.5, 1e-3], [1e-1**2.5, 1e-4]]),
        (0.2, [[0.1**1.5, 0.1**0.5], [0.1**0.75, 0.1**0.25]]),
    ],
)
def test_values_around_the_best_one_are_tried_also_beyond_an_edge(best, tried):
    tuned, calls = found(lambda **c: log_distance(**c, best=best))
    np.testing.assert_allclose(rates_of(calls)[1:], tried)
    closest = min(np.ravel(rates_of(calls[1:])), key=lambda rate: abs(np.log(rate / best)))
    assert tuned.choice["learning_rate"] == pytest.approx(closest)


@pytest.mark.parametrize("best", [1e-9, 0.1, 0.3, 1e9, np.nan])
def test_wherever_the_best_value_is_equally_many_combinations_are_tried(best):
    """Otherwise a contender whose grid was chosen badly would have more tries than another."""

    def score(learning_rate, entropy_coef):
        return log_distance(learning_rate, best) - entropy_coef

    grid = RATES | {"entropy_coef": (0.0, 1e-3, 1e-2)}
    tuned, calls = found(score, grid)
    assert tuned.num_tried == 9 + 2 * 4 == len({str(c) for choices in calls for c in choices})


def test_rounds_are_bounded_and_an_edge_that_stays_best_is_reported(capsys):
    tuned, calls = found(lambda **c: log_distance(**c, best=1e9), num_rounds=2)
    assert tuned.choice["learning_rate"] == pytest.approx(100) and len(calls) == 3
    told = "at the edge of what was tried for learning_rate; a better value may be outside"
    assert told in " ".join(capsys.readouterr().err.split())
    tuned, calls = found(lambda **c: log_distance(**c, best=1e9), num_rounds=0)
    assert tuned.choice == {"learning_rate": 1.0} and len(calls) == 1
    capsys.readouterr()
    found(lambda **c: log_distance(**c, best=0.1), num_rounds=0)
    assert "edge" not in capsys.readouterr().err


def test_new_values_of_a_field_are_tried_with_the_best_values_of_the_others():
    def score(learning_rate, entropy_coef):
        return log_distance(learning_rate, 1.0) - abs(entropy_coef - 0.02)

    grid = {"learning_rate": (0.1, 1.0), "entropy_coef": (0.01, 0.02, 0.04)}
    _, calls = found(score, grid)
    values = np.array([list(choice.values()) for choice in calls[1]])
    bonus = 0.01 * np.sqrt([2, 8])
    expected = [[0.1**0.5, 0.02], [10, 0.02], [1, bonus[0]], [1, bonus[1]]]
    np.testing.assert_allclose(values, expected)


@pytest.mark.parametrize(
    ("best", "new"),
    [
        (0.0, [5e-4, 2.5e-4]),  # an entropy bonus below 0 is not valid
        (1e-3, [5e-4, 0.1**2.5]),
        (1e-2, [0.1**2.5, 0.1]),
    ],
)
def test_a_grid_that_begins_at_zero_is_extended_to_valid_values(best, new):
    values = {"entropy_coef": [0.0, 1e-3, 1e-2]}
    np.testing.assert_allclose(around(values, "entropy_coef", best, ppo.Hypers()), new)
    assert is_edge(values, "entropy_coef", best, ppo.Hypers()) == (best == 1e-2)


def test_values_that_would_not_be_valid_are_not_tried():
    values = {"gamma": [0.9, 0.99]}
    new = around(values, "gamma", 0.99, ppo.Hypers())
    assert len(new) == 2 and all(0.9 < value < 0.99 for value in new)
    arithmetic = around({"entropy_coef": [0.0, 0.01]}, "entropy_coef", 0.01, ppo.Hypers())
    assert arithmetic == [0.005, 0.02]


def test_one_combination_is_not_tried():
    grid = {"learning_rate": (0.1,), "entropy_coef": (0.02,)}
    assert found(None, grid)[0] == ({"learning_rate": 0.1, "entropy_coef": 0.02}, 1)
    assert found(None, {})[0] == ({}, 1)


def test_a_field_with_one_value_is_not_tuned():
    grid = RATES | {"entropy_coef": (0.02,)}
    tuned, calls = found(lambda **c: log_distance(**c, best=0.1), grid)
    assert tuned.choice == {"learning_rate": 0.1, "entropy_coef": 0.02}
    assert [len(choices) for choices in calls] == [3, 2, 2]


def test_where_all_agents_fail_it_is_said(capsys):
    found(lambda **_: np.nan)
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
