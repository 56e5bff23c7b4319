"""Studies that train a network over several sizes and conclude something from it: a learning rate for a larger one."""

from sharplab.studies.suggest_lr.result import Suggestion
from sharplab.studies.suggest_lr.suggestion import suggest_learning_rate

__all__ = ["Suggestion", "suggest_learning_rate"]
