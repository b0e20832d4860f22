"""Small control tasks with random physics: what CartPole, Acrobot and their like have in common.

A learning rule can meet continuous states here before it is tested on gymnax's own tasks. In
`Hold`, an unstable system must be kept within bounds, and every step pays 1. In `Reach`, an
under-actuated pendulum must gain energy until it is high enough, and every step costs 1.

Actions push to one side, to the other, or not at all; which action does what is part of the level.
Observations have four entries of about unit size. Time is counted in steps, and a step integrates
the equations of motion by the semi-implicit Euler method: first the speeds, then the positions.
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from purejaxrl.parts.distributions import log_uniform, log_uniform_int

PUSHES = (-1.0, 0.0, 1.0)
"""What the actions do, in the order that the level draws."""

HOLD_LIMIT, REACH_LIMIT = (100, 500), (200, 500)
"""Least and largest time limits; log-uniform."""


class RandomControl(environment.Environment):
    """What both families share: three actions and observations of four numbers."""

    @property
    def num_actions(self) -> int:
        """Push to one side, to the other, or not at all."""
        return len(PUSHES)

    @property
    def default_params(self):
        """One of the sampled levels."""
        return self.sample_level(jax.random.key(0))

    def is_truncated(self, state, params) -> jax.Array:
        """Whether time is up."""
        return state.time >= params.max_steps_in_episode

    def action_space(self, params=None) -> spaces.Discrete:
        """Three actions."""
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params=None) -> spaces.Box:
        """Vectors of four numbers."""
        return spaces.Box(-jnp.inf, jnp.inf, (4,))


@struct.dataclass
class HoldLevel:
    """An unstable system, such as a pole on a cart; positions leave their bounds at ±1."""

    growth: jax.Array  # float32, per step; at small angles a pole's fall grows by exp(growth)
    bend: jax.Array  # float32, how nonlinear the fall is; 0: linear
    force: jax.Array  # float32 [2], acceleration of the pole and of the cart by a push
    damping: jax.Array  # float32 [2], per step, of the pole and of the cart
    spring: jax.Array  # float32, pulls the cart back
    push: jax.Array  # float32 [3], direction in which each action pushes
    obs_scale: jax.Array  # float32 [4], factors of the observation
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class HoldState:
    """Positions and speeds of the pole and the cart; the speeds are per step."""

    pole: jax.Array  # float32
    cart: jax.Array  # float32
    pole_speed: jax.Array  # float32
    cart_speed: jax.Array  # float32
    time: jax.Array  # int32, steps since the reset


class Hold(RandomControl):
    """Keep an unstable system within bounds.

    With push u, growth λ, bend w, forces f and g, and spring k, a "pole" q and a "cart" p obey

        q'' = λ² sin(w q) / w + f u - damping q'
        p'' = g u - k p - damping p'

    Every step pays 1. The episode ends when |q| or |p| exceeds 1. In a third of the levels the cart
    stays where it is, so the system has two dimensions instead of four.
    """

    name = "random-hold"

    def sample_level(self, key: jax.Array) -> HoldLevel:
        """Draw a level in which a push is stronger than the fall anywhere within the bounds."""
        keys = jax.random.split(key, 10)
        growth = log_uniform(keys[0], 0.04, 0.15)
        pole_force = growth**2 * log_uniform(keys[1], 1.5, 5.0)
        has_cart = jax.random.bernoulli(keys[2], 2 / 3)
        cart_force = pole_force * has_cart * log_uniform(keys[3], 0.03, 0.2)
        return HoldLevel(
            growth=growth,
            bend=jax.random.uniform(keys[4], minval=0.1, maxval=1.5),
            force=jnp.stack([pole_force, cart_force]),
            damping=growth * jax.random.uniform(keys[5], (2,), maxval=0.2),
            spring=cart_force * jax.random.uniform(keys[6], maxval=0.3),
            push=jax.random.permutation(keys[7], jnp.array(PUSHES)),
            obs_scale=_draw_obs_scale(keys[8]),
            max_steps_in_episode=log_uniform_int(keys[9], *HOLD_LIMIT),
        )

    def reset_env(self, key: jax.Array, params: HoldLevel) -> tuple[jax.Array, HoldState]:
        """Start near the middle, with little speed; the cart moves only if it can be pushed."""
        chance = jax.random.uniform(key, (4,), minval=-0.2, maxval=0.2)
        pole_unit, cart_unit = _speed_units(params)
        has_cart = params.force[1] > 0
        state = HoldState(
            pole=chance[0],
            cart=chance[1] * has_cart,
            pole_speed=chance[2] * pole_unit,
            cart_speed=chance[3] * cart_unit * has_cart,
            time=jnp.int32(0),
        )
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: HoldState, action: jax.Array, params: HoldLevel):
        """Push, move, and see whether a bound is left; the key is not used."""
        push = params.push[action]
        fall = params.growth**2 * jnp.sin(params.bend * state.pole) / params.bend
        pole_acc = fall + params.force[0] * push - params.damping[0] * state.pole_speed
        cart_acc = (
            params.force[1] * push
            - params.spring * state.cart
            - params.damping[1] * state.cart_speed
        )
        pole_speed, cart_speed = state.pole_speed + pole_acc, state.cart_speed + cart_acc
        state = HoldState(
            pole=state.pole + pole_speed,
            cart=state.cart + cart_speed,
            pole_speed=pole_speed,
            cart_speed=cart_speed,
            time=state.time + 1,
        )
        left = (jnp.abs(state.pole) > 1) | (jnp.abs(state.cart) > 1)
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, jnp.float32(1), left, {}

    def observe(self, state: HoldState, params: HoldLevel) -> jax.Array:
        """Return positions and speeds in units of the level: float32 `[4]`."""
        pole_unit, cart_unit = _speed_units(params)
        speeds = state.pole_speed / pole_unit, state.cart_speed / cart_unit
        return params.obs_scale * jnp.stack([state.pole, state.cart, *speeds])


@struct.dataclass
class ReachLevel:
    """A pendulum that is too heavy for its motor."""

    frequency: jax.Array  # float32, radians per step, of small swings
    thrust: jax.Array  # float32, of the motor, as a share of the weight
    lag: jax.Array  # float32, steps until the motor follows; at least 1
    damping: jax.Array  # float32, per step
    height: jax.Array  # float32, to be reached; 0: the bottom, 2: the top
    push: jax.Array  # float32 [3], direction in which each action pushes
    obs_scale: jax.Array  # float32 [4], factors of the observation
    max_steps_in_episode: jax.Array  # int32


@struct.dataclass
class ReachState:
    """The pendulum and its motor."""

    angle: jax.Array  # float32, radians; 0: the bottom
    speed: jax.Array  # float32, radians per step
    motor: jax.Array  # float32, from -1 to 1
    time: jax.Array  # int32, steps since the reset


class Reach(RandomControl):
    """Swing a pendulum up to a height.

    With push u, frequency ω, thrust f < 1 and lag T, the angle q and the motor m obey

        m' = (u - m) / T
        q'' = ω² (f m - sin q) - damping q'

    Every step costs 1 until 1 - cos q exceeds the height, which ends the episode.
    """

    name = "random-reach"

    def sample_level(self, key: jax.Array) -> ReachLevel:
        """Draw a level that a random agent solves now and then."""
        keys = jax.random.split(key, 8)
        frequency = log_uniform(keys[0], 0.15, 0.4)
        return ReachLevel(
            frequency=frequency,
            thrust=log_uniform(keys[1], 0.3, 0.8),
            lag=log_uniform(keys[2], 1.0, 4.0),
            damping=frequency * jax.random.uniform(keys[3], maxval=0.05),
            height=jax.random.uniform(keys[4], minval=0.5, maxval=1.7),
            push=jax.random.permutation(keys[5], jnp.array(PUSHES)),
            obs_scale=_draw_obs_scale(keys[6]),
            max_steps_in_episode=log_uniform_int(keys[7], *REACH_LIMIT),
        )

    def reset_env(self, key: jax.Array, params: ReachLevel) -> tuple[jax.Array, ReachState]:
        """Start near the bottom, with little speed."""
        angle, speed = jax.random.uniform(key, (2,), minval=-0.1, maxval=0.1)
        state = ReachState(angle, params.frequency * speed, jnp.float32(0), jnp.int32(0))
        return self.observe(state, params), state

    def step_env(self, key: jax.Array, state: ReachState, action: jax.Array, params: ReachLevel):
        """Push, swing, and see whether the pendulum is high enough; the key is not used."""
        motor = state.motor + (params.push[action] - state.motor) / params.lag
        pull = params.thrust * motor - jnp.sin(state.angle)
        speed = state.speed + params.frequency**2 * pull - params.damping * state.speed
        state = ReachState(state.angle + speed, speed, motor, state.time + 1)
        reached = 1 - jnp.cos(state.angle) > params.height
        obs, state = self._apply_transition_gradient_policy(self.observe(state, params), state)
        return obs, state, jnp.float32(-1), reached, {}

    def observe(self, state: ReachState, params: ReachLevel) -> jax.Array:
        """Return sine and cosine of the angle, the speed, and the motor: float32 `[4]`."""
        speed = state.speed / (2 * params.frequency)  # about 1 at most: 2ω reaches the top
        parts = jnp.sin(state.angle), jnp.cos(state.angle), speed, state.motor
        return params.obs_scale * jnp.stack(parts)


def _draw_obs_scale(key: jax.Array) -> jax.Array:
    """Draw factors between 1/2 and 2 with random signs: float32 `[4]`."""
    size_key, sign_key = jax.random.split(key)
    return log_uniform(size_key, 0.5, 2.0, (4,)) * jax.random.rademacher(sign_key, (4,))


def _speed_units(level: HoldLevel) -> tuple[jax.Array, jax.Array]:
    """Return usual speeds of the pole and the cart; 1 for a cart that cannot be pushed."""
    cart_force = level.force[1]
    return level.growth, jnp.where(cart_force > 0, jnp.sqrt(cart_force), 1.0)
