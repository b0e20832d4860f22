"""Contenders over a suite of environments: normalised scores, interquartile means, one picture.

These functions read the scores of `compare`, of all environments together. Intervals treat
environments as fixed, as in Agarwal et al. 2021 (arXiv 2108.13264), and agents and rules as random
samples. A rule that is tested in several environments counts as one.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pandas as pd

from purejaxrl.running.evaluate import play_at_random
from purejaxrl.running.logs import say
from purejaxrl.running.population import seeds
from purejaxrl.study.stats import (
    PROBABILITY,
    Estimate,
    iqm_difference,
    iqm_interval,
    suite_interval,
)
from purejaxrl.study.tables import by_agent, chance_to_win, format_estimates, print_table
from purejaxrl.study.terms import Problem

Column = Literal["score", "greedy"]
"""The column of scores that a report is about."""
COLUMNS: Mapping[Column, str] = {
    "score": "return of sampled actions in the last fifth of life",
    "greedy": "return of the final policy's most likely actions",
}
"""Descriptions of the columns."""
RANDOM_EPISODES = 1024
"""Episodes of random actions in an environment, or on each level. Some returns are very noisy."""


def with_random(
    scores: pd.DataFrame, problem: Problem, num_episodes: int = RANDOM_EPISODES
) -> pd.DataFrame:
    """Add the column `random`: the mean return of random actions on every agent's level.

    Args:
        scores: what `compare` returns, of one problem.
        problem: the problem.
        num_episodes: see `random_scores`.
    """
    random = random_scores(problem, scores["agent"].max() + 1, num_episodes)
    return scores.assign(random=random[scores["agent"]])


def random_scores(
    problem: Problem, num_agents: int, num_episodes: int = RANDOM_EPISODES
) -> np.ndarray:
    """Return the mean return of uniformly random actions, on the level of every test agent.

    Args:
        problem: what contenders learn.
        num_agents: test agents, as in `compare`.
        num_episodes: episodes on every level; where all agents have one level, it is played
            `num_episodes` times in all.

    Returns:
        Scores `[num_agents]`; NaN: no episode finished.
    """
    levels = problem.levels(seeds(num_agents))

    def one(key: jax.Array, level: object) -> jax.Array:
        played = play_at_random(problem.env, key, level, num_episodes=num_episodes)
        return jnp.nanmean(jnp.where(played.finished, played.ret, jnp.nan))

    if levels is None:
        score = jax.jit(one)(jax.random.key(0), problem.env_params)
        return np.full(num_agents, score)
    keys = jax.random.split(jax.random.key(0), num_agents)
    return np.asarray(jax.jit(lambda *x: jax.lax.map(lambda x: one(*x), x))(keys, levels))


def normalise(scores: pd.DataFrame, reference: Sequence[str]) -> pd.DataFrame:
    """Scale scores in every environment: 0 is a random policy's mean, 1 is the reference's.

    An agent without a score, because it diverged or finished no episode, is worth as much as
    random actions on its level. To leave it out would favour contenders that diverge.

    Args:
        scores: what `compare` and `with_random` return, of several environments.
        reference: names of contenders; the first one that an environment has is its reference.

    Returns:
        The same rows, `score` normalised, and a column `reference`: the normalised score of the
        reference's agent of this index, minus 1.

    Raises:
        ValueError: if an environment has no reference, or one that is not above a random policy.
    """

    def one(name: str, part: pd.DataFrame) -> pd.DataFrame:
        random, theirs = scale(name, part, reference)
        best = theirs.mean()
        above = (theirs - best) / (best - random)
        score = part["score"].fillna(part["random"])
        return part.assign(
            score=(score - random) / (best - random),
            reference=part["agent"].map(above).fillna(0.0),
        )

    return pd.concat([one(*each) for each in scores.groupby("env", sort=False)])


def scale(
    name: str, scores: pd.DataFrame, reference: Sequence[str]
) -> tuple[float, "pd.Series[float]"]:
    """Return the scores that become 0 and 1 in one environment.

    Args:
        name: name of the environment.
        scores, reference: see `normalise`.

    Returns:
        A random policy's mean score; and the scores of the reference, by agent.

    Raises:
        ValueError: see `normalise`.
    """
    known = set(scores["contender"])
    chosen = next((one for one in reference if one in known), None)
    random = scores["random"].mean()
    filled = scores.assign(score=scores["score"].fillna(scores["random"]))
    theirs = filled[filled["contender"] == chosen].groupby("agent")["score"].mean()
    best = theirs.mean()
    if not best > random:
        raise ValueError(
            f"env: {name!r} is not valid; its reference, {chosen}, must have a mean score "
            f"above a random policy's, {random:.4g}, not {best:.4g}"
        )
    return random, theirs


def comparable(scores: pd.DataFrame, reference: Sequence[str]) -> pd.DataFrame:
    """Leave out the environments where `normalise` has no unit, and say which they are.

    Args:
        scores, reference: see `normalise`.

    Raises:
        ValueError: see `normalise`, if no environment is left.
    """
    errors = {}
    for name, part in scores.groupby("env", sort=False):
        try:
            scale(name, part, reference)
        except ValueError as error:
            errors[name] = error
    if len(errors) == scores["env"].nunique():
        raise next(iter(errors.values()))
    for name, error in errors.items():
        say(f"{name} is left out: {error}")
    return scores[~scores["env"].isin(errors)]


def stack(scores: pd.DataFrame, contender: str, column: str = "score") -> np.ndarray:
    """Return a contender's scores, or another column, as `[num_envs, num_agents, num_rules]`.

    Raises:
        ValueError: unless it has as many agents and the same rules in every environment.
    """
    found = scores[scores["contender"] == contender]
    by_env = {name: by_agent(part, column) for name, part in found.groupby("env", sort=False)}
    absent = sorted(set(scores["env"]) - set(by_env))
    shapes = {name: each.shape for name, each in by_env.items()}
    lacking = any(np.isnan(each).any() for each in by_env.values())
    if absent or lacking or len(set(shapes.values())) > 1:
        raise ValueError(
            f"contender: {contender!r} is not valid; it must have as many agents and the same "
            f"rules in every environment, not (agents, rules) = {shapes}, and none in {absent}"
        )
    return np.stack([by_env[name] for name in dict.fromkeys(scores["env"])])


def probability_of_improvement(scores: pd.DataFrame, contender: str, other: str) -> Estimate:
    """Estimate the chance to be better than another contender, averaged over environments.

    Where every agent has its own level, contenders are compared level by level; otherwise, any
    agent with any other.
    """
    wins = []
    for name in dict.fromkeys(scores["env"]):
        part = scores[scores["env"] == name]
        x, y = (by_agent(part[part["contender"] == one]) for one in (contender, other))
        wins.append(chance_to_win(x, y, bool(part["own_level"].all())))
    return suite_interval(wins, num_shared=2, bounds=PROBABILITY)


def tabulate(scores: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Tabulate the interquartile means of all contenders, and how they compare with one of them.

    Args:
        scores: what `normalise` returns.
        baseline: the contender that the others are compared with.

    Returns:
        A row for each contender, best first: its number of rules, and value, low and high of its
        interquartile mean (`iqm`), of the difference from the baseline's (`gain`), and of the
        chance to be better (`wins`).
    """
    others, rows = stack(scores, baseline), []
    above = stack(scores, baseline, "reference")[..., 0]  # the same for every rule
    for name in dict.fromkeys(scores["contender"]):
        found = stack(scores, name)
        row = {"contender": name, "rules": found.shape[2]} | _fields(
            "iqm", iqm_interval(found, above)
        )
        if name != baseline:
            row |= _fields("gain", iqm_difference(found, others, above))
            row |= _fields("wins", probability_of_improvement(scores, name, baseline))
        rows.append(row)
    return pd.DataFrame(rows).sort_values("iqm", ascending=False, ignore_index=True)


