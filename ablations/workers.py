"""Processes that have torch and Lightning loaded already.

A server is forked once, with everything imported; each worker is forked from it in milliseconds. The process that asks
imports neither, so it stays small, and its own state never leaks into a training.

A worker leads a process group of its own, and whoever ends it ends the group: so it may start processes itself, as data
loaders do, and none of them outlives it.
"""

import atexit
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
from ablations.own_packages import OURS, SAFE_PATH

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
    _ensure_server()


def call(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a worker and return its result.

    Raises:
        UserError: as the function raised it.
        RuntimeError: the function raised anything else, with its traceback, or the worker died.
    """
    receiver, sender = context().Pipe(duplex=False)
    process = _start(_answer, sender, function, arguments)
    sender.close()
    try:
        kind, value = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"a worker process died (exit code {process.exitcode})") from None
    finally:
        kill(process)
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
    return _start(_work, function, arguments, log, environment)


def kill(process: BaseProcess) -> None:
    """End a worker, if it has not ended, and whatever it has started; wait for its end."""
    process.kill()
    assert process.pid is not None  # it was started
    with contextlib.suppress(ProcessLookupError):  # nothing is left of its group
        os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a worker. It is no daemon, since these may not start processes."""
    process = context().Process(target=target, args=arguments)
    _ensure_server()
    with _ctrl_c_waits():
        process.start()
    return process


def _ensure_server() -> None:
    """Start the server, unless it runs; the folder in which that happens is not where it looks for modules."""
    before = os.environ.get(SAFE_PATH)
    if before is None:
        os.environ[SAFE_PATH] = OURS
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ[SAFE_PATH]


@atexit.register
def _kill_all() -> None:
    """End what still runs, for which Python would wait."""
    for process in multiprocessing.active_children():
        kill(process)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C wait: a worker whose orders broke off in the middle would end with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _answer(sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    _lead_group()
    gc.disable()  # this process answers once and ends, and its memory goes with it
    try:
        answer = ("result", function(*arguments))
    except UserError as error:
        answer = ("error", error)
    except Exception:  # handed on whole: the process that asked raises it
        answer = ("error", RuntimeError(traceback.format_exc()))
    sender.send(answer)


def _work(function: Callable[..., None], arguments: tuple[Any, ...], log: Path, environment: dict[str, str]) -> None:
    _lead_group()
    os.environ.update(environment)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    function(*arguments)


def _lead_group() -> None:
    """Begin a process group, leave Ctrl-C to the process that asked, and end when it ends, however it ends."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        multiprocessing.set_start_method("fork", force=True)  # what it starts is its own child, not the server's
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="die-with-parent").start()
