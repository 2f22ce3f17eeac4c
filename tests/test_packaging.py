"""The package as it installs elsewhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Build the wheel and install it, without its dependencies, into a folder far from the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for package in ("ablations", "lit_modules", "datamodules", "callbacks"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder, wheel


def ablate(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "PYTHONWARNINGS": "ignore"}
    command = [folder / "site/bin/ablate", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment).stdout


def test_the_wheel_holds_the_yaml_files_and_the_command(installed):
    _, wheel = installed
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*(ROOT / "ablations").rglob("*.yaml"), *(ROOT / "ablations").rglob("*.py")]:
        assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests/", "results/"))]


def test_the_installed_command_knows_tricks_and_studies(installed):
    folder, _ = installed
    assert "label_smoothing" in ablate(folder, "tricks")
    out = ablate(folder, "plan", "digits")
    assert "8 rows x 10 seeds" in out
    assert str(ROOT) not in out
