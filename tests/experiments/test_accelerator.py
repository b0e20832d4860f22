"""The bench of accelerators: it goes on with what is missing, and stops in time."""

import sys
from pathlib import Path

import pandas as pd
import pytest

BENCH = Path(__file__).parents[2] / "experiments" / "bench"
sys.path.append(str(BENCH))

import accelerator  # noqa: E402

MEASURED = {
    "seconds": [2.0, 1.0, 3.0], "env_steps": 100, "compile_s": 1.0, "peak_mb": 5.0,
    "device_mb": 0.0, "precision": "None",
}  # fmt: skip
PARTS = ("CartPole", "LPG")


def settings(out, **changes):
    chosen = {"parts": PARTS, "members": (1, 2), "agents": (2,), "out": out} | changes
    return accelerator.Settings(**chosen)


@pytest.fixture
def workers(monkeypatch):
    """The workers that were run; one with two members fails."""
    run = []

    def run_worker(command, limit, environment=None):
        if Path(command[1]).name == "device.py":
            return {"device": "abacus"}
        run.append((command, environment))
        return "out of memory" if command[1].name == "ours.py" and command[3] == 2 else MEASURED

    monkeypatch.setattr(accelerator, "run_worker", run_worker)
    return run


def test_each_case_is_measured_once_and_a_failure_is_a_row(workers, tmp_path):
    accelerator.main(settings(tmp_path))
    table = pd.read_csv(tmp_path / "accelerator_abacus.csv")
    assert list(zip(table["part"], table["size"], strict=True)) == [
        ("PPO, CartPole-v1", 1), ("PPO, CartPole-v1", 2), ("LPG", 2),
    ]  # fmt: skip
    assert table["seconds"][0] == 2 and table["steps_per_s"][0] == 50
    assert table["failed"][1] == "out of memory"
    accelerator.main(settings(tmp_path, agents=(2, 4)))
    assert len(workers) == 4
    accelerator.main(settings(tmp_path, retry_failed=True))
    assert [int(command[3]) for command, _ in workers[4:]] == [2]  # the case that failed
    assert len(pd.read_csv(tmp_path / "accelerator_abacus.csv")) == 4
    page = (tmp_path / "accelerator.md").read_text()
    assert (
        "## abacus" in page and "out of memory" in page and "[Data](accelerator_abacus.csv)" in page
    )


def test_no_case_starts_when_the_time_is_over(workers, tmp_path, capsys):
    accelerator.main(settings(tmp_path, minutes=1e-9))
    assert not workers
    assert "3 cases are left" in capsys.readouterr().err


def test_peers_are_measured_where_they_are_given(workers, tmp_path):
    accelerator.main(settings(tmp_path, parts=("Breakout",), peer_python=Path(sys.executable)))
    assert {command[1].name for command, _ in workers} == {"ours.py", "rejax_ppo.py"}


def test_purejaxrl_is_imported_from_its_checkout(workers, tmp_path):
    checkout = tmp_path / "checkout"
    (checkout / "purejaxrl").mkdir(parents=True)
    (checkout / "purejaxrl" / "ppo.py").touch()
    peers = {"peer_python": Path(sys.executable), "purejaxrl": checkout}
    accelerator.main(settings(tmp_path, parts=("Breakout",), **peers))
    paths = {command[1].name: given.get("PYTHONPATH") for command, given in workers}
    found = str(checkout / "purejaxrl")
    assert paths == {"ours.py": None, "rejax_ppo.py": None, "purejaxrl_ppo.py": found}
    assert all(given["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" for _, given in workers)


def test_rows_of_other_settings_do_not_mix(workers, tmp_path):
    accelerator.main(settings(tmp_path))
    with pytest.raises(ValueError, match=r"rule_width: 64 is not valid; .* measured with 256"):
        accelerator.main(settings(tmp_path, rule_width=64))


@pytest.mark.slow
def test_every_part_works_at_the_smallest_scale(tmp_path):
    accelerator.main(
        accelerator.Settings(
            parts=("CartPole", "Breakout", "LPG", "GROOVE", "evolution", "tests"),
            members=(2,), breakout_members=(2,), agents=(2,), pairs=(1,), rule_width=8,
            num_envs=2, repeats=1, case_seconds=600, out=tmp_path,
        )
    )  # fmt: skip
    (path,) = tmp_path.glob("accelerator_*.csv")
    table = pd.read_csv(path)
    assert "failed" not in table and len(table) == 5 + len(accelerator.TESTS)
    assert (table["seconds"] > 0).all()
