"""Whatever goes wrong around a study, running it again ends with the scores of one around which nothing did.

The studies are the command's own code, in processes that share one server of workers, so that each starts at once.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations import workers
from tests.chaos import noting
from tests.helpers.command_server import Command, CommandServer
from tests.helpers.recipes import write_study

TRAININGS = 21
SIZE = "64m"
PATIENCE = 300.0
"""Seconds after which something that should happen counts as not happening."""


@pytest.fixture(scope="module")
def server() -> CommandServer:
    """A server whose workers note their fits."""
    return CommandServer("tests.chaos.note_fits")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that can be made too small, or a folder where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    is_mounted = shutil.which("mount") and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    yield folder
    if is_mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Studies:
    """Starts studies in a folder.

    Args:
        server: from which they are forked.
        folder: with the study file.
        notes: where their workers note their fits.
        said: where they write what they say.
    """

    def __init__(self, server: CommandServer, folder: Path, notes: Path, said: Path) -> None:
        self.server, self.notes, self.said = server, notes, said
        self.study = write_study(folder, seeds=7)

    def start(self, results: Path) -> Command:
        arguments = ("run", self.study, "--jobs", "2", "--results", results)
        return self.server.start(results.parent, *arguments, prepare=partial(_note_fits, self.notes, self.said))


def _note_fits(notes: Path, said: Path) -> None:
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    start_worker = workers.start
    workers.start = lambda *given, environment, **rest: start_worker(
        *given, environment={**environment, noting.NOTES: str(notes)}, **rest
    )


def send(sign: signal.Signals, pid: int) -> None:
    """Send a signal to a process that may have ended just now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def finish(*processes: Command) -> list[int]:
    """Wait for the ends of studies, and return their exit codes."""
    return [process.finish().returncode for process in processes]


def finished(results: Path) -> dict[str, int]:
    """Return when each training was finished, by its folder below the store."""
    store = results / "runs"
    return {str(path.parent.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("*/*/result.json")}


def wait_until(condition: Callable[[], object], processes: list[Command], at_most: float = PATIENCE) -> None:
    """Wait until something is so, or all studies have ended."""
    until = time.monotonic() + at_most
    while not condition() and any(process.returncode is None for process in processes) and time.monotonic() < until:
        time.sleep(0.01)


def wait_for_workers(notes: Path) -> None:
    """Wait until no worker of a study that was killed is left."""
    until = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}/exe").exists() for pid in noting.under_way(notes)) and time.monotonic() < until:
        time.sleep(0.01)


