"""PPO against DPO, LPO and TA-LPO: does a learned clip carry over to other environments?

All have the same settings but for the drift; the step size of each is tuned on agents of their own.
Of LPO and TA-LPO, name a shipped drift, a file, or a folder of `.npz` files, whose drifts are one
contender together. Killed, it goes on where it was.

python experiments/ppo_vs_lpo.py --drifts lpo ta_lpo
python experiments/ppo_vs_lpo.py --drifts results/lpo_meta_train results/ta_lpo_meta_train \
    --envs CartPole-v1 Acrobot-v1 --total-steps 2e5

OUT holds `scores.csv`, `table.csv`, `scores.png`, and learning curves by environment.
"""

from purejaxrl.running.devices import use_cpu_cores

use_cpu_cores()

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import lpg_meta_test
import matplotlib.figure
import numpy as np
import pandas as pd
from lpg_meta_test import Contender
from rich.table import Table

from algos import dpo, lpo, ppo
from algos.rules import load_rules
from purejaxrl.launch import command
from purejaxrl.running.logs import console
from purejaxrl.study import plots
from purejaxrl.study.stats import interval, probability_of_improvement


@dataclass(frozen=True)
class Settings:
    """The comparison."""

    drifts: tuple[str, ...] = ("lpo", "ta_lpo")
    """Names of shipped drifts, files, or folders of files."""
    envs: tuple[str, ...] = ("CartPole-v1", "Acrobot-v1", "Catch-bsuite", "SpaceInvaders-MinAtar")
    """Where to compare."""
    total_steps: float = 2e5
    """Environment steps of a life."""
    seeds: int = 16
    """Agents of every contender (and of every drift), with the same seeds."""
    num_tuning: int = 8
    """Other agents, on which step sizes are tuned."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Step sizes to try."""
    config: ppo.Config = ppo.Config(num_envs=16, num_steps=64, activation="tanh")
    """PPO's static settings, which all have."""
    out: Path = Path("results/ppo_vs_lpo")
    """Folder."""


def contenders(settings: Settings, env: Any) -> list[Contender]:
    """PPO first; a contender for every drift, those of a folder under one name."""
    rates = settings.learning_rates
    found = [
        Contender("PPO", ppo.make(settings.config, env), ppo.Hypers(), rates),
        Contender("unclipped", ppo.make(settings.config, env), ppo.Hypers(clip_eps=np.inf), rates),
        Contender("DPO", dpo.make(settings.config, env), dpo.Hypers(), rates),
    ]
    for name in settings.drifts:
        for learned, drift in load_rules(name):
            config = replace(learned, **asdict(settings.config))
            hypers = lpo.Hypers(drift=drift)
            found.append(Contender(Path(name).stem, lpo.make(config, env), hypers, rates))
    return found


def compare(name: str, settings: Settings) -> pd.DataFrame:
    """Compare on one environment: a row for every agent."""
    env, params = lpg_meta_test.make_env(name)
    num_updates = int(settings.total_steps) // settings.config.batch_size
    asked = lpg_meta_test.Settings(
        num_agents=settings.seeds, num_tuning=settings.num_tuning, num_updates=num_updates
    )
    rows, frames = [], []
    for i, contender in enumerate(contenders(settings, env)):
        out = settings.out / name / f"{i}-{contender.name}"
        one = lpg_meta_test.tune_and_test(contender, asked, env, params, out)
        about = {"env": name, "contender": contender.name, "drift": i}
        about["learning_rate"] = one.learning_rate
        rows.append(pd.DataFrame(about | {"seed": range(settings.seeds), "score": one.scores}))
        members = one.metrics["member"] + i * settings.seeds
        frames.append(one.metrics.assign(contender=contender.name, member=members))
    plots.learning_curves(
        pd.concat(frames), settings.out / name / "curves.png", by=("contender",), title=name
    )
    return pd.concat(rows)


def tabulate(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean scores, and the chance that an agent does better than one of PPO's."""
    rows = []
    for (env, name), part in frame.groupby(["env", "contender"], sort=False):
        rival = frame[(frame["env"] == env) & (frame["contender"] == "PPO")]
        better = probability_of_improvement(part["score"].to_numpy(), rival["score"].to_numpy())
        rates = "/".join(f"{x:g}" for x in part.groupby("drift")["learning_rate"].first().unique())
        rows.append(
            {"env": env, "contender": name, "step size": rates, "agents": len(part)}
            | {"return": str(interval(part["score"].to_numpy())), "P(better than PPO)": str(better)}
        )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw mean scores with intervals, and every drift's mean, a panel for each environment."""
    names = list(dict.fromkeys(frame["env"]))
    figure = matplotlib.figure.Figure(figsize=(2.8 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, part in frame[frame["env"] == name].groupby("contender", sort=False):
            value, low, high = interval(part["score"].to_numpy())
            spread = [[value - low], [high - value]]
            axes.errorbar([label], [value], spread, fmt="o", capsize=4, color="tab:blue")
            each = part.groupby("drift")["score"].mean()
            axes.plot([label] * len(each), each, "k.", ms=4, alpha=0.6)
        axes.set(title=name, xlim=(-0.5, frame["contender"].nunique() - 0.5))
        axes.tick_params(axis="x", rotation=60)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("return in the last fifth of life", fontsize=9)
    figure.savefig(path, dpi=150)


def main(settings: Settings) -> None:
    frame = pd.concat([compare(name, settings) for name in settings.envs])
    unsound = ~np.isfinite(frame["score"])
    if unsound.any():
        console.print(f"left out: {unsound.sum()} agents that diverged or finished no episode")
    frame = frame[~unsound]
    table = tabulate(frame)
    frame.to_csv(settings.out / "scores.csv", index=False)
    table.to_csv(settings.out / "table.csv", index=False)
    draw(frame, settings.out / "scores.png")
    shown = Table(*table.columns)
    for row in table.itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)
    console.print(f"scores, table and pictures are in {settings.out}", highlight=False)


if __name__ == "__main__":
    command(main, Settings)
