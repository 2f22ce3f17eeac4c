"""Leases: one holder, whoever else is there, and none lost to a process that has died."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from ablations import leases
from ablations.leases import BusyError, Watch, hold


def lease_of(folder: Path, number: int = 1) -> Path:
    return folder / f"lease-{number}"


def write_foreign(folder: Path, number: int = 1) -> Path:
    """Write the lease of a process of another machine."""
    folder.mkdir(exist_ok=True)
    path = lease_of(folder, number)
    path.write_bytes(b"held    " + json.dumps({"machine": "elsewhere", "pid": os.getpid(), "started": "1"}).encode())
    return path


def test_a_lease_that_is_held_is_refused_and_one_given_back_is_not(tmp_path: Path) -> None:
    with hold(tmp_path):
        assert Watch(tmp_path).is_held()
        with pytest.raises(BusyError, match=str(tmp_path)), hold(tmp_path, wait=False):
            pass
    assert not Watch(tmp_path).is_held()
    with hold(tmp_path, wait=False):
        assert [path.name for path in tmp_path.iterdir()] == ["lease-2"]


def test_a_folder_that_is_not_there_is_free(tmp_path: Path) -> None:
    assert not Watch(tmp_path / "none").is_held()


def test_a_lease_is_given_back_after_an_error_and_takes_no_space_for_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    assert not Watch(tmp_path).is_held()
    with hold(tmp_path):
        size = lease_of(tmp_path, 2).stat().st_size
    assert lease_of(tmp_path, 2).stat().st_size == size  # written over: it takes no space


def test_on_a_full_disk_no_lease_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OSError, match="No space left"), hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_links_there_are_leases_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with hold(tmp_path):
        assert not leases._create(tmp_path, 1)
        assert Watch(tmp_path).is_held()
        assert [path.name for path in tmp_path.iterdir()] == ["lease-1"]


def test_a_holder_elsewhere_is_alive_as_long_as_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    path, watch = write_foreign(tmp_path), Watch(tmp_path, expiry=60)
    for moment in (10**9, 5, 2 * 10**18, 1):  # its clock jumps to the future and to the past
        os.utime(path, ns=(moment, moment))
        assert watch.is_held()
        now[0] += 59
        assert watch.is_held()
    now[0] += 1
    assert not watch.is_held()
    assert not watch.is_held()
    os.utime(path)  # it lives after all
    assert watch.is_held()


def test_a_dead_holder_elsewhere_is_taken_over_by_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    write_foreign(tmp_path, 7)
    first, second = Watch(tmp_path, expiry=60), Watch(tmp_path, expiry=60)
    assert first.try_to_take() is second.try_to_take() is None
    now[0] = 60
    assert first.try_to_take() == 8
    assert second.try_to_take() is None
    assert [path.name for path in tmp_path.iterdir()] == ["lease-8"]


def test_a_number_that_was_used_up_meanwhile_is_no_lease(tmp_path: Path) -> None:
    write_foreign(tmp_path, 5)
    assert not leases._create(tmp_path, 4)  # as one does who saw an old list
    assert [path.name for path in tmp_path.iterdir()] == ["lease-5"]


@pytest.mark.parametrize("content", [b"", b"held", b"held    {", b"held    []"])
def test_a_lease_that_cannot_be_read_counts_as_held_until_it_expires(tmp_path: Path, content: bytes) -> None:
    lease_of(tmp_path).write_bytes(content)
    assert Watch(tmp_path).is_held()
    assert not Watch(tmp_path, expiry=0).is_held()


def _hold_until_killed(folder: Path) -> None:
    with hold(folder):
        (folder / "ready").touch()
        signal.pause()


def test_a_process_of_this_machine_that_was_killed_is_taken_over_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_hold_until_killed, args=(tmp_path,))
    process.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    assert process.pid is not None and Watch(tmp_path).is_held()
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet gone from the list of processes
    assert not Watch(tmp_path).is_held()
    process.join()
    assert not Watch(tmp_path).is_held()


def test_another_process_with_the_same_number_is_not_the_holder(tmp_path: Path) -> None:
    holder = {"machine": leases._machine(), "pid": os.getpid(), "started": "1"}
    lease_of(tmp_path).write_bytes(b"held    " + json.dumps(holder).encode())
    assert not Watch(tmp_path).is_held()


def _lose_the_lease(folder: Path) -> None:
    with hold(folder, heartbeat=0.02):
        write_foreign(folder, 2)
        signal.pause()


def test_a_holder_that_was_taken_over_ends_at_once(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_lose_the_lease, args=(tmp_path,))
    process.start()
    process.join(30)
    assert process.exitcode == leases.BUSY
    assert lease_of(tmp_path, 2).exists()


def test_a_holder_gives_signs_of_life(tmp_path: Path) -> None:
    with hold(tmp_path, heartbeat=0.01):
        os.utime(lease_of(tmp_path), (5, 5))
        while lease_of(tmp_path).stat().st_mtime == 5:
            time.sleep(0.01)
        assert Watch(tmp_path, expiry=60).is_held()


def _count_up(folder: Path, times: int) -> None:
    counter = folder / "counter"
    for _ in range(times):
        with hold(folder):
            counter.write_text(str(int(counter.read_text()) + 1))


def test_many_processes_never_hold_it_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.001)
    (tmp_path / "counter").write_text("0")
    processes = [multiprocessing.get_context("fork").Process(target=_count_up, args=(tmp_path, 40)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "counter").read_text() == "160"
