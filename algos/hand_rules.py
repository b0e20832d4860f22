"""Rules made by hand inside LPG's interface: what a learned rule could be, and its teachers.

A hand-made rule is a function of `RuleInputs`, as a learned one is. `lpg.make(config, env, rule)`
trains agents by it, and `distillation.py` regresses a network on it.

`ActorCritic` writes a value into the prediction y. Its m categories stand for m values, evenly
spaced on a symmetric logarithmic scale (Hafner et al. 2023, arXiv 2301.04104): z₁ … zₘ, and
V(y) = symexp(Σ yᵢ zᵢ). A masked y(s'), which is zero, has the value 0.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from algos.lpg_rule import RuleInputs, Target, charge_steps
from purejaxrl.parts.returns import generalized_advantage
from purejaxrl.parts.symlog import symexp, symlog
from purejaxrl.validation import hyper

LEAST_SCALE = 1e-3
"""The least root mean square of π̂ by which π̂ is divided."""


class Settings(struct.PyTreeNode):
    """What `ActorCritic` can be tuned, swept or evolved over. Traced."""

    gae_lambda: float = hyper(0.95, at_least=0, at_most=1)
    """Decay of the eligibility trace."""
    target_width: float = hyper(0.75, above=0)
    """Standard deviation of the target ŷ, in spacings of the values."""
    entropy_coef: float = hyper(0.0, at_least=0)
    """Weight of the policy's entropy at the start of life."""
    entropy_decay: float = hyper(0.0, at_least=0, at_most=1)
    """Fraction of that weight that is gone at the end of life; it falls linearly."""
    negative: float = hyper(1.0, at_least=0)
    """Weight of negative advantages; that of positive ones is 1."""
    prob_power: float = hyper(0.0, at_least=0)
    """Negative advantages are weighted by π(a|s) to this power, which spares rare actions."""
    scale_power: float = hyper(0.0, at_least=0, at_most=1)
    """π̂ is divided by its root mean square over the experience, to this power."""
    step_cost: float = hyper(0.0, at_least=0)
    """What a step costs, in units of the rewards that the rule reads (`lpg_rule.charge_steps`).
    Without rewards, the values of states sink below 0, the initial value in a table, so that new
    states attract (Koenig & Simmons 1996, "The effect of representation and knowledge on
    goal-directed exploration with reinforcement-learning algorithms")."""


EVOLVED = Settings(
    gae_lambda=0.989, target_width=1.65, entropy_coef=0.0037, negative=0.43, prob_power=0.028
)
"""What evolution found without knowledge of age, by the return of whole lives in the worlds of
`rules/worlds.py`, at step sizes, discounts and lengths of life drawn anew for each."""
EVOLVED_BY_AGE = Settings(
    gae_lambda=0.979, target_width=1.26, entropy_coef=0.0081, entropy_decay=0.84,
    negative=0.50, prob_power=0.051,
)  # fmt: skip
"""The same with an entropy bonus that falls with age."""


TEACHER = Settings(
    gae_lambda=0.96, target_width=2.0, entropy_coef=0.003, negative=0.72, prob_power=0.067,
    step_cost=0.02,
)  # fmt: skip
"""What the shipped `lpg` was taught: close to what evolution found for agents that make four passes
over their experience (60 generations). It uses neither age nor the scale of π̂ over the rollout,
because LPG's network cannot see them."""


class Unbounded(NamedTuple):
    """`Settings` as numbers without bounds, float32 []: what evolution perturbs."""

    gae_lambda: jax.Array
    target_width: jax.Array
    entropy_coef: jax.Array
    entropy_decay: jax.Array
    negative: jax.Array
    prob_power: jax.Array
    scale_power: jax.Array
    step_cost: jax.Array

    def settings(self) -> Settings:
        """Map every number into its bounds; 0 becomes a usual value."""
        return Settings(
            gae_lambda=jax.nn.sigmoid(self.gae_lambda + 3),
            target_width=0.75 * jnp.exp(self.target_width),
            entropy_coef=0.01 * jnp.exp(self.entropy_coef),
            entropy_decay=jax.nn.sigmoid(self.entropy_decay),
            negative=jnp.exp(self.negative),
            prob_power=0.5 * jax.nn.softplus(self.prob_power - 1),
            scale_power=jax.nn.sigmoid(self.scale_power),
            step_cost=0.003 * jnp.exp(self.step_cost),
        )

    @classmethod
    def of(cls, settings: Settings) -> "Unbounded":
        """Invert `settings`. Values at or near a bound are first moved inside: by 1e-3, but
        `entropy_coef` to at least 1e-5 and `step_cost` to at least 1e-6.
        """
        logit = lambda x: jax.scipy.special.logit(jnp.clip(x, 1e-3, 1 - 1e-3))  # noqa: E731
        power = jnp.maximum(settings.prob_power, 1e-3)
        return cls(
            gae_lambda=logit(settings.gae_lambda) - 3,
            target_width=jnp.log(settings.target_width / 0.75),
            entropy_coef=jnp.log(jnp.maximum(settings.entropy_coef, 1e-5) / 0.01),
            entropy_decay=logit(settings.entropy_decay),
            negative=jnp.log(jnp.maximum(settings.negative, 1e-3)),
            prob_power=jnp.log(jnp.expm1(2 * power)) + 1,
            scale_power=logit(settings.scale_power),
            step_cost=jnp.log(jnp.maximum(settings.step_cost, 1e-6) / 0.003),
        )