def _fields(name: str, found: Estimate) -> dict[str, float]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def by_environment(scores: pd.DataFrame) -> pd.DataFrame:
    """Return mean scores: a row for each contender, a column for each environment, in order."""
    means = scores.pivot_table(index="contender", columns="env", values="score", aggfunc="mean")
    return means.loc[list(dict.fromkeys(scores["contender"])), list(dict.fromkeys(scores["env"]))]


def draw(table: pd.DataFrame, means: pd.DataFrame, path: Path) -> None:
    """Draw the interquartile means with their intervals, beside the means in every environment.

    Args:
        table: what `tabulate` returned; its order is that of the picture.
        means: what `by_environment` returned.
        path: the file.
    """
    names = list(table["contender"])
    means = means.loc[names]
    figure = matplotlib.figure.Figure(
        figsize=(4.5 + 0.55 * means.shape[1], 1.8 + 0.32 * len(names)), layout="constrained"
    )
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1 + 0.55 * means.shape[1]))
    value, low, high = (table[f"iqm{end}"] for end in ("", "_low", "_high"))
    left.errorbar(value, range(len(names)), xerr=[value - low, high - value], fmt="o", capsize=4)
    left.axvline(1, color="grey", lw=0.8, ls=":")
    left.set(xlabel="interquartile mean\n(0: random, 1: the reference)")
    left.spines[["top", "right"]].set_visible(False)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    right.imshow(means, aspect="auto", cmap="RdBu", vmin=0, vmax=2)
    for (i, j), mean in np.ndenumerate(means.to_numpy()):
        right.text(j, i, f"{mean:.2f}", ha="center", va="center", fontsize=7)
    right.set_xticks(range(means.shape[1]), means.columns, rotation=60, ha="right", fontsize=8)
    right.tick_params(axis="y", left=False)
    right.set(title="mean by environment")
    figure.savefig(path, dpi=150)


def report(
    scores: pd.DataFrame,
    reference: Sequence[str],
    baseline: str,
    out: Path,
    column: Column = "score",
) -> None:
    """Normalise scores, and report them as `write` does.

    Environments where the reference is not above a random policy are left out.

    Args:
        scores, reference: see `normalise`.
        baseline: see `tabulate`.
        out: the folder.
        column: the scores to report.
    """
    scores = comparable(scores.assign(score=scores[column]), reference)
    write(normalise(scores, reference), baseline, out, COLUMNS[column])


def write(scores: pd.DataFrame, baseline: str, out: Path, title: str) -> pd.DataFrame:
    """Write `suite.csv`, `environments.csv` and `suite.png` to OUT, and print the table.

    Args:
        scores, baseline: see `tabulate`.
        out: the folder.
        title: what the scores are.

    Returns:
        The table of interquartile means.
    """
    out.mkdir(parents=True, exist_ok=True)
    table, means = tabulate(scores, baseline), by_environment(scores)
    table.to_csv(out / "suite.csv", index=False, float_format="%.5g")
    means.to_csv(out / "environments.csv", float_format="%.5g")
    draw(table, means, out / "suite.png")
    shown = table[["contender", "rules"]].copy()
    headings = {"iqm": "IQM", "gain": f"less {baseline}'s", "wins": f"P(better than {baseline})"}
    for name, heading in headings.items():
        columns = [name, f"{name}_low", f"{name}_high"]  # one contender alone has no differences
        shown[heading] = format_estimates(*table.reindex(columns=columns).to_numpy().T)
    print_table(shown, title=f"{means.shape[1]} environments: {title}")
    say(f"table and picture are in {out}")
    return table
