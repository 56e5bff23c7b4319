"""Studies that train a network over several sizes and conclude something from it: a verdict, or a learning rate."""

from sharplab.studies.annealing import AnnealingLaw
from sharplab.studies.decision import Decision, decide
from sharplab.studies.suggest_lr.result import Suggestion
from sharplab.studies.suggest_lr.suggestion import suggest_learning_rate

__all__ = ["AnnealingLaw", "Decision", "Suggestion", "decide", "suggest_learning_rate"]