@dataclass(frozen=True)
class ActorCritic:
    """Advantage actor-critic, with its value in y.

    π̂ is the symlog of the generalised advantage, and an entropy bonus in REINFORCE's form,
    -β log π(a|s). ŷ is a Gaussian around the symlog of the λ-return. Minimising KL(y ‖ ŷ) averages
    the log ŷ of a state, so y becomes a Gaussian around the mean of these symlogs. V(y) is below
    the mean return where returns vary much.
    """

    largest: float = 25.0
    """The values are in [-largest, largest], in units of the rewards that the rule reads."""

    def values(self, num_predictions: int) -> jax.Array:
        """Return z, the values on the logarithmic scale: float32 `[num_predictions]`.

        Raises:
            ValueError: if there are fewer than two.
        """
        if num_predictions < 2:
            raise ValueError(
                f"num_predictions: {num_predictions} is not valid; it must be an integer >= 2, "
                "because this rule writes a distribution of returns into the prediction"
            )
        limit = symlog(jnp.float32(self.largest))
        return jnp.linspace(-limit, limit, num_predictions)

    def value(self, prediction: jax.Array) -> jax.Array:
        """Return V(y) of predictions `[..., num_predictions]`."""
        return symexp((prediction * self.values(prediction.shape[-1])).sum(-1))

    def apply(self, settings: Settings, x: RuleInputs) -> Target:
        """Compute π̂ and ŷ."""
        advantage, value = self.estimate(settings, x)
        return self.advise(settings, x, advantage, symlog(advantage + value))

    def estimate(self, settings: Settings, x: RuleInputs) -> tuple[jax.Array, jax.Array]:
        """Estimate generalised advantages and values V(y), float32 `[num_steps, num_envs]`."""
        value, next_value = self.value(x.prediction), self.value(x.next_prediction)
        terminated = x.terminated > 0
        reward = charge_steps(x, settings.step_cost).reward
        advantage = generalized_advantage(
            reward, value, next_value, terminated, x.done & ~terminated,
            x.gamma, settings.gae_lambda,
        )  # fmt: skip
        return advantage, value

    def advise(
        self, settings: Settings, x: RuleInputs, advantage: jax.Array, center: jax.Array
    ) -> Target:
        """Compute π̂ from advantages, and ŷ around `center`, both `[num_steps, num_envs]`."""
        z = self.values(x.prediction.shape[-1])
        distance = (z - center[..., None]) / (z[1] - z[0])
        width = jnp.asarray(settings.target_width)[..., None]
        log_y = jax.nn.log_softmax(-0.5 * (distance / width) ** 2)
        weight = settings.negative * x.prob**settings.prob_power
        pi = symlog(advantage) * jnp.where(advantage < 0, weight, 1.0)
        pi /= jnp.sqrt((pi**2).mean() + LEAST_SCALE**2) ** settings.scale_power
        beta = settings.entropy_coef * (1 - settings.entropy_decay * x.age)
        return Target(pi - beta * jnp.log(jnp.maximum(x.prob, 1e-8)), log_y)


@dataclass(frozen=True)
class Reinforce:
    """REINFORCE within the rollout (Williams 1992): no baseline and no bootstrap.

    π̂ is the discounted return to go until the episode or the rollout ends; ŷ is y, so that the
    prediction stays as it is.
    """

    def apply(self, _: None, x: RuleInputs) -> Target:
        """Compute π̂ and ŷ."""

        def step(after: jax.Array, inputs: tuple[jax.Array, jax.Array]):
            reward, done = inputs
            after = reward + x.gamma * jnp.where(done, 0.0, after)
            return after, after

        start = jnp.zeros_like(x.reward[0])
        _, returns = jax.lax.scan(step, start, (x.reward, x.done), reverse=True)
        return Target(returns, jnp.log(jnp.maximum(x.prediction, 1e-30)))
