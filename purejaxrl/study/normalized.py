"""Normalised scores of the agents of a run on a dataset."""

import pandas as pd

from purejaxrl.offline.files import Card
from purejaxrl.running.logs import say
from purejaxrl.running.result import Result
from purejaxrl.study.stats import final_scores
from purejaxrl.study.tables import describe

OF_AN_AGENT = ("seed", "return", "score")


def save_scores(result: Result, card: Card) -> None:
    """Save OUT/scores.csv, and say the mean of every combination of hyperparameters.

    Args:
        result: the result of the run.
        card: the card of the dataset, with the returns that scores of 0 and 100 stand for.
    """
    frame = pd.DataFrame(map(dict, result.population.rows))
    frame["return"] = final_scores(result.scores)
    frame["score"] = card.score(frame["return"])
    frame.to_csv(result.out / "scores.csv", index=False)
    swept = [name for name in frame if name not in OF_AN_AGENT]
    for values, part in frame.groupby(swept) if swept else [((), frame)]:
        which = "".join(f"{name} {x:g}, " for name, x in zip(swept, values, strict=True))
        say(f"{which}normalised score {describe(part['score'].to_numpy())}")
