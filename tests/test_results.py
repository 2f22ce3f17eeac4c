"""The tables that the project stands behind: they follow from their scores, and their studies are those of today."""

import json
import os
import shutil
from pathlib import Path

import pytest

from ablations.planner import load_plan
from ablations.results import check_unchanged
from ablations.store import RunStore
from ablations.study_file import find_study
from ablations.table import write_table

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(
    path.parent for path in (ROOT / "results").rglob("study.json") if {"runs", "local"}.isdisjoint(path.parts)
)
DATA = {"bccd_yolov3": "bccd", "cifar10_small": "cifar10_jpeg", "omniglot_retrieval": "omniglot_small"}
"""The folder that a study needs to be planned, of studies that need one."""


def test_there_are_results():
    assert "digits" in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_table_follows_from_its_scores(folder, tmp_path):
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    for name in ("table.md", "table.csv"):
        (copy / name).unlink()
    write_table(copy)
    for name in ("table.md", "table.csv"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_table_is_of_its_study_as_it_is_now(folder):
    record = json.loads((folder / "study.json").read_text())
    data = DATA.get(record["name"])
    if data and not (Path(os.environ.get("TRICKSTACK_DATA", "")) / data).is_dir():
        pytest.skip(f"needs {data} in TRICKSTACK_DATA")
    check_unchanged(folder, load_plan(find_study(record["name"]), mode=record["mode"]), RunStore(ROOT / "results/runs"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_table_says_how_it_was_made(folder):
    text = (folder / "table.md").read_text()
    for line in ("- Command: `ablate run ", "- Commit: ", "- Versions: python ", "- Hardware: ", "- Seeds: "):
        assert line in text
    assert "unknown" not in text.partition("| # |")[0]
    assert "-changed" not in text.partition("| # |")[0]
