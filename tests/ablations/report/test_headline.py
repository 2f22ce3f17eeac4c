"""The answer at the top of the page follows from the verdicts."""

from dataclasses import replace

import pytest

from ablations.report.headline import answer, question
from ablations.table import Table, read_table
from tests.helpers.results_folder import plan_rows, write_results


@pytest.fixture
def table(tmp_path) -> Table:
    return read_table(write_results(tmp_path, plan_rows(9)))


def with_verdicts(table: Table, *verdicts: str) -> Table:
    rows = [replace(row, verdict=words) for row, words in zip(table.rows[1:], verdicts, strict=False)]
    return replace(table, rows=(table.rows[0], *rows))


def test_every_verdict_is_counted(table):
    verdicts = ["gain", "loss", "undecided (about 9 seeds would decide it)", "open (after 3 seeds)"]
    verdicts += ["too small to matter (within ±0.3)", "no result", "one seed only", "gain"]
    counted = answer(with_verdicts(table, *verdicts))
    assert counted.startswith("2 of 8 are gains: trick_")
    assert "; 1 is a loss: trick_2 (" in counted
    assert "; 2 stay undecided with these seeds; 1 is too small to matter; 2 cannot be judged." in counted


def test_of_many_gains_the_largest_are_named(table):
    said = answer(with_verdicts(table, *["gain"] * 8))
    largest = sorted(table.rows[1:], key=lambda row: -abs(row.gain.estimate))[:5]
    for row in largest:
        assert f"{row.trick} ({row.gain.estimate:+.2f})" in said
    assert "8 of 8 are gains" in said
    assert "and 3 more." in said


def test_the_stack_leads_from_its_first_row_to_its_last(table):
    first, last = (row.score.estimate for row in (table.rows[0], table.rows[-1]))
    assert answer(table).endswith(f" The whole stack goes from {first:.2f} to {last:.2f} %.")
    assert "whole stack" not in answer(replace(table, mode="one-at-a-time"))


def test_the_question_says_what_is_better_and_how_rows_are_made(table):
    assert question(table) == "Which of 8 tricks improve test/accuracy, each added to the ones before?"
    lower = replace(table, higher_is_better=False, mode="leave-one-out")
    assert question(lower) == "Which of 8 tricks lower test/accuracy, each left out of all of them?"
