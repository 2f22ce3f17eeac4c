"""What studies found, as pandas frames."""

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import ablations.api
from ablations import curves, load_study, scores
from ablations.errors import StoreError
from tests.helpers.results_folder import METRIC, plan_rows, write_results, write_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All results of two studies; seed 1 of a row failed, and seed 2 was not run."""
    rows = plan_rows(3)
    write_results(tmp_path / "small", rows, seeds=3, scores={(2, 1): "out of memory", (2, 2): None})
    write_results(tmp_path / "small" / "one-at-a-time", rows[:2], seeds=2, mode="one-at-a-time")
    write_store(tmp_path / "runs", rows, seeds=2, epochs=4)
    return tmp_path


def test_a_study_is_found_by_its_name_its_folder_and_its_mode(folder: Path) -> None:
    for found in (load_study("small", folder), load_study(folder / "small"), load_study(str(folder / "small"))):
        assert (found.name, found.folder) == ("small", folder / "small")
        assert list(found.rows["name"]) == list(found.table["name"]) == ["base", "+ trick_1", "+ trick_2"]
        assert list(found.rows["compared_to"].fillna(-1)) == [-1, 0, 1]
        assert found.effects.empty
    assert list(load_study("small", folder, mode="one-at-a-time").table["name"]) == ["base", "+ trick_1"]


def test_a_study_is_found_by_its_file(tmp_path: Path) -> None:
    assert load_study(ROOT / "ablations/studies/digits.yaml", ROOT / "results").name == "digits"


def test_scores_are_a_line_a_row_and_seed_as_they_were_logged(folder: Path) -> None:
    frame = scores("small", folder)
    assert list(frame) == ["row", "name", "trick", "seed", "status", METRIC]
    assert len(frame) == 9
    written = pd.read_csv(folder / "small/scores.csv")
    pd.testing.assert_series_equal(frame[METRIC], written[METRIC])
    assert list(frame["status"])[-3:] == ["done", "failed", "missing"]
    assert list(frame["trick"].fillna("-"))[::3] == ["-", "trick_1", "trick_2"]


def test_curves_are_those_of_the_store(folder: Path) -> None:
    frame = curves("small", folder)
    assert list(frame) == ["row", "name", "trick", "seed", "epoch", "step", "lr", "train/loss", "val/accuracy"]
    assert len(frame) == 3 * 2 * 4
    one = frame[(frame["row"] == 1) & (frame["seed"] == 1)]
    written = pd.read_csv(folder / "runs" / plan_rows(3)[1]["key"] / "seed-1" / "metrics.csv")
    pd.testing.assert_frame_equal(one[list(written)].reset_index(drop=True), written)
    pd.testing.assert_frame_equal(curves(folder / "small", store=folder / "runs"), frame)


def test_what_is_not_there_is_said_with_what_there_is(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no study. There are: small. Did you mean 'small'\?"):
        load_study("smal", folder)
    with pytest.raises(StoreError, match="small/pairs holds no study"):
        scores("small", folder, mode="pairs")
    with pytest.raises(StoreError, match="holds no learning curve of the study small"):
        curves("small", folder, store=folder / "nothing")
    (folder / "small/scores.csv").write_text("row\n0\n")
    with pytest.raises(StoreError, match=r"scores.csv cannot be read .* `ablate table small`"):
        scores("small", folder)


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    example = re.search(r"Example::\n\n((?:    .*\n|\n)+)", ablations.api.__doc__ or "")
    assert example is not None
    exec("\n".join(line[4:] for line in example[1].splitlines()), {})
    printed = capsys.readouterr().out
    assert "verdict" in printed and "+ cosine_schedule" in printed


def test_the_package_imports_neither_torch_nor_pandas() -> None:
    heavy = ["torch", "lightning", "pandas", "numpy", "scipy"]
    code = f"import ablations, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
