"""Imports what every worker needs, so that the server from which they are forked imports it once.

The garbage collector rests meanwhile, which saves a tenth of the time.
"""

import atexit
import errno
import gc
import importlib
import os
import signal
from multiprocessing import reduction
from socket import socket

NEEDED = ("ablations.planner", "ablations.training", "callbacks", "datamodules", "lit_modules")


def _import_needed() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started the server
    atexit.register(os._exit, 0)  # taking torch down takes a second, for which that process would wait
    gc.disable()
    for name in NEEDED:
        importlib.import_module(name)
    gc.enable()
    importlib.import_module("ablations.parsing").prepare()


def _outlive_clients() -> None:
    """Let the server go on when a process is killed between calling it and saying what it wants.

    Such a call is to the server an `EOFError`, which it does not expect; an aborted connection it does.
    """
    receive = reduction.recvfds

    def receive_or_abort(sock: socket, size: int) -> list[int]:
        try:
            return list(receive(sock, size))
        except EOFError:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client is gone") from None

    reduction.recvfds = receive_or_abort


_import_needed()
_outlive_clients()
