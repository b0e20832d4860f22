"""A learned rule and the agents that learn by it, the same for every kind of rule.

A rule is a network in the `Hypers` of an algorithm: LPG's rule, LPO's drift. Its parameters are one
field of the `Hypers`. The static settings of the algorithm belong to the agent, except for
those that define the network.
"""

import copy
import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax

from algos import (
    disco,
    lpg,
    lpo,
    optimistic_lpg,
    residual_lpg,
    ta_lpg,
    ta_lpo,
    ta_residual_lpg,
)
from purejaxrl.algorithm import Algorithm
from purejaxrl.identity import module_name
from purejaxrl.parts.networks import num_rows
from purejaxrl.validation import check_hypers, require_known


class Kind(NamedTuple):
    """An algorithm whose rules can be saved, loaded and used."""

    algorithm: ModuleType
    """Has `Config`, `Hypers`, `make(config, env)`, and for its field FIELD, such as `rule`,
    `init_FIELD(key, config) -> parameters` and `Config.make_FIELD() -> flax module`."""
    field: str
    """The field of `Hypers` that holds the parameters of a rule."""
    rates: tuple[float, ...] = ()
    """Step sizes that suit its agents everywhere; (): what suits tables or networks."""
    table_epochs: int | None = None
    """Passes of agents with a table over an update's experience; None: the number in the config."""

    @property
    def name(self) -> str:
        """What a rule's file calls the algorithm: its module."""
        return module_name(self.algorithm.Config)

    def init(self, key: jax.Array, config: Any) -> Any:
        """Draw the parameters of an untrained rule."""
        return getattr(self.algorithm, f"init_{self.field}")(key, config)

    def network(self, config: Any) -> Any:
        """Return the network that a config describes; two are equal if their settings are."""
        return getattr(config, f"make_{self.field}")()


KINDS = [
    Kind(lpg, "rule", table_epochs=1),
    Kind(ta_lpg, "rule", table_epochs=1),
    Kind(optimistic_lpg, "rule", table_epochs=1),
    Kind(residual_lpg, "rule"),
    Kind(ta_residual_lpg, "rule"),
    Kind(lpo, "drift"),
    Kind(ta_lpo, "drift"),
    Kind(disco, "rule", rates=(3e-4, 1e-3, 3e-3, 1e-2)),
]
"""What a file can hold. Add an algorithm of your own: `KINDS.append(Kind(my_module, "rule"))`."""


def kind_named(name: str) -> Kind:
    """Return the kind of this name.

    Raises:
        ValueError: for an unknown name, with a suggestion.
    """
    kinds = {kind.name: kind for kind in KINDS}
    require_known("algorithm of a rule", name, kinds)
    return kinds[name]


def reads_table(env: Any) -> bool:
    """Whether the observations of an environment index a table."""
    return num_rows(env.observation_space(env.default_params)) is not None


@dataclasses.dataclass(frozen=True, eq=False)
class LearnedRule:
    """A rule: what it is, and how to learn by it."""

    name: str
    """Its name among the shipped rules, or its file's without `.npz`."""
    kind: Kind
    """The algorithm that it belongs to."""
    config: Any
    """The algorithm's config that it was learned with."""
    params: Any
    """Its parameters: a pytree of float32 arrays."""
    card: Path | None = None
    """Its model card, if there is one."""

    @property
    def shared(self) -> tuple[str, ...]:
        """Fields of `Hypers` that are equal for all agents of the rule: `populate(shared=…)`."""
        return (self.kind.field,)

    @property
    def network(self) -> Any:
        """The rule's flax module."""
        return self.kind.network(self.config)

    def untrained(self, key: jax.Array) -> "LearnedRule":
        """Return a rule of the same config whose parameters are random."""
        params = self.kind.init(key, self.config)
        return dataclasses.replace(self, name="untrained", params=params, card=None)

    def agent(self, env: Any, **settings: Any) -> tuple[Algorithm, Any]:
        """Make the algorithm of agents that learn by the rule, and their hyperparameters.

        With a rule of LPG, agents with a table make one pass over their experience, unless
        `num_epochs` is set: on grid-worlds an earlier version of `lpg` had 0.81 of the optimum
        in four passes, and 0.87 in one.

        Args:
            env: gymnax 1.x environment.
            settings: fields of the algorithm's `Config`, such as `num_envs`, `hidden` or
                `optimizer`, and of its `Hypers`, such as `learning_rate`. The others are those of
                the rule's config, and the defaults of `Hypers`.

        Returns:
            `(algorithm, hypers)`, the rule's parameters in `hypers`.

        Raises:
            ValueError: for an unknown or invalid setting, or one that would change the rule's
                network; or if the algorithm does not fit the environment.
        """
        hypers_of = self.kind.algorithm.Hypers
        static = {field.name for field in dataclasses.fields(self.config)}
        traced = {field.name for field in dataclasses.fields(hypers_of)} - {self.kind.field}
        for name in settings:
            require_known(f"setting of an agent of rule {self.name!r}", name, static | traced)
        passes = self.kind.table_epochs if reads_table(env) else None
        chosen = {} if passes is None else {"num_epochs": passes}
        chosen |= {name: settings[name] for name in settings.keys() & static}
        config = dataclasses.replace(self.config, **chosen)
        if self.kind.network(config) != self.network:
            self._refuse(chosen)
        chosen = {name: settings[name] for name in settings.keys() & traced}
        hypers = hypers_of(**chosen, **{self.kind.field: self.params})
        check_hypers(hypers)
        return self.kind.algorithm.make(config, env), hypers

    def _refuse(self, settings: dict[str, Any]) -> None:
        """Raise a ValueError that names a setting that would change the rule's network.

        One setting alone need not make a valid config, so it is set without validation.
        """
        for name, value in settings.items():
            changed = copy.copy(self.config)
            object.__setattr__(changed, name, value)
            if self.kind.network(changed) != self.network:
                raise ValueError(
                    f"{name}: {value!r} is not valid; rule {self.name!r} was learned with "
                    f"{getattr(self.config, name)!r}, which decides what its network is"
                )
