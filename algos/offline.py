"""The algorithms that learn from a dataset, by their names on command lines."""

from collections.abc import Mapping
from types import ModuleType

from algos import bc, iql, rebrac, td3_bc

ALGORITHMS: Mapping[str, ModuleType] = {"bc": bc, "td3_bc": td3_bc, "iql": iql, "rebrac": rebrac}
