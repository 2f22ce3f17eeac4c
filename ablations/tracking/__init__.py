"""W&B: a run for each training of a study, and one for its table. Nothing here imports the client until it is used."""

from ablations.tracking.settings import Tracking, check_project, track_recipe, track_study

__all__ = ["Tracking", "check_project", "track_recipe", "track_study"]
