"""The comparison of two versions: its statistics, its order of batches, and its errors."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

BENCH = Path(__file__).parents[2] / "experiments" / "bench"
sys.path.append(str(BENCH))

import before_after  # noqa: E402
import processes  # noqa: E402

ROOT = Path(__file__).parents[2]
WORKER = """
import json, sys
name, log, seconds = sys.argv[1:]
print(json.dumps({"compile_s": 1.5}), flush=True)
for _ in sys.stdin:
    with open(log, "a") as file:
        file.write(name)
    print(json.dumps({"seconds": float(seconds), "env_steps": 100}), flush=True)
"""


def pairs_of(ratios: np.ndarray, before_speeds: np.ndarray) -> pd.DataFrame:
    """Batches of 1,000 steps whose speeds have these ratios after / before."""
    return pd.DataFrame(
        {
            "before_seconds": 1000 / before_speeds,
            "before_env_steps": 1000,
            "after_seconds": 1000 / (before_speeds * ratios),
            "after_env_steps": 1000,
        }
    )


def test_the_ratio_is_the_median_over_pairs():
    """The machine's speed doubles between pairs; the ratio of the two medians would be 1."""
    pairs = pairs_of(np.array([0.5, 0.9, 2.0]), np.array([200.0, 100.0, 50.0]))
    row = before_after.summarize(pairs)
    assert row["ratio"] == 0.9
    assert row["before_steps_per_s"] == 100
    assert row["after_steps_per_s"] == 100
    assert row["same_steps"] == "3/3"


def test_the_interval_is_that_of_the_resampled_median():
    """The exact percentiles follow from a binomial distribution.

    The median of 11 resampled ratios is at most the k-th smallest ratio if at least 6 of the 11
    are, and each of them is with probability k / 11.
    """
    ratios = np.linspace(0.9, 1.1, 11)
    at_most = [stats.binom.sf(5, 11, k / 11) for k in range(1, 12)]
    low, high = (ratios[np.searchsorted(at_most, tail)] for tail in (0.025, 0.975))
    order = np.random.default_rng(0).permutation(11)
    row = before_after.summarize(pairs_of(ratios[order], np.full(11, 300.0)))
    assert (row["low"], row["ratio"], row["high"]) == pytest.approx((low, 1.0, high), abs=1e-4)
    assert (low, high) == pytest.approx((0.94, 1.06))


def test_pairs_with_unequal_steps_are_counted():
    pairs = pairs_of(np.ones(4), np.full(4, 100.0))
    pairs.loc[2, "after_env_steps"] = 500
    pairs.loc[2, "after_seconds"] /= 2
    row = before_after.summarize(pairs)
    assert (row["ratio"], row["same_steps"]) == (1, "3/4")


def test_versions_take_turns_in_going_first(tmp_path):
    script, log = tmp_path / "worker.py", tmp_path / "log"
    script.write_text(WORKER)
    command = [sys.executable, script]
    with (
        before_after.Worker([*command, "B", log, 2.0]) as before,
        before_after.Worker([*command, "A", log, 1.0]) as after,
    ):
        pairs = before_after.train_pairs(before, after, 3)
        assert before.compile_s == 1.5
    assert log.read_text() == "BAABBA"
    assert list(pairs["first"]) == ["before", "after", "before"]
    assert (pairs["before_seconds"] == 2).all()
    assert (pairs["after_seconds"] == 1).all()
    assert before_after.summarize(pairs)["ratio"] == 2


def test_a_worker_that_fails_is_named_with_its_error():
    with pytest.raises(ValueError, match=r"worker -c raise OSError\('no'\): OSError: no"):
        before_after.Worker([sys.executable, "-c", "raise OSError('no')"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"before": Path("nowhere")}, "before: .*nowhere.* it must be a checkout"),
        ({"pairs": 0}, "pairs: 0 is not valid; it must be an integer >= 1"),
        ({"cases": ()}, r"cases: \(\) is not valid; it must be one or more of ppo"),
        ({"cases": ("pop",)}, "unknown case 'pop'; did you mean: ppo"),
    ],
)
def test_invalid_settings_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        before_after.Settings(**({"before": ROOT, "after": ROOT} | changes))


def test_every_case_has_a_worker():
    text = (BENCH / "workers" / "train_batches.py").read_text()
    assert all(f'"{case}": ' in text for case in before_after.CASES)


def test_a_wide_table_is_printed_whole(tmp_path, capsys):
    """One line per row, also where there is no terminal and so no width."""
    frame = pd.DataFrame({f"a_name_of_a_column_{i}": [i, i] for i in range(12)})
    processes.write_table(frame, tmp_path / "folder" / "table.csv")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].split() == list(frame.columns)
    assert len(lines) == 1 + 2 + 1
    assert len(pd.read_csv(tmp_path / "folder" / "table.csv")) == 2


def test_an_empty_table_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="nothing was measured"):
        processes.write_table(pd.DataFrame(), tmp_path / "table.csv")


def test_the_table_is_written_after_each_case_that_was_measured(tmp_path):
    path, seen = tmp_path / "table.csv", []

    def rows_of(case: str) -> list[dict]:
        seen.append(len(pd.read_csv(path)) if path.exists() else 0)
        return [] if case == "fails" else [{"case": case}, {"case": case}]

    processes.measure_cases(["fails", "a", "b"], rows_of, path)
    assert seen == [0, 0, 2]
    assert list(pd.read_csv(path)["case"]) == ["a", "a", "b", "b"]
    with pytest.raises(ValueError, match="every worker failed"):
        processes.measure_cases(["fails"], rows_of, path)
