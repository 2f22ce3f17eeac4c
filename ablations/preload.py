"""Imports what every worker needs, so that the server from which they are forked imports it once.

The garbage collector rests meanwhile, which saves a tenth of the time.
"""

import atexit
import gc
import importlib
import os
import signal

NEEDED = ("ablations.planner", "ablations.training", "callbacks", "datamodules", "lit_modules")


def _import_needed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started the server
    atexit.register(os._exit, 0)  # taking torch down takes a second, for which that process would wait
    gc.disable()
    for name in NEEDED:
        importlib.import_module(name)
    gc.enable()
    importlib.import_module("ablations.parsing").prepare()


_import_needed()
