r"""PPO against DPO, LPO and TA-LPO: does a learned clip carry over to other environments?

All have the same settings except for the drift; the step size of each is tuned on other agents.
For LPO and TA-LPO, name shipped drifts, files, or folders of `.npz` files; the drifts of a folder
are one contender. Killed and started again, it continues.

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

import envs
from algos import dpo, lpo, ppo
from algos.rules import load_rules
from purejaxrl.launch import command, say, updates_for
from purejaxrl.running.commandline import writable_folder
from purejaxrl.running.logs import console
from purejaxrl.study import plots
from purejaxrl.study.stats import interval, probability_of_improvement
from purejaxrl.validation import require, require_count, require_distinct, require_known

RESERVED = ("PPO", "unclipped", "DPO")
"""Names of the contenders without a learned drift."""


@dataclass(frozen=True)
class Settings:
    """Settings of the comparison."""

    drifts: tuple[str, ...] = ("lpo", "ta_lpo")
    """Names of shipped drifts, files, or folders of files."""
    envs: tuple[str, ...] = ("CartPole-v1", "Acrobot-v1", "Catch-bsuite", "SpaceInvaders-MinAtar")
    """Environments to compare in."""
    total_steps: float = 2e5
    """Environment steps of a life."""
    seeds: int = 16
    """Agents of every contender and of every drift, with the same seeds."""
    num_tuning: int = 8
    """Other agents, with which step sizes are tuned."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Step sizes to try."""
    agent: ppo.Config = ppo.Config(num_envs=16, num_steps=64, activation="tanh")
    """Static settings of the agents; drifts keep their own."""
    out: Path = Path("results/ppo_vs_lpo")
    """Folder."""

    def __post_init__(self):
        require_count(self, "seeds", "num_tuning")
        require_distinct(self, "envs", "names of environments")
        for name in self.envs:
            require_known("environment", name, envs.names())
        rates = self.learning_rates
        valid = 0 < len(rates) == len(set(rates)) and all(0 < rate < np.inf for rate in rates)
        require(valid, self, "learning_rates", "one or more finite numbers > 0, all different")
        require(bool(self.drifts), self, "drifts", "one or more drifts")
        for name in self.drifts:
            load_rules(name, lpo.Config)
        labels = [*RESERVED, *map(label_of, self.drifts)]
        differ = len(set(labels)) == len(labels)
        require(differ, self, "drifts", f"files or folders of different names, not {RESERVED}")
        object.__setattr__(self, "out", writable_folder(self.out))


def label_of(name: str) -> str:
    """Name a contender after its drift's file or folder."""
    return Path(name).stem


def contenders(settings: Settings, env: Any) -> list[Contender]:
    """Make PPO, PPO without a clip, DPO, and a contender for every drift of every folder."""
    rates = settings.learning_rates
    found = [
        Contender("PPO", ppo.make(settings.agent, env), ppo.Hypers(), rates),
        Contender("unclipped", ppo.make(settings.agent, env), ppo.Hypers(clip_eps=np.inf), rates),
        Contender("DPO", dpo.make(settings.agent, env), dpo.Hypers(), rates),
    ]
    for name in settings.drifts:
        for learned, drift in load_rules(name, lpo.Config):
            config = replace(learned, **asdict(settings.agent))
            hypers = lpo.Hypers(drift=drift)
            found.append(Contender(label_of(name), lpo.make(config, env), hypers, rates))
    return found


def compare(name: str, num_updates: int, settings: Settings) -> pd.DataFrame:
    """Compare on one environment: a row for every agent."""
    env, params = lpg_meta_test.make_env(name)
    asked = lpg_meta_test.Settings(
        num_agents=settings.seeds, num_tuning=settings.num_tuning, num_updates=num_updates
    )
    rows, frames = [], []
    for i, contender in enumerate(contenders(settings, env)):
        out = settings.out / name / contender.name
        one = lpg_meta_test.tune_and_test(contender, asked, env, params, out)
        about = {"env": name, "contender": contender.name, "drift": i}
        about["learning_rate"] = one.learning_rate
        about |= {"seed": range(settings.seeds), "score": one.scores, "alive": one.alive}
        rows.append(pd.DataFrame(about))
        members = one.metrics["member"] + i * settings.seeds
        frames.append(one.metrics.assign(contender=contender.name, member=members))
    plots.learning_curves(
        pd.concat(frames), settings.out / name / "curves.png", by=("contender",), title=name
    )
    return pd.concat(rows)


def tabulate(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate mean scores, and the chance that an agent is better than one of PPO's.

    Agents that diverged or finished no episode are left out of the means; `agents` says how many
    are in, and `diverged` how many of the others diverged.
    """
    rows = []
    for (env, name), part in frame.groupby(["env", "contender"], sort=False):
        baseline = frame[(frame["env"] == env) & (frame["contender"] == "PPO")]["score"]
        baseline = baseline[np.isfinite(baseline)].to_numpy()
        scores = part["score"][np.isfinite(part["score"])].to_numpy()
        rates = "/".join(f"{x:g}" for x in part.groupby("drift")["learning_rate"].first().unique())
        row = {"env": env, "contender": name, "step size": rates, "agents": len(scores)}
        row["diverged"] = int((~part["alive"]).sum())
        row["return"] = lpg_meta_test.describe(scores)
        both = len(scores) and len(baseline)
        better = probability_of_improvement(scores, baseline) if both else "none"
        rows.append(row | {"P(better than PPO)": str(better)})
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Draw mean scores with intervals, and every drift's mean, a panel for each environment."""
    names = list(dict.fromkeys(frame["env"]))
    figure = matplotlib.figure.Figure(figsize=(2.8 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for label, part in frame[frame["env"] == name].groupby("contender", sort=False):
            part = part[np.isfinite(part["score"])]
            if part.empty:
                continue
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
    num_updates = updates_for(settings.total_steps, settings.agent.batch_size)
    for name in settings.envs:
        lpg_meta_test.require_trainable(name, lambda env, _: contenders(settings, env))
    frame = pd.concat([compare(name, num_updates, settings) for name in settings.envs])
    table = tabulate(frame)
    frame.to_csv(settings.out / "scores.csv", index=False)
    table.to_csv(settings.out / "table.csv", index=False)
    draw(frame, settings.out / "scores.png")
    shown = Table(*table.columns)
    for row in table.itertuples(index=False):
        shown.add_row(*map(str, row))
    console.print(shown)
    say(f"scores, table and pictures are in {settings.out}")


if __name__ == "__main__":
    command(main, Settings)
