"""Outer loops that learn the hyperparameters of inner algorithms, rules among them."""
