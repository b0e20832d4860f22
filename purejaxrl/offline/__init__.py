"""Offline learning: files of datasets, how they are recorded, and how algorithms are scored."""
