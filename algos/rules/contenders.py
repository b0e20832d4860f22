"""Learned rules and hand-made baselines as contenders of a comparison, tuned with the same care."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from algos import a2c, dpo, hand_rules, lpg, ppo, residual_lpg
from algos.rules.files import FOLDER, load_rules
from algos.rules.rule import LearnedRule, reads_table
from purejaxrl.algorithm import Algorithm
from purejaxrl.parts.networks import is_discrete
from purejaxrl.study.terms import Contender
from purejaxrl.validation import require_known

Tune = Literal["all", "step-size"]
"""Whether a second hyperparameter is tuned besides the step size."""

SECOND: Mapping[str, Sequence[float]] = {
    "entropy_coef": (0.0, 1e-3, 1e-2),
    "value_coef": (0.1, 0.2, 0.4),
}
"""Values to try of the second hyperparameter, which is the first of these that a contender has."""

CONSTANT = {"final_rate_fraction": 1.0}
"""Agents of a comparison keep their step size: some contenders have no annealing."""

TABLE_RATES = (0.01, 0.03, 0.1, 0.3)
NETWORK_RATES = (1e-4, 3e-4, 1e-3, 3e-3)


def grid_of(env: Any, hypers: Any, tune: Tune, rates: Sequence[float] = ()) -> dict[str, Any]:
    """Return the values to try of an algorithm's hyperparameters.

    Args:
        env: where it learns.
        hypers: its hyperparameters.
        tune: what is tuned.
        rates: step sizes; by default, those for tables or for networks.
    """
    rates = rates or (TABLE_RATES if reads_table(env) else NETWORK_RATES)
    second = [name for name in SECOND if hasattr(hypers, name)][:1] if tune == "all" else []
    return {"learning_rate": rates} | {name: SECOND[name] for name in second}


def of_rule(
    rule: LearnedRule,
    env: Any,
    name: str = "",
    *,
    tune: Tune = "all",
    rates: Sequence[float] = (),
    **settings: Any,
) -> Contender:
    """Make a contender whose agents learn by a rule.

    Args:
        rule: the rule.
        env: gymnax 1.x environment.
        name: what tables call it; the rule's name by default.
        tune, rates: see `grid_of`; a kind of rule can have step sizes of its own.
        settings: settings of `rule.agent`; step sizes are constant by default.

    Raises:
        ValueError: see `rule.agent`.
    """
    has_annealing = hasattr(rule.kind.algorithm.Hypers, "final_rate_fraction")
    algorithm, hypers = rule.agent(env, **(CONSTANT if has_annealing else {}) | settings)
    grid = grid_of(env, hypers, tune, rates or rule.kind.rates)
    return Contender(name or rule.name, algorithm, hypers, grid, rule.shared)


def baselines(env: Any, agent: Any, tune: Tune = "all") -> list[Contender]:
    """Make the hand-made algorithms that fit an environment: A2C, PPO, or both.

    A2C needs discrete actions, PPO needs observations that are arrays.

    Args:
        env: gymnax 1.x environment.
        agent: config of the agents that they are compared with; they have the same environments,
            steps and networks.
        tune: see `grid_of`.
    """
    names = ("num_envs", "num_steps", "torso", "hidden", "activation")
    same, found = {name: getattr(agent, name) for name in names}, []
    if is_discrete(env):
        hypers = a2c.Hypers(max_grad_norm=np.inf if reads_table(env) else 0.5)
        learner = a2c.make(a2c.Config(**same), env)
        found.append(Contender("A2C", learner, hypers, grid_of(env, hypers, tune)))
    if not reads_table(env):
        hypers = ppo.Hypers(**CONSTANT)
        learner = ppo.make(ppo.Config(**same), env)
        found.append(Contender("PPO", learner, hypers, grid_of(env, hypers, tune)))
    return found


def rules_and_a2c(
    rules: Mapping[str, Sequence[LearnedRule]], env: Any, agent: Any, tune: Tune
) -> list[Contender]:
    """Make a contender of every rule, and one of A2C.

    Args:
        rules: the rules by what tables call them.
        env: gymnax 1.x environment with discrete actions.
        agent: see `baselines`.
        tune: see `grid_of`.
    """
    found = [of_rule(one, env, name, tune=tune) for name in rules for one in rules[name]]
    return found + baselines(env, agent, tune)[:1]


MakeLearner = Callable[..., tuple[Algorithm, Any]]
"""`(env, **settings) -> (algorithm, hypers)`; the settings are of the algorithm's `Config`."""