class Chaos:
    """Does harm to a study that runs in two processes."""

    def __init__(self, studies: Studies, folder: Path) -> None:
        self.studies, self.notes, self.said = studies, studies.notes, studies.said
        self.folder, self.results = folder, folder / "results"
        self.moments = random.Random(8)
        self.done: dict[str, int] = {}

    def disturb(self, harm: Callable[[list[Command]], None], more: int = 2) -> None:
        """Run the study in two processes until some more trainings are finished, do harm, and end both."""
        processes = [self.studies.start(self.results) for _ in range(2)]
        wanted = len(self.done) + self.moments.randint(1, more)
        wait_until(lambda: len(finished(self.results)) >= wanted and noting.under_way(self.notes), processes)
        harm(processes)
        for process in processes:
            send(signal.SIGKILL, process.pid)
        finish(*processes)
        wait_for_workers(self.notes)
        now = finished(self.results)
        assert self.done.items() <= now.items(), "a finished training was lost, or done again"
        self.done = now

    def end_studies(self, sign: signal.Signals) -> Callable[[list[Command]], None]:
        def end(processes: list[Command]) -> None:
            for process in processes:
                send(sign, process.pid)

        return end

    def end_workers(self, sign: signal.Signals) -> Callable[[list[Command]], None]:
        """End the trainings under way; the studies go on for a while."""

        def end(processes: list[Command]) -> None:
            for pid in noting.under_way(self.notes):
                send(sign, pid)
            before = len(finished(self.results))
            wait_until(lambda: len(finished(self.results)) > before, processes)

        return end

    def fill_disk(self, processes: list[Command]) -> None:
        """Leave no space until trainings fail of it."""
        if not os.path.ismount(self.folder):
            return
        filler = self.folder / "filler"
        with pytest.raises(OSError, match="No space left"), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        wait_until(lambda: "No space left" in self.said.read_text(), processes)
        filler.unlink()

    def cut_checkpoints(self) -> int:
        """Cut checkpoints short, and return how many."""
        cut = [path for path in self.results.glob("runs/*/*/checkpoints/last.ckpt") if path.stat().st_size > 1]
        for path in cut:
            os.truncate(path, path.stat().st_size // 2)
        return len(cut)

    def jump_clocks(self, processes: list[Command]) -> None:
        """Give all leases the times of clocks that went days back and ahead; the studies go on for a while."""
        before = len(finished(self.results))
        for _ in range(10):
            for lease in self.results.glob("runs/*/*/lease-*"):
                with contextlib.suppress(FileNotFoundError):  # a newer one has just taken its place
                    os.utime(lease, (0, time.time() + self.moments.uniform(-1e6, 1e6)))
            wait_until(lambda: len(finished(self.results)) > before, processes, at_most=0.2)
        wait_until(lambda: len(finished(self.results)) > before, processes)

    def move_store(self) -> None:
        self.results = self.results.rename(self.folder / "moved")


@pytest.fixture(scope="module")
def undisturbed(server: CommandServer, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Scores of a study that nothing happens to, run by two processes at the same time."""
    folder = tmp_path_factory.mktemp("undisturbed")
    studies = Studies(server, folder, folder / "notes.txt", folder / "said.txt")
    codes = finish(*(studies.start(folder / "results") for _ in range(2)))
    scores = (folder / "results" / "small" / "scores.csv").read_bytes()
    done = finished(folder / "results")
    return SimpleNamespace(codes=codes, notes=studies.notes, said=studies.said, scores=scores, done=done)


def test_two_studies_on_one_store_share_the_trainings(undisturbed: SimpleNamespace) -> None:
    assert undisturbed.codes == [0, 0], undisturbed.said.read_text()
    lines = [line.split() for line in undisturbed.notes.read_text().splitlines()]
    started = [name for kind, name, *_ in lines if kind == "start"]
    assert len(undisturbed.done) == len(started) == len(set(started)) == TRAININGS
    assert b"failed" not in undisturbed.scores and b"missing" not in undisturbed.scores


def test_a_disturbed_study_ends_with_the_same_scores_and_does_nothing_twice(
    server: CommandServer, undisturbed: SimpleNamespace, disk: Path, tmp_path: Path
) -> None:
    notes, said = tmp_path / "notes.txt", tmp_path / "said.txt"
    studies = Studies(server, tmp_path, notes, said)
    chaos = Chaos(studies, disk)
    chaos.disturb(chaos.end_studies(signal.SIGKILL))
    chaos.cut_checkpoints()
    chaos.disturb(chaos.end_workers(signal.SIGKILL))
    chaos.move_store()
    chaos.disturb(chaos.fill_disk)
    chaos.disturb(chaos.end_workers(signal.SIGTERM))
    chaos.disturb(chaos.jump_clocks)
    chaos.disturb(chaos.end_studies(signal.SIGTERM))
    assert 0 < len(chaos.done) < TRAININGS

    (code,) = finish(studies.start(chaos.results))
    assert code == 0, said.read_text()
    assert chaos.done.items() <= finished(chaos.results).items()
    assert (chaos.results / "small" / "scores.csv").read_bytes() == undisturbed.scores
    assert [line for line in notes.read_text().splitlines() if line.endswith(("already", "elsewhere"))] == []
    assert "Traceback" not in said.read_text()
