"""Learned rules and drifts: the shipped ones by name, your own by file.

Each shipped one has a model card beside it, `NAME.md`.
"""

from algos.rules.files import FOLDER, load_rule, load_rules, save_population, save_rule
from algos.rules.rule import KINDS, Kind, LearnedRule

__all__ = [
    "FOLDER",
    "KINDS",
    "Kind",
    "LearnedRule",
    "load_rule",
    "load_rules",
    "save_population",
    "save_rule",
]
