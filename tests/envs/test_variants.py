"""CartPole and Acrobot with other physics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from tests.envs.simulate import close

KEYS = jax.random.split(jax.random.key(0), 200)


def balance(state, level):
    """Push the cart under the pole, leaning back to the middle."""
    rate = jnp.sqrt(level.gravity / level.length)
    lean = -0.03 * jnp.clip(state.x + 1.5 * state.x_dot, -1.5, 1.5)
    return (state.theta - lean + state.theta_dot / rate > 0).astype(jnp.int32)


def pump(state, level):
    """Drive the joint in the direction of the first link's swing."""
    return jnp.where(state.velocity_1 > 0, 0, 2)


POLICIES = {"CartPole-variants": balance, "Acrobot-variants": pump}
VARIED = {
    "CartPole-variants": {
        "gravity", "masscart", "masspole", "total_mass", "length", "polemass_length", "force_mag",
    },
    "Acrobot-variants": {
        "available_torque", "link_length_1", "link_length_2", "link_com_pos_1", "link_com_pos_2",
        "link_mass_1", "link_mass_2", "link_moi",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", POLICIES)
def test_variants_are_gymnax_own_with_other_physics_and_can_be_solved(name):
    env, usual = envs.make(name)
    plain, params = envs.make(name.replace("variants", "v1"))
    assert env.name == plain.name and close(usual, params)

    @jax.jit
    @jax.vmap
    def play(key):
        level = env.sample_level(key)

        def step(carry, key):
            state, alive = carry
            action = POLICIES[name](state, level)
            _, state, _, terminated, _ = env.step_env(key, state, action, level)
            return (state, alive & ~terminated), None

        _, state = env.reset_env(key, level)
        carry = jax.tree.map(jnp.asarray, (state, True))
        carry, _ = jax.lax.scan(step, carry, jax.random.split(key, 500))
        return level, carry[1]

    levels, alive = play(KEYS)
    assert (alive == (name == "CartPole-variants")).mean() > 0.95
    varied = {k for k, v in vars(levels).items() if (np.asarray(v) != np.asarray(v)[:1]).any()}
    assert varied == VARIED[name]
    if name == "CartPole-variants":
        np.testing.assert_allclose(levels.total_mass, levels.masscart + levels.masspole, rtol=1e-6)
        np.testing.assert_allclose(levels.polemass_length, levels.masspole * levels.length)
    else:
        np.testing.assert_allclose(levels.link_com_pos_1, levels.link_length_1 / 2)
        np.testing.assert_allclose(levels.link_com_pos_2, levels.link_length_2 / 2)
    for field in varied:
        value, base = np.asarray(getattr(levels, field)), np.asarray(getattr(usual, field))
        factor = value[:, base != 0] / base[base != 0]
        assert factor.min() < 0.8 and factor.max() > 1.25
