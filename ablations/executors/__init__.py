"""How the trainings of a plan are run; each executor is a generator of events."""

from ablations.executors.events import Event, Finished, Postponed, Started
from ablations.executors.inline import run_inline
from ablations.executors.local import default_jobs, most_devices, run_local
from ablations.executors.slurm import run_slurm

__all__ = [
    "Event",
    "Finished",
    "Postponed",
    "Started",
    "default_jobs",
    "most_devices",
    "run_inline",
    "run_local",
    "run_slurm",
]
