"""Which policy of an expert's training is the medium one."""

import pytest


@pytest.mark.parametrize(
    ("random", "returns", "expected"),
    [
        (0.0, [0.0, 2.9, 3.1, 2.0, 9.0], 2),  # it may become worse again
        (0.0, [0.0, 3.0, 5.0, 9.0], 1),  # exactly a third of the way
        (-1200.0, [-1300.0, -901.0, -899.0, -300.0], 2),
        (5.0, [6.5, 7.0, 8.0], 0),  # from the start
        (0.0, [0.0, 1.0, 9.0], 2),  # only the expert itself is that good
        (0.0, [4.0, 20.0, 9.0], 0),  # the expert need not be the best
    ],
)
def test_medium_is_the_first_policy_a_third_of_the_way_to_the_expert(
    experiment, random, returns, expected
):
    stages = [experiment.Stage(100 * i, ret, f"policy {i}") for i, ret in enumerate(returns)]
    assert experiment.medium_of(stages, random) == stages[expected]
