"""Normalised scores, said for each combination of hyperparameters, also where there are none."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from purejaxrl.offline.files import Card
from purejaxrl.study.normalized import save_scores

CARD = Card("Pendulum-v1", "someone", -1000.0, -200.0)


def save(out: Path, rows, returns, monkeypatch) -> list[str]:
    said = []
    monkeypatch.setattr("purejaxrl.study.normalized.say", said.append)
    monkeypatch.setattr("purejaxrl.study.normalized.final_scores", lambda scores: np.array(scores))
    population = SimpleNamespace(rows=rows)
    save_scores(SimpleNamespace(population=population, scores=returns, out=out), CARD)
    return said


def test_combinations_are_not_pooled(tmp_path, monkeypatch):
    rows = [{"alpha": a, "seed": s} for a in (0.0, 2.5) for s in (0, 1)]
    said = save(tmp_path, rows, [-1000.0, -1000.0, -200.0, -200.0], monkeypatch)
    assert said == [
        "alpha 0, normalised score 0 [0, 0]", "alpha 2.5, normalised score 100 [100, 100]"
    ]  # fmt: skip
    frame = pd.read_csv(tmp_path / "scores.csv")
    assert list(frame["score"]) == pytest.approx([0, 0, 100, 100])


def test_agents_without_a_score_are_no_error(tmp_path, monkeypatch):
    said = save(tmp_path, [{"seed": 0}, {"seed": 1}], [np.nan, np.nan], monkeypatch)
    assert said == ["normalised score none"]
