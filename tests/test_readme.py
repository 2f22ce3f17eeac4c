"""The README as a new user follows it: its links, its files, its commands, its table."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.command_line import environment

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (ablate .*)$", README, flags=re.M)
FILES = re.findall(r"`(my_\w+\.(?:py|yaml))`[^`]*?:\n\n```(?:python|yaml)\n(.*?)```", README, flags=re.S)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README))))
def test_a_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_a_folder_of_the_map_is_there():
    folders = re.findall(r"^\| `([a-z_]+)/`", README, flags=re.M)
    assert len(folders) == 6
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_the_table_is_the_one_in_results():
    shown = re.search(r"<!-- table: (\S+) -->\n(.*?)<!-- end -->", README, flags=re.S)
    assert shown is not None
    stored = (ROOT / shown[1]).read_text()
    assert shown[2].strip() == "\n".join(line for line in stored.splitlines() if line.startswith("|"))


def test_the_first_command_leaves_the_tables_of_the_project_as_they_are():
    printed = subprocess.run(["make", "-n", "table"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (folder,) = re.findall(r"ablate run digits --results (\S+)", printed)
    assert f"/{folder}/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty folder with the files that the README tells its reader to write."""
    path = tmp_path_factory.mktemp("reader")
    assert [name for name, _ in FILES] == ["my_tricks.py", "my_study.yaml", "my_data.py", "my_data.yaml"]
    for name, text in FILES:
        (path / name).write_text(text)
    images = np.random.default_rng(0).integers(0, 255, (200, 3, 32, 32), dtype=np.uint8)
    np.savez(path / "mine.npz", images=images, targets=np.arange(200) % 2)
    return path


def test_there_are_commands_to_run():
    assert len(COMMANDS) == 11


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_works_in_its_order(folder, command):
    few = ["--seeds", "2"] if command.startswith("ablate run") else []  # `make table` trains all seeds
    words = [sys.executable, "-m", "ablations.cli", *command.split()[1:], *few]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("ablate plan digits", "8 rows x 10 seeds = 70 trainings instead of 80"),
        ("ablate show digits label_smoothing", "model.loss.label_smoothing: 0.0 -> 0.1"),
    ],
)
def test_an_output_is_as_the_readme_says(folder, command, sentence):
    assert f"`{sentence}`" in " ".join(README.split())
    words = [sys.executable, "-m", "ablations.cli", *command.split()[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment())
    assert sentence in " ".join(done.stdout.split())
