"""Costs in the table: what is shown beside the gains, and what each row's trainings and test cost."""

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from ablations.table import TableError, read_table, to_frame, to_markdown, to_rich
from tests.helpers.results_folder import plan_rows, write_results

TESTS = [{"row": row, "seed": seed, "seconds": 0.1 * (1 + row), "flops_per_image": 1e6 * (1 + row // 2)}
         for row in range(3) for seed in range(5)]  # fmt: skip


def folder_of(folder: Path, rows: list[dict[str, Any]] | None = None, tests: Any = TESTS) -> Path:
    write_results(folder, rows)
    if tests is not None:
        pd.DataFrame(tests).to_csv(folder / "inference_costs.csv", index=False)
    return folder


def header(text: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith("| #")).strip("| ").split(" | ")


def test_the_cost_of_tests_is_shown_with_its_ratio_to_the_row_compared_with(tmp_path: Path) -> None:
    table = read_table(folder_of(tmp_path))
    assert [row.test_seconds for row in table.rows] == pytest.approx([0.1, 0.2, 0.3])
    assert [row.test_ratio for row in table.rows] == pytest.approx([math.nan, 2.0, 1.5], nan_ok=True)
    text = to_markdown(table)
    assert header(text)[8:] == ["seconds a training", "seconds a test", "FLOPs an image", "parameters"]
    assert "| 0.3 (×1.50) | 2M | 1,000 |" in text
    assert "a multiplication and an addition are two" in text


def test_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    table = read_table(folder_of(tmp_path, tests=None))
    assert header(to_markdown(table))[8:] == ["seconds a training", "parameters"]
    assert not {"test_seconds", "test_ratio", "flops_per_image", "peak_memory_mb"} & set(to_frame(table))


def test_what_is_the_same_in_all_rows_is_left_out(tmp_path: Path) -> None:
    table = read_table(folder_of(tmp_path, tests=[{**line, "flops_per_image": 1e6} for line in TESTS]))
    assert "FLOPs" not in to_markdown(table)
    memory = [replace(row, peak_memory_mb=500.0 + 100 * row.index) for row in table.rows]
    assert "peak memory (MB)" in header(to_markdown(replace(table, rows=tuple(memory))))


def test_the_terminal_shows_test_time_and_parameters_where_they_differ_within_110_columns(tmp_path: Path) -> None:
    def terminal(table: Any) -> str:
        console = Console(file=StringIO(), width=110)
        console.print(to_rich(table))
        assert isinstance(console.file, StringIO)
        return console.file.getvalue()

    table = read_table(folder_of(tmp_path))
    text = terminal(table)
    assert "×1.50" in text and "params" not in text
    rows = tuple(replace(row, parameters=1000 * (1 + row.index)) for row in table.rows)
    text = terminal(replace(table, rows=rows))
    assert "params" in text and "3k" in text
    assert max(map(len, text.splitlines())) <= 110
    assert "…" not in text


def test_a_row_of_several_trainings_costs_their_sum_and_the_largest_memory(tmp_path: Path) -> None:
    rows = plan_rows(3)
    behind = [[rows[1]["key"], 0], [rows[0]["key"], 0], [rows[0]["key"], 1]]
    rows[1] |= {"trainings": behind, "networks": behind[:2]}
    folder = folder_of(tmp_path, rows)
    costs = pd.read_csv(folder / "costs.csv", dtype={"key": str})
    costs["peak_memory_mb"] = 100.0 + costs["seed"]
    costs.to_csv(folder / "costs.csv", index=False)
    line = read_table(folder).rows[1]
    assert line.seconds == pytest.approx(1.5 + 0.5 + 0.5)
    assert line.peak_memory_mb == pytest.approx((101 + 102 + 103 + 104) / 4)
    assert line.parameters == 2000  # of the last seed, one training is unknown
    assert "Of row 1, which needs several trainings, the seconds are those of all" in to_markdown(read_table(folder))


def test_costs_of_tests_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"inference_costs\.csv: it has a row and seed that stood before \(line 17\)"):
        read_table(folder_of(tmp_path, tests=[*TESTS, TESTS[0]]))
    with pytest.raises(TableError, match="its column seconds holds something else than numbers"):
        read_table(folder_of(tmp_path, tests=[{**TESTS[0], "seconds": "long"}]))
