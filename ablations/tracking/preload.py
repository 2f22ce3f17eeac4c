"""Imports the W&B client, and what that imports when a run is opened, for the workers of a study that is tracked.

Without it every training spends more than a second on that; see `ablations.preload`.
"""

import importlib

NEEDED = ("ablations.tracking.runs", "wandb.sdk.launch.inputs.internal")

for name in NEEDED:
    importlib.import_module(name)
