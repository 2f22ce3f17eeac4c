"""Trickstack in a project that has folders with the names of its packages."""

import subprocess
import sys

import pytest

from tests.helpers.command_line import environment
from tests.helpers.recipes import write_study

SCRIPT = 'import sys\nfrom ablations.cli import main\nif __name__ == "__main__":\n    sys.exit(main())\n'
"""What pip writes as the command `ablate`."""


def write_packages(folder, *names):
    """Write packages of the user's own, which nobody but the user may import."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise RuntimeError('this is the package of the user')\n")


def python(folder, *arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment())


def test_verbs_work_beside_folders_of_the_same_names(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    script = tmp_path / "ablate"
    script.write_text(SCRIPT)
    write_packages(project, "ablations", "lit_modules", "datamodules", "callbacks")
    study = write_study(project, seeds=1, tricks=["label_smoothing"])
    recipe = "results/small/recipes/01-label-smoothing.yaml"
    for verb in (
        ["tricks"], ["plan", study], ["run", study], ["report", study], ["fit", recipe, "--seed", 1], ["check", recipe],
    ):  # fmt: skip
        done = python(project, script, *verb)
        assert done.returncode == 0 or (verb[0] == "check" and done.returncode == 1), (verb, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_module_that_is_called_in_such_a_folder_finds_ours_too(tmp_path):
    write_packages(tmp_path, "lit_modules", "datamodules", "callbacks")
    study = write_study(tmp_path, seeds=1, tricks=["label_smoothing"])
    done = python(tmp_path, "-m", "ablations.cli", "run", study)
    assert done.returncode == 0, done.stderr


def test_a_package_of_that_name_that_is_imported_already_is_named(tmp_path):
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks/__init__.py").touch()
    done = python(tmp_path, "-c", "import callbacks, ablations")
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said == (
        f"ImportError: Trickstack needs its own package 'callbacks', and {tmp_path / 'callbacks'} was imported under "
        f"that name before. Rename that one, or import Trickstack in a process of its own."
    )


@pytest.mark.parametrize("statement", ["from callbacks import Mine", "import callbacks.mine"])
def test_a_plugin_that_wants_its_own_is_told_that_ours_has_the_name(tmp_path, statement):
    write_packages(tmp_path, "callbacks")
    (tmp_path / "mine.py").write_text(statement)
    done = python(tmp_path, "-m", "ablations.cli", "plan", write_study(tmp_path, plugins=["mine.py"]))
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "'callbacks' is a package of Trickstack's, whatever folders have that name. Give yours another name." in said