def _learner(algorithm: ModuleType, hypers: Any, env: Any, **settings: Any) -> tuple:
    return algorithm.make(algorithm.Config(**settings), env), hypers


def _by_hand(rule: Any, parameters: Any, env: Any, num_epochs: int = 1, **settings: Any) -> tuple:
    config = lpg.Config(num_predictions=16, num_epochs=num_epochs, **settings)
    return lpg.make(config, env, rule), lpg.Hypers(rule=parameters)


_actor_critic = partial(_by_hand, hand_rules.ActorCritic())
HAND_MADE: Mapping[str, MakeLearner] = {
    "A2C": partial(_learner, a2c, a2c.Hypers()),
    "PPO": partial(_learner, ppo, ppo.Hypers(**CONSTANT), num_steps=64),
    "DPO": partial(_learner, dpo, dpo.Hypers(**CONSTANT), num_steps=64),
    "REINFORCE": partial(_by_hand, hand_rules.Reinforce(), None),
    "hand": partial(_actor_critic, hand_rules.Settings()),
    "evolved": partial(_actor_critic, hand_rules.EVOLVED),
    "evolved_by_age": partial(_actor_critic, hand_rules.EVOLVED_BY_AGE),
    "start": partial(_actor_critic, residual_lpg.Rule.start, num_epochs=4),
    "teacher": partial(_actor_critic, hand_rules.TEACHER, num_epochs=4),
}
"""Hand-made algorithms by name. The last six are rules inside LPG's interface: REINFORCE, and A2C
with its value in the prediction, with usual and with evolved settings. Residual rules start from
`start`, and `teacher` taught `lpg`; both make four passes over each update's experience."""


def check_contender(name: str) -> None:
    """Raise a ValueError unless `contenders_of` can make contenders of this name."""
    if name in HAND_MADE:
        return
    if Path(name).suffix != ".npz" and not Path(name).expanduser().is_dir():
        shipped = [file.stem for file in FOLDER.glob("*.npz")]
        require_known("contender", name, [*HAND_MADE, *shipped])
    load_rules(name)


def contenders_of(
    name: str,
    env: Any,
    label: str = "",
    *,
    tune: Tune = "all",
    rates: Sequence[float] = (),
    **settings: Any,
) -> list[Contender]:
    """Make a hand-made algorithm, or a contender for every rule of a name.

    Args:
        name: a key of `HAND_MADE`, or what `load_rules` takes: the name of a shipped rule, a file,
            or a folder of files.
        env: gymnax 1.x environment whose observations a network can read.
        label: what tables call it; by default the name, without folder and `.npz`.
        tune: see `grid_of`.
        rates: step sizes, for all but the kinds of rules that have step sizes of their own.
        settings: fields of `Config`, the same for all contenders, such as `num_envs` and `hidden`.

    Raises:
        ValueError: see `load_rules` and `of_rule`.
    """
    label = label or Path(name).stem
    if name in HAND_MADE:
        algorithm, hypers = HAND_MADE[name](env, **settings)
        return [Contender(label, algorithm, hypers, grid_of(env, hypers, tune, rates))]
    return [
        of_rule(rule, env, label, tune=tune, rates=rule.kind.rates or rates, **settings)
        for rule in load_rules(name)
    ]
