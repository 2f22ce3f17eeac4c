"""LightningModules, one for each task, and the parts that they are made of."""

from lit_modules.classifier import LitClassifier, ScheduleCallable
from lit_modules.divergence import DivergedError
from lit_modules.parameter_groups import ParameterGroups

__all__ = ["DivergedError", "LitClassifier", "ParameterGroups", "ScheduleCallable"]
