"""Processes that have torch and Lightning loaded already.

A server is forked once, with everything imported; each worker is forked from it in milliseconds. The process that asks
imports neither, so it stays small, and its own state never leaks into a training.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from ablations.errors import UserError

Result = TypeVar("Result")

PRELOAD = ["ablations.preload"]
PRELOAD_TRACKED = [*PRELOAD, "ablations.tracking.preload"]


def context(tracked: bool = False) -> ForkServerContext:
    """Return the multiprocessing context whose server has everything imported.

    Args:
        tracked: whether that includes the W&B client, if the server does not run yet.
    """
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(PRELOAD_TRACKED if tracked else PRELOAD)
    return chosen


def start_server(tracked: bool = False) -> None:
    """Start the server without waiting for it, before the first worker is asked for.

    Args:
        tracked: whether its workers write W&B runs.
    """
    context(tracked)
    forkserver.ensure_running()


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a worker and return its result.

    Raises:
        UserError: as the function raised it.
        RuntimeError: the function raised anything else, with its traceback, or the worker died.
    """
    receiver, sender = context().Pipe(duplex=False)
    process = context().Process(target=_answer, args=(sender, function, arguments), daemon=True)
    with _ctrl_c_waits():
        process.start()
    sender.close()
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a worker process died (exit code {process.exitcode})") from None
    process.join()
    if kind == "error":
        raise value
    return value


def start(function: Callable[..., None], *arguments: Any, log: Path, environment: dict[str, str]) -> BaseProcess:
    """Start a worker that writes all that it prints to a file and dies with this process.

    Args:
        function: what it calls; it must be importable.
        arguments: what it is called with.
        log: the file; what stood there stays, above.
        environment: environment variables to set first.
    """
    process = context().Process(target=_work, args=(function, arguments, log, environment), daemon=True)
    with _ctrl_c_waits():
        process.start()
    return process


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C wait: a worker whose orders broke off in the middle would end with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _die_with_parent()
    gc.disable()  # this process answers once and ends, and its memory goes with it
    try:
        answer = ("result", function(*arguments))
    except UserError as error:
        answer = ("error", error)
    except Exception:  # handed on whole: the process that asked raises it
        answer = ("error", RuntimeError(traceback.format_exc()))
    sender.send(answer)


def _work(function: Callable[..., None], arguments: tuple[Any, ...], log: Path, environment: dict[str, str]) -> None:
    _die_with_parent()
    os.environ.update(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    function(*arguments)


def _die_with_parent() -> None:
    """Leave Ctrl-C to the process that asked, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
