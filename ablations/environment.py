"""What a result depends on besides its recipe: versions of code and libraries, and the hardware."""

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

LIBRARIES = ("trickstack", "torch", "torchvision", "lightning", "torchmetrics", "numpy")


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a training uses."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def version_differences(expected: dict[str, str], found: dict[str, str]) -> str:
    """Return in words which libraries have another version than expected; empty if none has."""
    pairs = [(name, version, found.get(name)) for name, version in expected.items()]
    return ", ".join(f"{name} {there} and not {version}" for name, version, there in pairs if there != version)


@functools.cache
def code_version() -> str | None:
    """Return the commit of our own code, `-changed` behind it if files differ from it; `None` outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return None
    packages = ("ablations", "lit_modules", "datamodules", "callbacks")
    return f"{commit}-changed" if _git(root, "status", "--porcelain", "--", *packages) else commit


def processor_name() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    cores = usable_cores()
    return f"{name}, {cores} core{'s' if cores != 1 else ''}"


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _git(root: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
