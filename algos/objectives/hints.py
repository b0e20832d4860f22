"""Objectives that show a part of the solution in the prompt where answers fail.

`hint` says how much of the solution each second try is shown. The second try and its probabilities
are those under the longer prompt, and no loss is taken on the part that was shown.
"""

from typing import Any

import jax
import jax.numpy as jnp

from algos.objectives import losses
from algos.objectives.advantages import accuracy, standardise_within
from algos.objectives.group import GRPO
from algos.objectives.inputs import DEMONSTRATION, Inputs, Sampler
from algos.objectives.weights import Clip
from purejaxrl.validation import hyper


def all_failed(x: Inputs) -> jax.Array:
    """Whether no answer to a prompt is correct: bool `[P, 1]`."""
    return accuracy(x.answers) == 0


def first_answers(x: Inputs, num: int) -> jax.Array:
    """Mark the first answers of each group: bool `[1, G]`."""
    return jnp.arange(x.answers.reward.shape[-1])[None] < num


class Ghpo(Clip):
    """Coefficients of GHPO."""

    share_start: float = hyper(0.25, at_least=0, at_most=1)
    """Share of the solution that a failed group is shown first."""
    share_end: float = hyper(0.75, at_least=0, at_most=1)
    """Share that it is shown last, if it has failed with less."""


STAGES = 3
"""Shares of the solution that a group can be shown, one after the other."""


def hint_more(x: Inputs, coefs: Ghpo) -> jax.Array:
    """Show all answers of failed groups the first share, or the one after that which failed."""
    step = (coefs.share_end - coefs.share_start) / (STAGES - 1)
    shown = x.answers.hint
    share = jnp.where(shown > 0, shown + step, coefs.share_start)
    return jnp.where(all_failed(x), share, 0.0)


GHPO = GRPO._replace(
    name="ghpo",
    coefs=Ghpo(),
    sampler=Sampler(hint=hint_more, num_hints=STAGES),
    needs=DEMONSTRATION,
)
"""Guided hybrid policy optimisation (Liu et al. 2025, arXiv 2507.10628).

GRPO; where all answers fail, they are sampled again with a share of the solution in the prompt,
.25, and where they fail again, .5 and .75
"""


class ScafGrpo(Clip):
    """Coefficients of Scaf-GRPO."""

    exempt: float = hyper(0.15, at_least=0, at_most=1)
    """Fraction of the run without hints; our choice, as in the paper's setting."""


HINT_LEVELS = 3
"""Concept, plan and step; here they are thirds of the solution, which is our choice."""


def init_levels(num_prompts: int, num_bins: int) -> jax.Array:
    """Start all prompts at the weakest hint: int32 `[num_prompts]`."""
    return jnp.zeros(num_prompts, jnp.int32)


def hint_one(x: Inputs, coefs: ScafGrpo) -> jax.Array:
    """Show one answer of each failed group a hint of the prompt's level."""
    share = (x.state[x.answers.prompt] + 1)[:, None] / HINT_LEVELS
    hinted = all_failed(x) & first_answers(x, 1) & (x.age >= coefs.exempt)
    return jnp.where(hinted, share, 0.0)


def raise_levels(x: Inputs, coefs: ScafGrpo) -> jax.Array:
    """Strengthen the hint of prompts whose hinted answer failed too."""
    failed = (x.answers.hint[:, 0] > 0) & (x.answers.reward[:, 0] == 0)
    levels = x.state.at[x.answers.prompt].add(failed.astype(jnp.int32))
    return jnp.minimum(levels, HINT_LEVELS - 1)


SCAF_GRPO = GRPO._replace(
    name="scaf_grpo",
    coefs=ScafGrpo(),
    sampler=Sampler(init_levels, raise_levels, hint=hint_one),
    needs=DEMONSTRATION,
)
"""Scaffolded GRPO (Zhang et al. 2025, arXiv 2510.19807).

GRPO; after the first part of the run, one answer of a failed group is replaced by one with the
weakest hint that works. That a hint is strengthened at the prompt's next visit is our choice.
"""


class Pope(Clip):
    """Coefficients of POPE."""

    share: float = hyper(0.5, at_least=0, at_most=1)
    """Share of the solution that is shown; our choice."""


def hint_half(x: Inputs, coefs: Pope) -> jax.Array:
    """Show half of the answers of failed groups a prefix; the 1:1 mix is our choice."""
    half = first_answers(x, x.answers.reward.shape[-1] // 2)
    return jnp.where(all_failed(x) & half, coefs.share, 0.0)


def by_kind(x: Inputs, coefs: Any) -> jax.Array:
    """Standardise rewards among the answers with a hint, and among those without."""
    hinted = x.answers.hint > 0
    same = hinted[:, :, None] == hinted[:, None, :]
    return standardise_within(x.answers.reward, same)[..., None]


POPE = GRPO._replace(
    name="pope",
    coefs=Pope(),
    advantage=by_kind,
    sampler=Sampler(hint=hint_half),
    needs=DEMONSTRATION,
)
"""Privileged on-policy exploration (Qu et al. 2026, arXiv 2601.18779).

GRPO on hard prompts with and without a prefix of the solution as context. Each answer is compared
with those to the same kind of prompt.
"""

OBJECTIVES = losses.table(GHPO, SCAF_GRPO, POPE)
