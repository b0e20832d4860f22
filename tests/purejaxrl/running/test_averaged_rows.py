"""Averaging updates into rows, against plain Python; and that it changes no result."""

import numpy as np
import pytest

from purejaxrl.running.runner import RunOptions
from purejaxrl.running.tables import average_updates
from tests.helpers import assert_equal, train

LENGTH = 7


def metrics():
    rng = np.random.default_rng(0)
    episodes = rng.integers(0, 3, (2, LENGTH))
    return {
        "episodes": episodes,
        "return": np.where(episodes > 0, rng.normal(size=(2, LENGTH)), np.nan),
        "loss": np.where(rng.random((2, LENGTH)) < 0.2, np.nan, rng.normal(size=(2, LENGTH))),
        "env_steps": np.arange(1, LENGTH + 1) * np.array([[8], [16]]),
        "alive": np.ones((2, LENGTH), bool),
    }


def mean(values, weights):
    kept = [(x, w) for x, w in zip(values, weights, strict=True) if not np.isnan(x)]
    total = sum(w for _, w in kept)
    return sum(x * w for x, w in kept) / total if total else np.nan


@pytest.mark.parametrize("first", [0, 3, 4, 9])
@pytest.mark.parametrize("every", [2, 3, 4, 100])
def test_rows_are_averages_between_multiples(first, every):
    given = metrics()
    found, last = average_updates(given, first, every, ("return",))
    rows = {}
    for i in range(LENGTH):
        rows.setdefault((first + i) // every, []).append(i)
    assert last.tolist() == [first + 1 + row[-1] for row in rows.values()]
    for column, row in enumerate(rows.values()):
        for member in range(2):
            at = {name: values[member, row] for name, values in given.items()}
            ones = np.ones(len(row))
            expected = {
                "episodes": at["episodes"].sum(),
                "return": mean(at["return"], at["episodes"]),
                "loss": mean(at["loss"], ones),
                "env_steps": at["env_steps"][-1],
                "alive": True,
            }
            for name, value in expected.items():
                np.testing.assert_allclose(found[name][member, column], value, err_msg=name)


def test_one_update_a_row_is_what_it_was():
    given = metrics()
    found, last = average_updates(given, 5, 1, ("return",))
    assert found is given and last.tolist() == [6, 7, 8, 9, 10, 11, 12]


def test_it_changes_no_result_and_resumes(tmp_path):
    plain = train(tmp_path / "plain", 7, members=2)
    rows = train(tmp_path / "rows", 4, members=2, chunk=2, log_every=2, horizon=7)
    assert rows.metrics["update"].tolist() == [2, 4] * 2
    rows = train(tmp_path / "rows", 7, members=2, chunk=4, log_every=2, resume=True)
    assert rows.metrics["update"].tolist() == [2, 4, 6, 7] * 2
    assert_equal(rows.state, plain.state)
    total = plain.metrics.groupby("member")["episodes"].sum()
    assert (rows.metrics.groupby("member")["episodes"].sum() == total).all()


@pytest.mark.parametrize("name", ["chunk", "eval_every"])
def test_rows_must_not_cross_a_boundary(name):
    with pytest.raises(ValueError, match=rf"RunOptions\.{name}: 6 is not .* log_every = 4"):
        RunOptions(**({"chunk": 8, "log_every": 4} | {name: 6}))
