"""Counters of long runs."""

import numpy as np

from purejaxrl.running import runner


def test_environment_steps_are_counted_beyond_the_range_of_int32():
    so_far = np.full(2, 10**12)
    metrics = {"env_steps": np.full((2, 3), 2**31 - 1, np.int32)}

    def program(length, carry):
        return carry, metrics

    program.room = 3
    position, found = runner._advance(program, runner.Position([], 0, so_far, 0), 3, 0)
    assert position.env_steps.tolist() == [10**12 + 3 * (2**31 - 1)] * 2
    assert found["env_steps"][:, 0].tolist() == [10**12 + 2**31 - 1] * 2
