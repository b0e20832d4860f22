"""Parts that algorithms are built of: rollouts, returns, networks, optimizers, wrappers."""
