"""Imports what every worker needs, so that the server that they are forked from imports it once."""

import ablations.planner
import ablations.training
import callbacks
import datamodules
import lit_modules

__all__ = ["ablations", "callbacks", "datamodules", "lit_modules"]
