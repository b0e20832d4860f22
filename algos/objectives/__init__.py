"""Objectives of reinforcement learning from verified rewards, by their published names.

    objective = OBJECTIVES["grpo"]
    coefs = objective.coefs.replace(kl_coef=0.01)

`inputs.py` has the interface. The other files have a family each. `docs/objective_lab.md` has the
table of all, how to add one, and which published objectives are missing.
"""

from algos.objectives import (
    demonstrations,
    discriminative,
    diversity,
    group,
    hints,
    inference,
    labels,
    pairs,
    ratios,
    selection,
    shaping,
    tracking,
)
from algos.objectives.inputs import (
    Answers,
    Inputs,
    Objective,
    Policy,
    Sampler,
    check_objective,
    with_advantages,
)
from algos.objectives.losses import compute_loss, push

OBJECTIVES = (
    group.OBJECTIVES
    | ratios.OBJECTIVES
    | selection.OBJECTIVES
    | tracking.OBJECTIVES
    | shaping.OBJECTIVES
    | labels.OBJECTIVES
    | diversity.OBJECTIVES
    | discriminative.OBJECTIVES
    | pairs.OBJECTIVES
    | inference.OBJECTIVES
    | demonstrations.OBJECTIVES
    | hints.OBJECTIVES
)
"""The objectives by their names on command lines."""

__all__ = [
    "OBJECTIVES",
    "Answers",
    "Inputs",
    "Objective",
    "Policy",
    "Sampler",
    "check_objective",
    "compute_loss",
    "push",
    "with_advantages",
]
