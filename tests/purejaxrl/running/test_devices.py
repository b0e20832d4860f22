"""The layout of members over devices."""

import jax
import pytest

from purejaxrl.running.devices import CPU_GROUP, layout


def test_members_fill_devices_in_groups():
    plan = layout(37, jax.devices()[:2], group=5)
    assert (plan.groups, plan.group, plan.padded) == (4, 5, 40)
    assert layout(37, jax.devices()[:1]).group <= CPU_GROUP


@pytest.mark.parametrize("group", [0, -1, 2.5])
def test_an_invalid_group_is_refused(group):
    with pytest.raises(ValueError, match=f"group: {group} is not valid; it must be an integer"):
        layout(4, group=group)
