"""CartPole and Acrobot with other physics: levels that test what was learned on the usual ones.

The default level is gymnax's. Log-uniform factors multiply masses, lengths and forces.
"""

from typing import Any

import jax
import jax.numpy as jnp

from envs.rendering import DRAWN
from purejaxrl.parts.distributions import log_uniform


class CartPoleVariants(DRAWN["CartPole-v1"]):
    """CartPole with masses and length times 1/2 … 2, and gravity and force times 1/√2 … √2."""

    @property
    def default_params(self) -> Any:
        """Gymnax's parameters, as arrays."""
        return jax.tree.map(jnp.asarray, super().default_params)

    def sample_level(self, key: jax.Array) -> Any:
        """Draw the masses of cart and pole, the pole's length, gravity and the force."""
        usual = self.default_params
        body_key, force_key = jax.random.split(key)
        cart, pole, length = log_uniform(body_key, 0.5, 2.0, (3,))
        gravity, force = log_uniform(force_key, 0.5**0.5, 2**0.5, (2,))
        mass, half_length = pole * usual.masspole, length * usual.length
        return usual.replace(
            gravity=gravity * usual.gravity,
            masscart=cart * usual.masscart,
            masspole=mass,
            total_mass=cart * usual.masscart + mass,
            length=half_length,
            polemass_length=mass * half_length,
            force_mag=force * usual.force_mag,
        )


class AcrobotVariants(DRAWN["Acrobot-v1"]):
    """Acrobot with lengths, masses, moment of inertia and torque times 1/√2 … √2.

    The episode ends at the angles at which links of length 1 reach the goal, whatever the lengths.
    Pictures show links of length 1, too.
    """

    @property
    def default_params(self) -> Any:
        """Gymnax's parameters, as arrays."""
        return jax.tree.map(jnp.asarray, super().default_params)

    def sample_level(self, key: jax.Array) -> Any:
        """Draw both links and the torque; the centre of mass stays in the middle of a link."""
        usual = self.default_params
        length, mass, (inertia, torque) = log_uniform(key, 0.5**0.5, 2**0.5, (3, 2))
        return usual.replace(
            available_torque=torque * usual.available_torque,
            link_length_1=length[0] * usual.link_length_1,
            link_length_2=length[1] * usual.link_length_2,
            link_com_pos_1=length[0] * usual.link_com_pos_1,
            link_com_pos_2=length[1] * usual.link_com_pos_2,
            link_mass_1=mass[0] * usual.link_mass_1,
            link_mass_2=mass[1] * usual.link_mass_2,
            link_moi=inertia * usual.link_moi,
        )
