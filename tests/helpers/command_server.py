"""Runs `ablate` in processes that are forked from a server with everything imported, so that each starts at once.

The commands are the real ones, and so are their workers, their files and their signals. What a new interpreter alone
shows, such as what a command imports, is for `tests.helpers.command_line`.
"""

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TextIO
from unittest import mock

from ablations import cli, workers
from tests.helpers.command_line import environment


class Command:
    """A command that runs; its error stream can be read meanwhile.

    Args:
        process: its process.
        out: the file of its output.
        err: its error stream.
    """

    def __init__(self, process: BaseProcess, out: Path, err: TextIO) -> None:
        self.process, self.out, self.err = process, out, err
        assert process.pid is not None
        self.pid = process.pid

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def send(self, sign: signal.Signals) -> None:
        os.kill(self.pid, sign)

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and return what it printed that nobody has read."""
        err = self.err.read()
        self.err.close()
        self.process.join()
        assert self.returncode is not None
        return subprocess.CompletedProcess([], self.returncode, self.out.read_text(), err)


class CommandServer:
    """A server from which commands are forked, and their workers, too. It ends with the process that made it.

    Args:
        preload: modules that it imports, beside those of the commands and their workers.
    """

    def __init__(self, *preload: str) -> None:
        self._server = forkserver.ForkServer()
        self._server.set_forkserver_preload([*workers.PRELOAD, "ablations.commands", __name__, *preload])
        self._folder = Path(tempfile.mkdtemp(prefix="trickstack-tests-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._started = 0

    def start(self, folder: Path, *arguments: object, prepare: Callable[[], None] | None = None) -> Command:
        """Start `ablate` in a folder.

        Args:
            folder: where it runs.
            arguments: the words after `ablate`.
            prepare: is called in its process first; a function of a module, or a `functools.partial` of one.
        """
        self._started += 1
        out = self._folder / f"{self._started}.txt"
        receiver, sender = multiprocessing.Pipe(duplex=False)
        given = (folder, [*map(str, arguments)], environment(), out, sender, prepare)
        with mock.patch.object(forkserver, "connect_to_new_process", self._server.connect_to_new_process):
            process = multiprocessing.get_context("forkserver").Process(target=_run, args=given)
            process.start()
        sender.close()
        return Command(process, out, os.fdopen(os.dup(receiver.fileno()), encoding="utf-8"))

    def run(self, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `ablate` in a folder and wait for it."""
        return self.start(folder, *arguments).finish()


@cache
def command_server() -> CommandServer:
    """Return the server that the tests of this process share."""
    return CommandServer()


def run_ablate(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `ablate` in a folder, from the server that tests share, and wait for it."""
    return command_server().run(folder, *arguments)


def _run(
    folder: Path,
    arguments: list[str],
    variables: dict[str, str],
    out: Path,
    sender: Connection,
    prepare: Callable[[], None] | None,
) -> None:
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None  # workers come from that server
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(variables)
    warnings.simplefilter("ignore")
    os.chdir(folder)
    sys.path[0] = str(folder)
    sys.argv = ["ablate", *arguments]
    with out.open("w") as file:
        os.dup2(file.fileno(), 1)
    os.dup2(sender.fileno(), 2)
    sender.close()
    sys.stdout, sys.stderr = (open(handle, "w", closefd=False, encoding="utf-8") for handle in (1, 2))  # noqa: SIM115
    if prepare is not None:
        prepare()
    sys.exit(cli.main(arguments))
