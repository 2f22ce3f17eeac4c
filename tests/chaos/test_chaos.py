"""Whatever goes wrong around a study, running it again ends with the scores of one around which nothing did.

The studies are the command's own code, in processes that share one server of workers, so that each starts at once.
"""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.context import ForkProcess
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations import cli, workers
from tests.chaos import noting
from tests.helpers.recipes import write_study

TRAININGS = 21
SIZE = "64m"
PATIENCE = 300.0
"""Seconds after which something that should happen counts as not happening."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A server whose workers note their fits; its studies' notes are in the file."""
    notes = tmp_path_factory.mktemp("notes") / "notes.txt"
    forkserver._forkserver._stop()  # one that another test has started knows nothing of notes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "PRELOAD", [*workers.PRELOAD, "tests.chaos.note_fits"])
        workers.start_server()
        yield notes
    forkserver._forkserver._stop()


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


def start(study: Path, results: Path, notes: Path, said: Path) -> ForkProcess:
    """Start `ablate run` in a process of its own; what it says goes to a file."""
    process = multiprocessing.get_context("fork").Process(target=_run, args=(study, results, notes, said))
    process.start()
    return process


def _run(study: Path, results: Path, notes: Path, said: Path) -> None:
    forkserver.ensure_running = forkserver._forkserver.ensure_running = lambda: None  # the test's own server runs
    os.environ[noting.NOTES] = str(notes)
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (open(handle, "w", closefd=False) for handle in (1, 2))  # noqa: SIM115
    start_worker = workers.start
    workers.start = lambda *given, environment, **rest: start_worker(
        *given, environment={**environment, noting.NOTES: str(notes)}, **rest
    )
    sys.exit(cli.main(["run", str(study), "--jobs", "2", "--results", str(results)]))


def send(sign: signal.Signals, pid: int) -> None:
    """Send a signal to a process that may have ended just now."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sign)


def finish(*processes: ForkProcess) -> list[int | None]:
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def finished(results: Path) -> dict[str, int]:
    """Return when each training was finished, by its folder below the store."""
    store = results / "runs"
    return {str(path.parent.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("*/*/result.json")}


def wait_until(condition: Callable[[], object], processes: list[ForkProcess]) -> None:
    """Wait until something is so, or all studies have ended."""
    until = time.monotonic() + PATIENCE
    while not condition() and any(process.is_alive() for process in processes) and time.monotonic() < until:
        time.sleep(0.01)


def wait_for_workers(notes: Path) -> None:
    """Wait until no worker of a study that was killed is left."""
    until = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}/exe").exists() for pid in noting.under_way(notes)) and time.monotonic() < until:
        time.sleep(0.01)


class Chaos:
    """Does harm to a study that runs in two processes."""

    def __init__(self, folder: Path, notes: Path, said: Path) -> None:
        self.folder, self.notes, self.said = folder, notes, said
        self.results = folder / "results"
        self.moments = random.Random(8)
        self.study = write_study(folder, seeds=7)
        self.done: dict[str, int] = {}

    def disturb(self, harm: Callable[[list[ForkProcess]], None], more: int = 2) -> None:
        """Run the study in two processes until some more trainings are finished, do harm, and end both."""
        processes = [start(self.study, self.results, self.notes, self.said) for _ in range(2)]
        wanted = len(self.done) + self.moments.randint(1, more)
        wait_until(lambda: len(finished(self.results)) >= wanted and noting.under_way(self.notes), processes)
        harm(processes)
        for process in processes:
            process.kill()
        finish(*processes)
        wait_for_workers(self.notes)
        now = finished(self.results)
        assert self.done.items() <= now.items(), "a finished training was lost, or done again"
        self.done = now

    def end_studies(self, sign: signal.Signals) -> Callable[[list[ForkProcess]], None]:
        def end(processes: list[ForkProcess]) -> None:
            for process in processes:
                send(sign, process.pid or 0)

        return end

    def end_workers(self, sign: signal.Signals) -> Callable[[list[ForkProcess]], None]:
        """End the trainings under way; the studies go on for a while."""

        def end(processes: list[ForkProcess]) -> None:
            for pid in noting.under_way(self.notes):
                send(sign, pid)
            before = len(finished(self.results))
            wait_until(lambda: len(finished(self.results)) > before, processes)

        return end

    def fill_disk(self, processes: list[ForkProcess]) -> None:
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

    def move_store(self) -> None:
        self.results = self.results.rename(self.folder / "moved")


@pytest.fixture(scope="module")
def undisturbed(server: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Scores of a study that nothing happens to, run by two processes at the same time."""
    folder = tmp_path_factory.mktemp("undisturbed")
    notes, said = folder / "notes.txt", folder / "said.txt"
    study = write_study(folder, seeds=7)
    processes = [start(study, folder / "results", notes, said) for _ in range(2)]
    codes = finish(*processes)
    scores = (folder / "results" / "small" / "scores.csv").read_bytes()
    return SimpleNamespace(codes=codes, notes=notes, said=said, scores=scores, done=finished(folder / "results"))


def test_two_studies_on_one_store_share_the_trainings(undisturbed: SimpleNamespace) -> None:
    assert undisturbed.codes == [0, 0], undisturbed.said.read_text()
    lines = [line.split() for line in undisturbed.notes.read_text().splitlines()]
    started = [name for kind, name, *_ in lines if kind == "start"]
    assert len(undisturbed.done) == len(started) == len(set(started)) == TRAININGS
    assert b"failed" not in undisturbed.scores and b"missing" not in undisturbed.scores


def test_a_disturbed_study_ends_with_the_same_scores_and_does_nothing_twice(
    undisturbed: SimpleNamespace, disk: Path, tmp_path: Path
) -> None:
    notes, said = tmp_path / "notes.txt", tmp_path / "said.txt"
    chaos = Chaos(disk, notes, said)
    chaos.disturb(chaos.end_studies(signal.SIGKILL))
    chaos.cut_checkpoints()
    chaos.disturb(chaos.end_workers(signal.SIGKILL))
    chaos.move_store()
    chaos.disturb(chaos.fill_disk)
    chaos.disturb(chaos.end_workers(signal.SIGTERM))
    chaos.disturb(chaos.end_studies(signal.SIGTERM))
    assert 0 < len(chaos.done) < TRAININGS

    (code,) = finish(start(chaos.study, chaos.results, notes, said))
    assert code == 0, said.read_text()
    assert chaos.done.items() <= finished(chaos.results).items()
    assert (chaos.results / "small" / "scores.csv").read_bytes() == undisturbed.scores
    assert [line for line in notes.read_text().splitlines() if line.endswith(("already", "elsewhere"))] == []
    assert "Traceback" not in said.read_text()
