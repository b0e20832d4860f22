"""The environments of `rule_tournament.py`."""

from algos.rules.worlds import EXPLORATION, HELD_OUT, TRAINING


def test_no_rule_is_learned_where_it_is_tested(experiment):
    assert experiment.Settings().envs == tuple(experiment.STEPS)
    assert {*experiment.STEPS} <= {*HELD_OUT}
    assert not {*experiment.STEPS} & {world.env for world in TRAINING + EXPLORATION}
