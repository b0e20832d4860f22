"""Running: populations on devices, their records, metrics and checkpoints, and evaluation."""
