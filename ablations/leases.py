"""Leases on folders of the run store: who trains what, told to processes on other machines, too.

A folder's lease is its file `lease-<n>` with the highest number. Whoever creates the next number holds it; creating
fails for all but one. So a lease that is taken over is never the same file again, and nothing but the highest number
counts. A holder gives it back by writing that into the file, over what stands there, which works on a full disk.

The holder touches its file every few seconds. Others see whether the time of the file *changes*, and wait for that by
their own monotonic clock: no two clocks are ever compared, so none that jumps does harm. Of a process of the same
machine they see at once that it is gone. A holder that finds a higher number than its own was taken for dead, as after
a long halt; it ends on the spot, before it writes anything.
"""

import contextlib
import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 90.0
POLL_SECONDS = 0.5
BUSY = 75
"""Exit code of a process that left a training to another one: EX_TEMPFAIL of sysexits.h."""

_HELD, _RELEASED = b"held    ", b"released"
_PREFIX = "lease-"


class BusyError(RuntimeError):
    """Another process is at work in the folder."""


@dataclass(frozen=True)
class _Seen:
    """What a lease file says.

    Args:
        number: its number.
        changed: when it was touched, by some clock.
        released: whether its holder has given it back.
        holder: the process that made it; empty if that cannot be read.
    """

    number: int
    changed: int
    released: bool
    holder: dict[str, Any]


class Watch:
    """Looks at the lease of a folder, again and again.

    Args:
        folder: the folder; it need not exist.
        expiry: seconds without a sign of life after which a holder counts as dead.
    """

    def __init__(self, folder: Path, expiry: float = EXPIRY_SECONDS) -> None:
        self.folder = folder
        self.expiry = expiry
        self._last: tuple[int, int] | None = None
        self._since = 0.0

    def is_held(self) -> bool:
        """Return whether a living process holds the lease, as far as it can be seen now."""
        seen = _highest(self.folder)
        return seen is not None and self._is_alive(seen)

    def try_to_take(self) -> int | None:
        """Take the lease if nobody alive holds it; return its number, or `None`."""
        seen = _highest(self.folder)
        if seen is not None and self._is_alive(seen):
            return None
        number = seen.number + 1 if seen else 1
        return number if _create(self.folder, number) else None

    def _is_alive(self, seen: _Seen) -> bool:
        if seen.released or _is_gone(seen.holder):
            return False
        now = time.monotonic()
        if self._last != (seen.number, seen.changed):
            self._last, self._since = (seen.number, seen.changed), now
        return now - self._since < self.expiry


@contextlib.contextmanager
def hold(
    folder: Path, wait: bool = True, heartbeat: float = HEARTBEAT_SECONDS, expiry: float = EXPIRY_SECONDS
) -> Iterator[None]:
    """Hold the lease of a folder.

    Args:
        folder: the folder, which is there.
        wait: for another process that holds it, however long that takes.
        heartbeat: seconds between two signs of life.
        expiry: see `Watch`.

    Raises:
        BusyError: another process holds it, and `wait` is off.
    """
    watch = Watch(folder, expiry)
    while (number := watch.try_to_take()) is None:
        if not wait:
            raise BusyError(f"another process is at work in {folder}")
        time.sleep(POLL_SECONDS)
    path = _path(folder, number)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, number, ended, heartbeat), daemon=True, name="lease")
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        _release(path)


def give_back(folder: Path) -> None:
    """Give back the lease of a folder, if this process holds it: for an end that leaves no `with` block."""
    seen = _highest(folder)
    if seen is not None and seen.holder == _this_process():
        _release(_path(folder, seen.number))


def _create(folder: Path, number: int) -> bool:
    """Create a lease file and return whether that makes this process the holder."""
    path = _path(folder, number)
    draft = folder / f".{_PREFIX}draft-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        draft.write_bytes(_HELD + json.dumps(_this_process()).encode())
        _publish(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    # What was listed may have been old, as on NFS, and the number long used up and cleared away.
    if max(_numbers(folder)) > number:
        path.unlink(missing_ok=True)
        return False
    for older in _numbers(folder):
        if older < number:
            _path(folder, older).unlink(missing_ok=True)
    return True


def _publish(draft: Path, path: Path) -> None:
    """Give a file its name in one step, and only if no other has it: whoever dies here leaves no half a lease."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with path.open("xb") as file:
            file.write(draft.read_bytes())


def _beat(folder: Path, number: int, ended: threading.Event, seconds: float) -> None:
    """Give signs of life until the end, or end the process if another one has taken over."""
    path = _path(folder, number)
    while not ended.wait(seconds):
        with contextlib.suppress(OSError):  # a file system that is away for a moment may come back
            if max(_numbers(folder), default=number) > number:
                log.error("%s was taken over by another process while this one was halted; it ends here.", path)
                os._exit(BUSY)
            os.utime(path)


def _release(path: Path) -> None:
    with contextlib.suppress(OSError):  # then it expires
        handle = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(handle, _RELEASED, 0)
        finally:
            os.close(handle)


def _highest(folder: Path) -> _Seen | None:
    """Return what the lease of a folder says; `None` if there has never been one."""
    number = max(_numbers(folder), default=0)
    if not number:
        return None
    try:
        with _path(folder, number).open("rb") as file:  # on NFS opening a file makes its time a fresh one
            changed, content = os.fstat(file.fileno()).st_mtime_ns, file.read()
    except FileNotFoundError:  # a newer one has just taken its place
        return _highest(folder)
    try:
        holder = json.loads(content[len(_HELD) :])
    except ValueError:
        holder = {}
    return _Seen(number, changed, content.startswith(_RELEASED), holder if isinstance(holder, dict) else {})


def _numbers(folder: Path) -> list[int]:
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    ends = [name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX)]
    return [int(end) for end in ends if end.isdecimal()]


def _path(folder: Path, number: int) -> Path:
    return folder / f"{_PREFIX}{number}"


def _this_process() -> dict[str, Any]:
    return {"machine": _machine(), "pid": os.getpid(), "started": _start_time(os.getpid())}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Return whether a process is known to have ended; that of another machine never is."""
    machine = _machine()
    if not machine or holder.get("machine") != machine or not isinstance(holder.get("pid"), int):
        return False
    return _start_time(holder["pid"]) != holder.get("started")


def _machine() -> str:
    """Return what tells this start of this machine, or container, from all others; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return when a process started, which tells it from a later one with its number; `None` if it has ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = status.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
