"""The wheel, installed as a user installs it: with what it depends on and nothing else, no extra, no tool of the tests.

Nothing is downloaded: the environment holds links to the distributions of the one that the tests run in.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PACKAGES = ("ablations", "lit_modules", "datamodules", "callbacks")
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def build_wheel(folder: Path) -> Path:
    """Build the wheel from a copy of the checkout, in which nothing is left over from another build."""
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


class PlainInstall:
    """An environment with the wheel and what it requires.

    Args:
        folder: where it is made.
        wheel: the wheel.
        without: distributions that are left out all the same.
    """

    def __init__(self, folder: Path, wheel: Path, without: tuple[str, ...] = ()) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", folder], check=True)
        (site,) = (folder / "lib").glob("python*/site-packages")
        python = folder / "bin/python"
        subprocess.run([*PIP, "--python", python, "install", "--no-deps", wheel], check=True, env=_environment())
        (info,) = site.glob("trickstack-*.dist-info")
        self.distributions = required(Distribution.at(info)) - set(without)
        for name in self.distributions:
            _link(distribution(name), site)

    def run(self, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run its `ablate` in a folder and wait for it."""
        command = [self.folder / "bin/ablate", *map(str, arguments)]
        return subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, check=False)


def required(installed: Distribution) -> set[str]:
    """Return the names of all distributions that one needs, by what each of them says of itself."""
    found: set[str] = set()
    waiting = [(installed, "")]
    while waiting:
        one, extra = waiting.pop()
        for text in one.requires or []:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(requirement.name)
            new = {*requirement.extras} if name in found else {"", *requirement.extras}
            found.add(name)
            waiting += [(distribution(name), each) for each in new]
    return found


def _environment() -> dict[str, str]:
    """Return the variables of this process without those that lead to the checkout or to data."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "TRICKSTACK_DATA")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"PYTHONWARNINGS": "ignore"}


def _link(installed: Distribution, site: Path) -> None:
    """Link what a distribution has put beside the others."""
    for name in {file.parts[0] for file in installed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / name).exists():
            (site / name).symlink_to(Path(str(installed.locate_file(name))))
