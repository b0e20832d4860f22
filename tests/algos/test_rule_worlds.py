"""The worlds of general rules: what is kept for tests."""

import envs
from algos.rules.worlds import EXPLORATION, HELD_OUT, TRAINING


def test_environments_of_worlds_are_not_held_out():
    worlds = {world.env for world in TRAINING + EXPLORATION}
    assert not worlds & {*HELD_OUT}
    assert worlds | {*HELD_OUT} <= {*envs.names()}
