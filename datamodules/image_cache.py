"""Results of work on many image files, kept on disk until a file changes.

A cache file is named by where the images are, what was made of them, and a stamp of the files (`ImageFiles.stamp`). It
is written under another name and renamed, so what is there is whole. Processes that start at once wait for the first.
"""

import contextlib
import fcntl
import functools
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

log = logging.getLogger(__name__)

FORMAT = 1
"""To be raised when decoding changes, so that what was decoded before is not used."""

Made = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors, and notes about them, each by name."""


@dataclass(frozen=True)
class ImageCache:
    """A folder of results.

    Args:
        folder: Where; made if missing.
        source: The folder of the images.
        how: What is made of the images, with all settings that decide it.
    """

    folder: Path
    source: Path
    how: str

    def get(self, stamp: str, make: Callable[[], Made]) -> Made:
        """Return what ``make`` returns, from disk if it is there; without a folder to write to, made each time.

        Args:
            stamp: Of the files as they are now.
            make: Makes the result, once for all processes.
        """
        path = self._path(stamp)
        if (kept := self._read(path)) is not None:
            return kept
        try:
            with self._lock():
                if (kept := self._read(path)) is not None:
                    return kept
                made = make()
                self._write(path, made)
                return made
        except _UnwritableError as error:
            warn_once(f"{self.folder} cannot be written ({error}), so images are decoded anew by every process.")
            return error.made if error.made is not None else make()

    def notes(self, stamp: str) -> dict[str, str] | None:
        """Return the notes of a result without reading its tensors; None if it is not on disk."""
        try:
            with safe_open(self._path(stamp), framework="pt") as file:
                return dict(file.metadata() or {})
        except (OSError, SafetensorError):
            return None

    def _read(self, path: Path) -> Made | None:
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
        except (OSError, SafetensorError):
            return None

    def _write(self, path: Path, made: Made) -> None:
        part = path.with_suffix(f".part{os.getpid()}")
        try:
            save_file(made[0], part, metadata=made[1])
            part.chmod(0o644)  # others who share the data may read it
            part.replace(path)
            for old in self.folder.glob(f"{self._name()}-*.safetensors"):
                if old != path:
                    old.unlink(missing_ok=True)  # of files that have changed
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise _UnwritableError(error, made) from error

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = (self.folder / f"{self._name()}.lock").open("w")
        except OSError as error:
            raise _UnwritableError(error, None) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _name(self) -> str:
        settings = f"{FORMAT}\0{self.source.resolve()}\0{self.how}"
        return f"{self.source.name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"

    def _path(self, stamp: str) -> Path:
        return self.folder / f"{self._name()}-{stamp[:16]}.safetensors"


class _UnwritableError(Exception):
    """The cache cannot be written; what had been made by then is not lost."""

    def __init__(self, error: Exception, made: Made | None) -> None:
        super().__init__(getattr(error, "strerror", None) or str(error))
        self.made = made


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning, once a process."""
    log.warning(message)
