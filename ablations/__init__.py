"""Which training tricks are worth having: studies that stack them one by one, over several seeds."""

from ablations.api import StudyResults, curves, load_study, scores
from ablations.own_packages import find_own_first  # noqa: F401 (importing it does that)
from ablations.recipe import Recipe
from ablations.registry import trick

__all__ = ["Recipe", "StudyResults", "curves", "load_study", "scores", "trick"]
