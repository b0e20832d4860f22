"""Temporally-aware LPO (Jackson et al. 2024, arXiv 2402.05828): a clip that changes with age.

A fork of `lpo.py`. The drift reads its inputs twice: as they are, and multiplied by n/N, the
fraction of the agent's updates done (eq. 10). So it is still 0 at the old policy. It does not read
log N, because the paper learns it at one horizon.
"""

from dataclasses import dataclass

import jax

from algos import lpo
from algos.lpo import Hypers, init_drift, make, with_drift

__all__ = ["Config", "Hypers", "init_drift", "make", "with_drift"]


class Drift(lpo.Drift):
    """LPO's drift with twice the inputs."""

    def extra_inputs(self, x: jax.Array, age: jax.Array) -> jax.Array:
        """Return (n/N) x."""
        return age * x


@dataclass(frozen=True)
class Config(lpo.Config):
    """LPO's settings, for the drift that reads the agent's age."""

    def make_drift(self) -> Drift:
        """Make the drift network that these settings describe."""
        return Drift(self.drift_width, self.drift_clip)
