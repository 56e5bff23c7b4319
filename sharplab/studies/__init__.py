"""The learning-rate papers' methods, and what the lab makes of them for someone else's network."""

from sharplab.studies.suggest_lr.suggestion import Suggestion, suggest_learning_rate

__all__ = ["Suggestion", "suggest_learning_rate"]
