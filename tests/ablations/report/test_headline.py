"""The answer at the top of the page follows from the verdicts."""

from dataclasses import replace

import pytest

from ablations.report import make_report
from ablations.report.headline import answer, question
from ablations.store import RunStore
from ablations.table import Table, read_table
from tests.helpers.results_folder import plan_row, plan_rows, write_results


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


def of_sets(folder, mode, tricks=("a", "b"), gains=(0.02, 0.05, 0.02), seeds=4):
    """A study of two tricks and both; `gains` are those of the rows over the base."""
    sets = [(), (tricks[0],), (tricks[1],), tricks]
    rows = [plan_row(index, "+".join(names) or "base", tricks=list(names)) for index, names in enumerate(sets)]
    rows = [{**row, "compared_to": 0 if row["index"] else None} for row in rows]
    values = {
        (row, seed): 0.8 + gain + 0.0005 * (-1) ** (seed + row)
        for row, gain in enumerate((0, *gains))
        for seed in range(seeds)
    }
    orders = {"orders": [list(tricks), list(tricks[::-1])]} if mode == "shapley" else {}
    return read_table(write_results(folder, rows, seeds, scores=values, mode=mode, **orders))


def test_of_pairs_it_says_which_do_something_to_each_other(tmp_path):
    table = of_sets(tmp_path / "less", "pairs")
    assert question(table) == "What do 2 tricks do to test/accuracy, and any two of them to each other?"
    together = 100 * (0.02 - 0.05 - 0.02)
    expected = f"1 of 1 pairs do more or less together than the sum of the two: a × b ({together:+.2f})."
    assert answer(table) == expected
    sum_of_both = of_sets(tmp_path / "sum", "pairs", gains=(0.02, 0.05, 0.07))
    assert answer(sum_of_both).startswith("None of 1 pairs do more or less together")


def test_of_orders_it_says_what_each_trick_is_worth(tmp_path):
    table = of_sets(tmp_path / "some", "shapley", gains=(0.02, 0.05, 0.07))
    assert question(table) == "What is each of 2 tricks worth in test/accuracy, whichever joined before it?"
    assert answer(table).startswith("2 of 2 tricks are worth something")
    assert answer(table).endswith("b (+5.00), a (+2.00).")
    alone = of_sets(tmp_path / "alone", "shapley", seeds=1)
    assert answer(alone).startswith("Nothing can be said: there are too few seeds")


@pytest.mark.parametrize(("mode", "heading"), [("pairs", "Interactions"), ("shapley", "Shapley values")])
def test_the_page_has_the_table_of_what_tricks_do_together(tmp_path, mode, heading):
    of_sets(tmp_path / "small", mode, tricks=("<a>", "b"))
    page = make_report(tmp_path / "small", RunStore(tmp_path / "runs")).page
    assert f'<h3 id="effects">{heading}</h3>' in page
    assert "<a>" not in page
