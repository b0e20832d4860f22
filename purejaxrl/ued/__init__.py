"""Unsupervised environment design: which levels to learn on. It knows levels, not agents."""
