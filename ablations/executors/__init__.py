"""How the trainings of a plan are run; each executor is a generator of events."""

from ablations.executors.events import Event, Finished, Started
from ablations.executors.inline import run_inline
from ablations.executors.local import default_jobs, run_local

__all__ = ["Event", "Finished", "Started", "default_jobs", "run_inline", "run_local"]
