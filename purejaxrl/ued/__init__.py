"""Unsupervised environment design: levels, their scores and curricula, for any agents."""
