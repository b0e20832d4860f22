"""How to run, as opposed to what to run, and for how long."""

import dataclasses
from pathlib import Path

from purejaxrl.running.logs import say
from purejaxrl.validation import COUNT, is_count, require, require_count

MAX_UPDATES = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run, as opposed to what to run.

    No option changes what is learned, except for the last bit of sums where `group` is 1 or `only`
    is set, because one member uses a different matrix product than several do. `run.json`
    records the group. The `eval_` fields decide what evaluations measure, and so which policy is
    kept as the best.
    """

    out: str = "results/run"
    """Folder for metrics, checkpoints and plots."""
    resume: bool = False
    """Continue the run in OUT with the command line kept there, or extend a finished one; start it
    if there is none."""
    chunk: int = 16
    """Updates in one call of the devices; between calls the host writes metrics and checkpoints."""
    log_every: int = 1
    """Updates that are averaged into one row of metrics; it divides `chunk` and `eval_every`."""
    checkpoint_every: int = 16
    """Chunks between checkpoints; there is always one at the end."""
    checkpoint_minutes: float = 10.0
    """Minutes after which there is a checkpoint too, for slow updates."""
    keep_last: int = 2
    """Checkpoints to keep."""
    eval_every: int | None = None
    """Updates between evaluations on new episodes; by default a twentieth of the run; 0 turns them
    off. Curves, final scores and best policies are those of the evaluations."""
    eval_episodes: int = 16
    """Episodes of an evaluation; experiments that evaluate in their own way may not read it."""
    eval_greedy: bool = False
    """Evaluate the most likely actions rather than sampled ones."""
    group: int | None = None
    """Members that a device vmaps at a time; by default 8 on a CPU, all on an accelerator."""
    progress: bool = True
    """Show progress."""
    only: str = ""
    """Train only the member of this name, alone, from the key it has in the whole population."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard, to OUT/tensorboard."""
    wandb: str = ""
    """Also log metrics to this Weights & Biases project."""
    profile: int = 0
    """Chunks to trace, after the first, to OUT/profile, for TensorBoard or Perfetto."""
    dry_run: bool = False
    """Only say what would run: members, steps, memory, and an estimate of the time."""

    def __post_init__(self):
        require_count(self, "chunk", "log_every", "checkpoint_every", "keep_last", "eval_episodes")
        require(self.checkpoint_minutes > 0, self, "checkpoint_minutes", "a number > 0")
        valid = self.eval_every in (None, 0) or is_count(self.eval_every)
        require(valid, self, "eval_every", f"{COUNT}, 0, or None")
        for name in ("chunk", "eval_every"):
            divides = (getattr(self, name) or 0) % self.log_every == 0
            require(divides, self, name, f"a multiple of log_every = {self.log_every}")
        require(self.group is None or is_count(self.group), self, "group", f"{COUNT}, or None")
        require(self.profile == 0 or is_count(self.profile), self, "profile", f"{COUNT}, or 0")
        require(bool(self.out), self, "out", "the name of a folder")

    def evaluation_interval(self, num_updates: int) -> int:
        """Return the number of updates between evaluations in a run of this length.

        By default there are 20, or one at each row of metrics. A run that is too short is evaluated
        at its end.
        """
        if self.eval_every is not None:
            return min(self.eval_every, num_updates)
        rows = -(-num_updates // self.log_every)
        every = max(1, rows // 20) * self.log_every
        return every if 2 * every <= num_updates else num_updates

    @property
    def folder(self) -> Path:
        """OUT as a path, `~` expanded."""
        return Path(self.out).expanduser()


def updates_for(total_steps: float, steps_per_update: int, warmup_steps: int = 0) -> int:
    """Return the number of updates in this many environment steps, rounded down.

    Args:
        total_steps: environment steps of the whole run, the warm-up included.
        steps_per_update: environment steps of one update.
        warmup_steps: environment steps before the first update.

    Raises:
        ValueError: if that is less than one, or more than fit an int32.
    """
    least = warmup_steps + steps_per_update
    longest = warmup_steps + MAX_UPDATES * steps_per_update
    if not least <= total_steps <= longest:  # also refuses NaN
        warmup = f" and of the warm-up, {warmup_steps:,}" if warmup_steps else ""
        raise ValueError(
            f"total_steps: {total_steps:g} is not valid; it must be a number from {least:,}, the "
            f"environment steps of one update{warmup}, to {longest:.3g}"
        )
    updates = (int(total_steps) - warmup_steps) // steps_per_update
    made = warmup_steps + updates * steps_per_update
    if made != total_steps:
        say(
            f"total_steps: {total_steps:,.0f} is rounded down to {made:,}, "
            f"{updates:,} updates of {steps_per_update:,} steps"
        )
    return updates
