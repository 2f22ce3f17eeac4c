"""The table of a study, made from results folders that are written by hand."""

import csv
import json
import math
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from scipy import stats

from ablations.errors import StudyError
from ablations.statistics import holm, seeds_needed
from ablations.table import (
    Failure,
    Table,
    TableError,
    TableRow,
    read_table,
    to_frame,
    to_markdown,
    to_rich,
    write_table,
)

METRIC = "test/accuracy"
BASE = [0.900, 0.902, 0.904, 0.901, 0.903]
BETTER = [0.920, 0.925, 0.921, 0.923, 0.922]
SAME = [0.921, 0.924, 0.9205, 0.9235, 0.9225]
Score = float | str | None


def row(index: int, name: str, compared_to: int | None = 0, **changes: Any) -> dict[str, Any]:
    text = f"What {name} does."
    trick = name.removeprefix("+ ") if compared_to is not None else None
    plan = {"index": index, "name": name, "text": text, "trick": trick, "compared_to": compared_to, "sign": 1}
    return {**plan, "published": None, "published_unconfirmed": False, **changes}


ROWS = [row(0, "base", None), row(1, "+ cosine", 0, published=0.75), row(2, "+ mixup", 1)]


def write_results(
    folder: Path,
    scores: list[list[Score]],
    rows: list[dict[str, Any]] = ROWS,
    keys: list[str] | None = None,
    costs: list[dict[str, Any]] | None = None,
    **changes: Any,
) -> Path:
    """Write a results folder: a score is a number, the reason of a failure, or None where nothing was run."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {"command": "ablate run digits", "commit": "abc123", "versions": {"trickstack": "0.1.0", "torch": "2.11.0"}}
    head |= {"hardware": "one processor, 2 cores", "date": "2026-01-31"}
    study = {"name": "digits", "task": "classification", "mode": "stack", "metric": METRIC, "scale": 100.0, "unit": "%"}
    study |= {"higher_is_better": True, "seeds": list(range(max(map(len, scores))))}
    study |= {"reference": {"source": "arXiv:1812.01187, Table 6", "unconfirmed": False}, "rows": rows, "head": head}
    (folder / "study.json").write_text(json.dumps({**study, **changes}))
    with (folder / "scores.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["row", "name", "seed", "status", "reason", "key", "inference", METRIC, "test/loss"])
        for plan, of_row in zip(rows, scores, strict=True):
            key = keys[plan["index"]] if keys else f"00{plan['index']}e5"
            for seed, score in enumerate(of_row):
                line = [plan["index"], plan["name"], seed]
                if isinstance(score, str):
                    out.writerow([*line, "failed", score, key, "last", "", ""])
                elif score is None:
                    out.writerow([*line, "missing", "", key, "last", "", ""])
                else:
                    out.writerow([*line, "done", "", key, "last", repr(score), repr(1 - score)])
    if costs is not None:
        pd.DataFrame(costs).to_csv(folder / "costs.csv", index=False)
    return folder


def table_of(folder: Path, scores: list[list[Score]], *arguments: Any, **changes: Any) -> Table:
    return read_table(write_results(folder, scores, *arguments, **changes))


def markdown_rows(table: Table) -> list[list[str]]:
    lines = [line for line in to_markdown(table).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.replace(r"\|", "¦").strip("|").split("|")] for line in lines[2:]]


def terminal(table: Table, width: int = 100) -> str:
    console = Console(file=StringIO(), width=width)
    console.print(to_rich(table))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_scores_are_the_t_intervals_of_scipy_in_points(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER, SAME])
    for line, values in zip(table.rows, [BASE, BETTER, SAME], strict=True):
        points = 100 * np.array(values)
        low, high = stats.t.interval(0.95, 4, points.mean(), stats.sem(points))
        assert (line.score.estimate, line.score.low, line.score.high) == pytest.approx((points.mean(), low, high))
        assert line.sd == pytest.approx(points.std(ddof=1))
        assert (line.n_done, line.n_failed, line.n_missing) == (5, 0, 0)


def test_gains_are_the_welch_tests_of_scipy_adjusted_over_the_table(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER, SAME])
    tests = [
        stats.ttest_ind(100 * np.array(a), 100 * np.array(b), equal_var=False)
        for a, b in [(BETTER, BASE), (SAME, BETTER)]
    ]
    assert table.rows[0].gain is None
    assert table.comparisons == 2
    for line, test, p in zip(table.rows[1:], tests, holm([t.pvalue for t in tests]), strict=True):
        level = 0.05 / 2 if line.index == 1 else 0.05  # the first is rejected at alpha / 2, so the second has all of it
        interval = test.confidence_interval(1 - level)
        assert line.gain is not None
        assert (line.gain.low, line.gain.high) == pytest.approx((interval.low, interval.high))
        assert line.gain.confidence == pytest.approx(1 - level)
        assert line.gain.p == pytest.approx(test.pvalue)
        assert line.p_adjusted == pytest.approx(p)
    needed = seeds_needed(0.01, table.rows[2].sd, table.rows[1].sd, alpha=0.025)
    assert needed is not None and needed > 1000
    assert [line.verdict for line in table.rows] == ["", "gain", "undecided (more than 1,000 seeds would be needed)"]


def test_a_row_of_a_stack_is_compared_with_the_row_before_and_not_with_the_base(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER, SAME])
    assert table.rows[2].gain is not None
    assert table.rows[2].gain.estimate == pytest.approx(100 * (np.mean(SAME) - np.mean(BETTER)))


def test_leaving_out_a_trick_that_helps_shows_its_gain(tmp_path: Path) -> None:
    rows = [row(0, "all tricks", None), row(1, "- cosine", 0, sign=-1, trick="cosine", published=0.75)]
    table = table_of(tmp_path, [BETTER, BASE[:4]], rows, mode="leave-one-out")
    assert "| what it leaves out |" in to_markdown(table)
    line = table.rows[1]
    assert line.gain is not None
    assert line.gain.estimate == pytest.approx(100 * (np.mean(BETTER) - np.mean(BASE[:4])))
    assert line.gain.low < line.gain.estimate < line.gain.high
    assert (line.gain.n_a, line.gain.n_b) == (5, 4)
    assert line.verdict == "gain"


def test_a_loss_says_so_and_lower_can_be_better(tmp_path: Path) -> None:
    worse = table_of(tmp_path / "up", [BETTER, BASE], ROWS[:2])
    assert worse.rows[1].verdict == "loss"
    lower = table_of(tmp_path / "down", [BETTER, BASE], ROWS[:2], higher_is_better=False)
    assert lower.rows[1].verdict == "gain"
    assert "lower is better" in to_markdown(lower)
    assert "a negative difference is a gain" in to_markdown(lower)


def test_another_metric_of_the_same_file_can_be_the_headline(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER, SAME], metric="test/loss", scale=1.0, unit="", higher_is_better=False)
    assert table.rows[0].score.estimate == pytest.approx(1 - np.mean(BASE))
    assert "| test/loss |" in to_markdown(table)
    assert markdown_rows(table)[0][3] == "0.0980 ± 0.0020"


def test_failed_seeds_are_counted_and_named_and_leave_the_mean_to_the_others(tmp_path: Path) -> None:
    scores: list[list[Score]] = [[*BASE], ["out of memory", 0.92, "diverged in epoch 3", 0.925, "diverged in epoch 3"]]
    table = table_of(tmp_path, scores, ROWS[:2])
    line = table.rows[1]
    assert (line.n_done, line.n_failed, line.n_missing) == (2, 3, 0)
    assert line.score.estimate == pytest.approx(92.25)
    assert line.failures == (Failure("diverged in epoch 3", (2, 4)), Failure("out of memory", (0,)))
    cell = markdown_rows(table)[1][3]
    assert cell.startswith("92.25 ± ") and cell.endswith("(n = 2)")
    text = "3 of 5 failed: diverged in epoch 3 (seeds 2, 4); out of memory (seed 0)"
    assert f"- Row 1 (+ cosine): {text}\n" in to_markdown(table)
    assert "3 of 5 failed: diverged in epoch 3" in " ".join(terminal(table).split())


def test_a_row_whose_seeds_all_failed_has_no_number_anywhere(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[*BASE], ["diverged"] * 5, [*BETTER]])
    failed, after = markdown_rows(table)[1:]
    assert failed[3:7] == ["failed", "–", "–", "no result"]
    assert after[4:7] == ["–", "–", "no result"], "compared with a row that failed"
    assert after[3] == "92.22 ± 0.24"
    frame = to_frame(table)
    assert frame.loc[1, ["mean", "low", "high", "gain", "p_holm"]].isna().all()
    assert frame.loc[1, "failed"] == 5


def test_what_was_not_run_is_said(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[*BASE], [0.92, None, 0.921, None, 0.925], [None] * 5])
    assert [line.n_missing for line in table.rows] == [0, 2, 5]
    assert markdown_rows(table)[1][3].endswith("(n = 3)")
    assert markdown_rows(table)[2][3:7] == ["not run", "–", "–", "no result"]
    assert "- Row 1 (+ cosine): 2 of 5 not run\n" in to_markdown(table)
    assert table.rows[1].verdict == "gain"


def test_lines_that_the_file_lacks_are_missing(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER[:3], []])
    assert [(line.n_done, line.n_missing) for line in table.rows] == [(5, 0), (3, 2), (0, 5)]
    assert table.rows[1].gain is not None and table.rows[1].gain.n_a == 3


def test_a_row_without_scores_says_how_much_failed_and_how_much_was_not_run(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[*BASE], ["diverged", None, None, "diverged", None]], ROWS[:2])
    assert markdown_rows(table)[1][3] == "2 failed, 3 not run"


def test_the_number_of_seeds_that_would_decide_a_row_takes_the_other_rows_into_account(tmp_path: Path) -> None:
    slightly = [0.901, 0.9035, 0.904, 0.902, 0.9035]
    table = table_of(tmp_path, [BASE, slightly, BETTER], [ROWS[0], row(1, "+ a"), row(2, "+ b")])
    line = table.rows[1]
    assert line.gain is not None
    needed = seeds_needed(line.gain.estimate, line.sd, table.rows[0].sd, alpha=0.05 / 2)
    assert needed != seeds_needed(line.gain.estimate, line.sd, table.rows[0].sd)
    assert line.verdict == f"undecided (about {needed} seeds would decide it)"


def test_a_line_that_breaks_off_after_its_status_has_no_reason(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [[0.9, 0.91]], ROWS[:1], seeds=[0, 1, 2])
    with (folder / "scores.csv").open("a") as file:
        file.write("0,base,2,failed")
    assert read_table(folder).rows[0].failures == (Failure("no reason given", (2,)),)


def test_nothing_run_yet_is_a_table_too(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [[None] * 3] * 3)
    scores = pd.read_csv(folder / "scores.csv").drop(columns=[METRIC, "test/loss"])
    scores.to_csv(folder / "scores.csv", index=False)
    table = read_table(folder)
    assert [cells[3] for cells in markdown_rows(table)] == ["not run"] * 3
    scores.head(0).to_csv(folder / "scores.csv", index=False)
    assert read_table(folder).rows[1].n_missing == 3


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_a_finite_number_is_a_failed_seed(tmp_path: Path, bad: float) -> None:
    table = table_of(tmp_path, [[*BASE], [bad, 0.92, 0.925, bad, 0.921]], ROWS[:2])
    assert (table.rows[1].n_done, table.rows[1].n_failed) == (3, 2)
    assert table.rows[1].score.estimate == pytest.approx(92.2)
    assert "2 of 5 failed: test/accuracy is not a finite number (seeds 0, 3)" in to_markdown(table)


def test_one_seed_gives_numbers_and_no_intervals(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[0.90], [0.92]], ROWS[:2])
    assert markdown_rows(table)[1][3:7] == ["92.00", "+2.00", "–", "one seed only"]
    assert table.comparisons == 0
    text = to_markdown(table)
    assert "There is one seed only, so there are no intervals, no p and no verdicts." in text
    assert "Holm's method" not in text
    assert "one seed only" in " ".join(terminal(table).split())


def test_one_seed_left_in_one_row_says_so(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[*BASE], [0.92, None, None, None, None]], ROWS[:2])
    assert markdown_rows(table)[1][3:7] == ["92.00 (n = 1)", "+1.80", "–", "one seed only"]


def test_constant_scores_have_intervals_without_width(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[0.9] * 3, [0.3 * 3] * 3, [0.95] * 3])
    cells = markdown_rows(table)
    assert cells[1][3:6] == ["90.00 ± 0.00", "+0.00 [+0.00, +0.00]", "1.000"]
    assert cells[1][6] == "undecided (more than 1,000 seeds would be needed)"
    assert cells[2][3:7] == ["95.00 ± 0.00", "+5.00 [+5.00, +5.00]", "<0.001", "gain"]
    assert "standard deviation" not in to_markdown(table)


def test_a_small_negative_gain_is_not_printed_as_minus_zero(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[0.9, 0.9], [0.90000999, 0.89999]], ROWS[:2])
    assert table.rows[1].gain is not None and table.rows[1].gain.estimate < 0
    assert markdown_rows(table)[1][4].startswith("+0.00 [")


def test_markdown_has_every_number_of_a_row(tmp_path: Path) -> None:
    costs = [
        {"key": f"00{i}e5", "seed": seed, "seconds": (10 + 2 * i) + 0.1 * seed, "parameters": 272474 + i}
        for i in range(3)
        for seed in range(5)
    ]
    table = table_of(tmp_path, [BASE, BETTER, SAME], costs=costs)
    needed = "undecided (more than 1,000 seeds would be needed)"
    half = stats.t.ppf(0.975, 4) * stats.sem(100 * np.array(BETTER))
    gain = table.rows[1].gain
    assert gain is not None
    numbers = [cells[3:] for cells in markdown_rows(table)]
    assert [cells[:3] for cells in markdown_rows(table)] == [
        ["0", "base", "What base does."],
        ["1", "+ cosine", "What + cosine does."],
        ["2", "+ mixup", "What + mixup does."],
    ]
    interval = f"[{gain.low:+.2f}, {gain.high:+.2f}]"
    assert numbers == [
        ["90.20 ± 0.20", "–", "–", "–", "–", "10.2", "272,474"],
        [f"92.22 ± {half:.2f}", f"+2.02 {interval}", "<0.001", "gain", "+0.75", "12.2 (×1.20)", "272,475"],
        ["92.23 ± 0.19", "+0.01 [-0.25, +0.27]", "0.930", needed, "–", "14.2 (×1.16)", "272,476"],
    ]


def test_markdown_opens_with_how_the_numbers_were_made(tmp_path: Path) -> None:
    text = to_markdown(table_of(tmp_path, [BASE, BETTER, SAME]))
    for line in [
        "# digits",
        "- Command: `ablate run digits`",
        "- Commit: abc123",
        "- Versions: trickstack 0.1.0, torch 2.11.0",
        "- Hardware: one processor, 2 cores",
        "- Date: 2026-01-31",
        "- Seeds: 5 (0, 1, 2, 3, 4)",
        "- Metric: test/accuracy (%), higher is better",
        "- Mode: stack, each row adds a trick to the row before",
        "- Published gains: arXiv:1812.01187, Table 6",
    ]:
        assert line in text.splitlines()
    assert "The last epoch counts, never the best one." in text
    assert "over all gains of this table (2)" in text
    assert "## Failed" not in text


def test_markdown_without_commit_and_reference(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [BASE, BETTER], ROWS[:2], reference=None)
    study = json.loads((folder / "study.json").read_text())
    study["head"]["commit"] = None
    (folder / "study.json").write_text(json.dumps(study))
    text = to_markdown(read_table(folder))
    assert "- Commit: unknown\n" in text
    assert "Published gains" not in text


def test_published_gains_that_nobody_has_checked_are_in_brackets(tmp_path: Path) -> None:
    rows = [ROWS[0], row(1, "+ cosine", published=0.75), row(2, "+ mixup", published=-0.8, published_unconfirmed=True)]
    reference = {"source": "a blog", "unconfirmed": True}
    table = table_of(tmp_path, [BASE, BETTER, SAME], rows, reference=reference)
    assert [cells[7] for cells in markdown_rows(table)] == ["–", "+0.75", "(-0.80)"]
    assert "- Published gains: a blog (partly unconfirmed)\n" in to_markdown(table)


def test_names_cannot_break_the_table_or_the_page(tmp_path: Path) -> None:
    nasty = "a | b <script>alert(1)</script> [red]c[/red]\nd \\| e"
    table = table_of(tmp_path, [[*BASE], [nasty, *BETTER[1:]]], [row(0, nasty, None), row(1, "x", text=nasty)])
    text = to_markdown(table)
    assert "<script>" not in text
    assert r"| a \| b &lt;script&gt;alert(1)&lt;/script&gt; [red]c[/red] d \\\| e |" in text
    assert all(len(cells) == 10 for cells in markdown_rows(table))
    table = table_of(tmp_path, [BASE, BETTER], [row(0, nasty, None), row(1, "x", text=nasty)])
    assert "a | b <script>alert(1)</script> [red]c[/red]" in terminal(table, 300), "nothing to escape there"


def test_seconds_are_the_mean_over_trainings_and_their_ratio_to_the_row_compared_with(tmp_path: Path) -> None:
    costs = [{"key": "000e5", "seed": s, "seconds": 10.0 + s} for s in range(5)]
    costs += [{"key": "001e5", "seed": s, "seconds": 24.0} for s in range(3)]
    table = table_of(tmp_path, [BASE, BETTER, SAME], costs=costs)
    assert [line.seconds for line in table.rows] == pytest.approx([12.0, 24.0, math.nan], nan_ok=True)
    assert [line.seconds_ratio for line in table.rows] == pytest.approx([math.nan, 2.0, math.nan], nan_ok=True)
    assert [line.parameters for line in table.rows] == [None] * 3
    assert [cells[8:] for cells in markdown_rows(table)] == [["12", "–"], ["24 (×2.00)", "–"], ["–", "–"]]


def test_the_time_of_a_failed_training_does_not_count(tmp_path: Path) -> None:
    costs = [{"key": "000e5", "seed": s, "seconds": 1.0 if s == 2 else 10.0, "parameters": 7} for s in range(5)]
    table = table_of(tmp_path, [[0.9, 0.91, "killed", 0.92, 0.9]], ROWS[:1], costs=costs)
    assert table.rows[0].seconds == pytest.approx(10.0)
    assert table.rows[0].parameters == 7


def test_trainings_on_different_machines_are_pointed_out(tmp_path: Path) -> None:
    costs = [
        {"key": f"00{i}e5", "seed": s, "seconds": 10.0, "device": "cpu" if i else "H200", "threads": 2 if i else None}
        for i in range(3)
        for s in range(5)
    ]
    table = table_of(tmp_path / "two", [BASE, BETTER, SAME], costs=costs)
    assert table.machines == ("H200", "cpu (2 threads)")
    assert "Trainings ran on H200 and cpu (2 threads), so times do not compare." in to_markdown(table)
    table = table_of(tmp_path / "one", [BASE, BETTER, SAME], costs=costs[5:])
    assert "Trainings ran on cpu (2 threads).\n" in to_markdown(table)


def test_rows_that_share_trainings_are_known(tmp_path: Path) -> None:
    costs = [{"key": "aa", "seed": s, "seconds": 10.0, "parameters": 5} for s in range(5)]
    table = table_of(tmp_path, [BASE, BETTER, SAME], keys=["aa", "bb", "aa"], costs=costs)
    assert table.shared_trainings == ((0, 2),)
    assert [line.parameters for line in table.rows] == [5, None, 5]


def test_keys_and_reasons_stay_as_they_are_written(tmp_path: Path) -> None:
    """A key such as 001e5 is no number, and "NaN" can be a reason."""
    table = table_of(tmp_path, [["NaN", 0.9], ["", 0.92]], ROWS[:2], keys=["001e5", "100000"])
    assert table.shared_trainings == ()
    assert [line.failures for line in table.rows] == [(Failure("NaN", (0,)),), (Failure("no reason given", (0,)),)]


def test_frame_holds_full_precision_and_says_what_is_unknown(tmp_path: Path) -> None:
    table = table_of(tmp_path, [[*BASE], [*BETTER], ["diverged", None, 0.93, 0.93, 0.94]])
    write_table(tmp_path)
    text = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
    assert list(text["mean"]) == [repr(line.score.estimate) for line in table.rows]
    frame = to_frame(table)
    assert list(frame["name"]) == ["base", "+ cosine", "+ mixup"]
    for line, (_, of_file) in zip(table.rows, frame.iterrows(), strict=True):
        assert of_file["mean"] == line.score.estimate
        assert (of_file["low"], of_file["high"], of_file["sd"]) == (line.score.low, line.score.high, line.sd)
        assert (of_file["done"], of_file["failed"], of_file["missing"]) == (line.n_done, line.n_failed, line.n_missing)
    gain = table.rows[1].gain
    assert gain is not None
    second = frame.loc[1]
    assert (second["gain"], second["gain_low"], second["gain_high"]) == (gain.estimate, gain.low, gain.high)
    assert (second["p"], second["p_holm"], second["verdict"]) == (gain.p, table.rows[1].p_adjusted, "gain")
    assert second["published_gain"] == 0.75
    unknown = ["gain", "p_holm", "verdict", "compared_to", "parameters", "seconds"]
    assert list(text.loc[0, unknown]) == [""] * len(unknown)


def test_the_table_for_the_terminal_keeps_every_number_at_any_width(tmp_path: Path) -> None:
    rows = [ROWS[0], row(1, "+ label_smoothing(epsilon=0.1)", published=0.4), row(2, "+ random_resized_crop", 1)]
    costs = [{"key": f"00{i}e5", "seed": s, "seconds": 1234.0} for i in range(3) for s in range(5)]
    table = table_of(tmp_path, [[*BASE], [*BETTER[:4], "diverged in epoch 3"], [*SAME]], rows, costs=costs)
    gain = table.rows[1].gain
    assert gain is not None
    interval = f"[{gain.low:+.2f}, {gain.high:+.2f}]"
    numbers = [
        "90.20 ± 0.20",
        "(n = 4)",
        "+2.02",
        interval,
        "<0.001",
        "gain",
        "+0.40",
        "1,234",
        "(×1.00)",
        "1,000 seeds",
    ]
    for width in (80, 100, 140):
        text = terminal(table, width)
        assert max(map(len, text.splitlines())) <= width
        assert "…" not in text
        for number in numbers:
            assert number in text, (width, number, text)
    assert "digits: test/accuracy (%), 5 seeds" in terminal(table)


def test_the_same_files_give_the_same_bytes_and_no_other_files(tmp_path: Path) -> None:
    costs = [{"key": "000e5", "seed": s, "seconds": 10.0 + s, "parameters": 272474} for s in range(5)]
    write_results(tmp_path, [[*BASE], [*BETTER], ["diverged", None, 0.93, 0.93, 0.94]], costs=costs)
    table = write_table(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_table(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert set(first) == {"study.json", "scores.csv", "costs.csv", "table.md", "table.csv"}
    assert first["table.md"].decode() == to_markdown(table)


def test_the_order_of_lines_in_the_files_does_not_matter(tmp_path: Path) -> None:
    write_results(tmp_path, [BASE, BETTER, SAME])
    before = to_markdown(read_table(tmp_path))
    pd.read_csv(tmp_path / "scores.csv", dtype=str, keep_default_na=False).iloc[::-1].to_csv(
        tmp_path / "scores.csv", index=False
    )
    assert to_markdown(read_table(tmp_path)) == before


def test_a_metric_that_no_row_has_is_an_error_that_names_the_others(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"no row has the metric 'test/acc'. There are: test/accuracy, test/loss\."):
        table_of(tmp_path, [BASE, BETTER], ROWS[:2], metric="test/acc")


@pytest.mark.parametrize("name", ["study.json", "scores.csv"])
def test_a_missing_file_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    folder = write_results(tmp_path / "digits", [BASE, BETTER], ROWS[:2])
    (folder / name).unlink()
    with pytest.raises(TableError, match=rf"digits/{name}: there is no such file\. Write it .* `ablate run digits`"):
        read_table(folder)


def test_the_folder_of_another_mode_names_the_study_and_the_mode(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"Write it again with `ablate run digits --mode leave-one-out`\."):
        read_table(tmp_path / "digits" / "leave-one-out")


@pytest.mark.parametrize("content", [b"", b'{"name": "dig', b"\xff\xfe\x00", b"[1, 2]", b"row,seed\n0,zero\n"])
@pytest.mark.parametrize("name", ["study.json", "scores.csv", "costs.csv"])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path, name: str, content: bytes) -> None:
    folder = write_results(tmp_path / "digits", [BASE, BETTER], ROWS[:2])
    (folder / name).write_bytes(content)
    with pytest.raises(TableError, match=rf"digits/{name}: it .*Write it again with `ablate run digits`"):
        read_table(folder)


def test_every_key_that_the_study_lacks_is_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [BASE, BETTER], ROWS[:2], head={"command": "ablate run digits"}, reference={})
    study = json.loads((folder / "study.json").read_text())
    del study["rows"][1]["sign"]
    (folder / "study.json").write_text(json.dumps({**study, "reference": {"unconfirmed": True}}))
    lacking = r"head\.commit, head\.versions, head\.hardware, head\.date, reference\.source, rows\[1\]\.sign"
    with pytest.raises(TableError, match=f"it lacks {lacking}"):
        read_table(folder)


def test_rows_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"compares '\+ mixup' with rows that it does not have"):
        table_of(tmp_path / "lost", [BASE, BETTER], [row(0, "base", None), row(1, "+ mixup", 7)])
    with pytest.raises(TableError, match=r"the numbers of its rows, \[0, 0\], are not all different"):
        table_of(tmp_path / "twice", [BASE, BETTER], [row(0, "base", None), row(0, "+ mixup", 0)])


def test_every_problem_of_the_scores_is_named_with_its_line(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [[0.9, 0.91]], ROWS[:1])
    with (folder / "scores.csv").open("a") as file:
        file.write("0,base,1,done,,a,last,0.9,0.1\n7,other,0,done,,a,last,0.9,0.1\n0,base,8,over,,a,last,0.9,0.1\n")
    with pytest.raises(TableError) as caught:
        read_table(folder)
    for problem in [
        "a status that is none of done, failed, missing (line 6)",
        "a row or seed that study.json does not have (line 5)",
        "a row and seed that stood before (line 4)",
    ]:
        assert problem in str(caught.value)


def test_a_metric_that_holds_words_is_refused(tmp_path: Path) -> None:
    folder = write_results(tmp_path, [[0.9, 0.91]], ROWS[:1])
    (folder / "scores.csv").write_text((folder / "scores.csv").read_text().replace("0.91,", "high,"))
    with pytest.raises(TableError, match="its column test/accuracy holds something else than numbers"):
        read_table(folder)


def test_a_training_that_stands_twice_in_the_costs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"costs\.csv: it has a training that stood before \(line 3\)"):
        table_of(tmp_path, [[0.9]], ROWS[:1], costs=[{"key": "a", "seed": 0}] * 2)


def test_ten_thousand_scores_are_a_table_of_two_hundred_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    scores = (0.9 + 0.0015 * generator.normal(size=(200, 50))).tolist()
    rows = [row(0, "base", None), *(row(i, f"+ trick_{i}", i - 1) for i in range(1, 200))]
    write_results(tmp_path, scores, rows)
    table = write_table(tmp_path)
    assert len(table.rows) == 200
    assert table.comparisons == 199
    assert "- Seeds: 50 (0 to 49)" in to_markdown(table)
    last: TableRow = table.rows[-1]
    expected = stats.ttest_ind(scores[199], scores[198], equal_var=False).pvalue
    assert last.gain is not None and last.gain.p == pytest.approx(expected)
    assert all(line.verdict.startswith("undecided") for line in table.rows[1:])


def test_a_table_needs_neither_torch_nor_lightning() -> None:
    heavy = ["torch", "lightning", "torchvision", "matplotlib", "scipy.stats"]
    code = f"import ablations.table, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def with_study(folder: Path, **changes: Any) -> Path:
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps({**study, **changes}))
    return folder


def test_rows_that_score_the_same_trainings_are_compared_in_pairs(tmp_path: Path) -> None:
    slightly = [0.902, 0.903, 0.906, 0.902, 0.904]
    table = table_of(tmp_path, [BASE, slightly, BETTER], keys=["aa", "aa", "bb"])
    gain = table.rows[1].gain
    assert gain is not None and gain.pairs == 5
    expected = stats.ttest_rel(100 * np.array(slightly), 100 * np.array(BASE))
    assert gain.p == pytest.approx(expected.pvalue)
    assert table.rows[1].verdict == "gain"
    assert stats.ttest_ind(slightly, BASE, equal_var=False).pvalue > 0.1
    assert table.rows[2].gain is not None and table.rows[2].gain.pairs == 0
    text = to_markdown(table)
    assert "unpaired; row 1 is compared with the same trainings scored in another way, by a t test of the pairs" in text
    assert list(to_frame(table)["pairs"].fillna(-1)) == [-1, 5, 0]


def test_pairs_are_the_seeds_that_both_rows_finished(tmp_path: Path) -> None:
    tta: list[Score] = [0.902, "out of memory", 0.906, 0.902, 0.904]
    table = table_of(tmp_path, [[*BASE], tta], ROWS[:2], keys=["aa", "aa"])
    gain = table.rows[1].gain
    kept = [0, 2, 3, 4]
    expected = stats.ttest_rel([100 * float(tta[i] or 0) for i in kept], [100 * BASE[i] for i in kept])
    assert gain is not None and (gain.pairs, gain.p) == (4, pytest.approx(expected.pvalue))


def test_an_ensemble_over_seeds_is_paired_with_the_mean_of_its_members(tmp_path: Path) -> None:
    rows = [row(0, "base", None), row(1, "+ ensemble", 0, group=2)]
    base = [0.90, 0.91, 0.92, 0.90, 0.93, 0.91]
    table = table_of(tmp_path, [[*base], [0.93, None, 0.935, None, 0.94, None]], rows, keys=["aa", "aa"])
    scores = (tmp_path / "scores.csv").read_text().splitlines()
    kept = [line for line in scores if not line.startswith("1,+ ensemble") or ",done," in line]
    (tmp_path / "scores.csv").write_text("\n".join(kept) + "\n")
    table = read_table(tmp_path)
    gain = table.rows[1].gain
    expected = stats.ttest_rel([93.0, 93.5, 94.0], [90.5, 91.0, 92.0])
    assert gain is not None and (gain.pairs, gain.p) == (3, pytest.approx(expected.pvalue))
    assert gain.estimate == pytest.approx(93.5 - 91.1667, abs=1e-3)
    assert (table.rows[1].n_done, table.rows[1].n_missing) == (3, 0)


def test_a_study_that_varies_the_split_is_compared_in_pairs(tmp_path: Path) -> None:
    table = table_of(tmp_path, [BASE, BETTER, SAME], vary=["init", "order", "split"])
    for line, (values, other) in zip(table.rows[1:], [(BETTER, BASE), (SAME, BETTER)], strict=True):
        expected = stats.ttest_rel(100 * np.array(values), 100 * np.array(other))
        assert line.gain is not None and line.gain.p == pytest.approx(expected.pvalue)
    text = to_markdown(table)
    assert "since each seed has a split of the data that all rows share" in text
    spread = np.sqrt((np.var(np.subtract(BETTER, BASE), ddof=1) + np.var(np.subtract(SAME, BETTER), ddof=1)) / 2)
    assert f"The differences of pairs vary with a standard deviation of {100 * spread:.2f}." in text


def test_the_interval_leaves_out_zero_exactly_where_the_row_is_decided(tmp_path: Path) -> None:
    """A row whose own interval leaves out zero, but not when all rows count."""
    slightly = [0.9045, 0.9035, 0.904, 0.903, 0.9055]
    rows = [ROWS[0], row(1, "+ a"), *(row(i, f"+ {i}") for i in range(2, 6))]
    table = table_of(tmp_path, [BASE, slightly, BASE, BASE, BASE, BASE], rows)
    line = table.rows[1]
    assert line.gain is not None and 0.01 < line.gain.p < 0.05
    assert line.gain.low < 0 < line.gain.high
    assert line.verdict.startswith("undecided")
    cell = markdown_rows(table)[1][4]
    assert f"[{line.gain.low:+.2f}, {line.gain.high:+.2f}]" in cell


def test_the_probability_of_improvement_is_in_the_file_of_numbers(tmp_path: Path) -> None:
    frame = to_frame(table_of(tmp_path, [BASE, BETTER, SAME]))
    assert frame.loc[1, "p_improvement"] == 1
    wins = [(a > b) + 0.5 * (a == b) for a in SAME for b in BETTER]
    assert frame.loc[2, "p_improvement"] == pytest.approx(np.mean(wins))
    assert frame.loc[2, "p_improvement_low"] < frame.loc[2, "p_improvement"] < frame.loc[2, "p_improvement_high"]
    assert math.isnan(frame.loc[0, "p_improvement"])


def test_the_probability_of_improvement_is_that_of_the_row_with_the_trick(tmp_path: Path) -> None:
    rows = [row(0, "all tricks", None), row(1, "- cosine", 0, sign=-1)]
    frame = to_frame(table_of(tmp_path, [BETTER, BASE], rows, mode="leave-one-out"))
    assert frame.loc[1, "p_improvement"] == 1


def test_scores_of_different_code_libraries_or_devices_are_marked_under_the_table(tmp_path: Path) -> None:
    costs = [
        {
            "key": f"00{i}e5",
            "seed": s,
            "seconds": 1.0,
            "device": "H200" if i == 2 else "cpu",
            "code": "abc123" if i < 2 else "def456",
            "versions": json.dumps({"torch": "2.15.0" if s < 4 else "2.14.0", "python": "3.11.7"}),
        }
        for i in range(3)
        for s in range(5)
    ]
    table = table_of(tmp_path / "mixed", [BASE, BETTER, SAME], costs=costs)
    assert [mixture.what for mixture in table.mixtures] == ["versions of the code", "versions of torch", "devices"]
    assert table.mixtures[0].rows == {"abc123": (0, 1), "def456": (2,)}
    text = to_markdown(table)
    assert "- The scores come from different versions of the code: abc123 (rows 0, 1); def456 (row 2)\n" in text
    assert "different versions of torch: 2.14.0 (rows 0, 1, 2); 2.15.0 (rows 0, 1, 2)\n" in text
    assert "different devices: H200 (row 2); cpu (rows 0, 1)\n" in text
    assert "different versions of torch" in " ".join(terminal(table).split())
    same = table_of(tmp_path / "same", [BASE, BETTER], ROWS[:2], costs=[{**c, "code": "a"} for c in costs[:4]])
    assert same.mixtures == ()


def test_versions_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    costs = [{"key": "000e5", "seed": s, "versions": text} for s, text in enumerate(["[1]", "{bro", ""])]
    assert table_of(tmp_path, [BASE], ROWS[:1], costs=costs).mixtures == ()


RACE = {"max_seeds": 20, "first": 3, "effect": None}
CLEAR = [0.906, 0.907, 0.905, 0.908, 0.907, 0.906]
FLAT = [0.900, 0.903, 0.901, 0.902, 0.904, 0.899, 0.901]


def race_folder(folder: Path, scores: list[list[Score]], seeds: int = 20, **changes: Any) -> Path:
    return write_results(folder, scores, ROWS[: len(scores)], seeds=list(range(seeds)), race=RACE, **changes)


def test_a_row_that_a_race_stopped_prints_as_stopped(tmp_path: Path) -> None:
    folder = race_folder(tmp_path, [[*FLAT], [*CLEAR, None]], seeds=7)
    table = read_table(folder)
    line = table.rows[1]
    assert line.decision is not None and line.decision.verdict == line.verdict == "gain"
    stopped = line.decision.seeds
    assert 3 < stopped < 7
    used = [100 * np.array(values[:stopped]) for values in (CLEAR, FLAT)]
    assert line.gain is not None and line.gain.estimate == pytest.approx(used[0].mean() - used[1].mean())
    assert line.gain.low > 0
    assert math.isnan(line.p_adjusted) and table.comparisons == 0
    cells = markdown_rows(table)[1]
    assert cells[3].endswith("(n = 6)") and cells[4].endswith(f"(n = {stopped})")
    assert cells[5:7] == ["–", "gain"]
    assert (line.n_missing, line.n_spared, table.needed) == (0, 1, ())
    text = to_markdown(table)
    assert "- Row 1 (+ cosine): stopped after 6 of at most 7 seeds\n" in text
    assert "- Seeds: at most 7 (0 to 6)\n" in text
    assert "The seeds are a race: from 3 seeds on" in text
    assert "not run" not in text and "Holm's method" not in text
    assert to_frame(table).loc[1, ["p", "p_holm"]].isna().all()
    assert to_frame(table).loc[1, "spared"] == 1
    assert "at most 7 seeds" in terminal(table)


def test_a_race_that_goes_on_says_what_it_needs(tmp_path: Path) -> None:
    table = read_table(race_folder(tmp_path, [[*FLAT[:4]], [*FLAT[1:4]]]))
    assert table.rows[1].verdict == "open (after 3 seeds)"
    assert table.needed == ((1, 3),)
    assert [(line.n_missing, line.n_spared) for line in table.rows] == [(0, 16), (1, 16)]
    assert "- Row 1 (+ cosine): 1 seed not run yet, the race is open\n" in to_markdown(table)


def test_a_race_before_its_first_look_has_no_number_to_show(tmp_path: Path) -> None:
    table = read_table(race_folder(tmp_path, [[0.9], [None]]))
    assert markdown_rows(table)[1][3:7] == ["not run", "–", "–", "open"]
    assert table.needed == ((1, 0), (0, 1), (1, 1), (0, 2), (1, 2))


def test_a_gain_too_small_to_matter_says_so(tmp_path: Path) -> None:
    scores = [[0.9 + 0.0001 * ((7 * s + i) % 5) for s in range(20)] for i in range(2)]
    folder = with_study(race_folder(tmp_path, [[*scores[0]], [*scores[1]]]), race={**RACE, "effect": 0.3})
    table = read_table(folder)
    assert table.rows[1].verdict == "too small to matter (within ±0.3)"
    assert "or when the gain lies within ±0.3, too small to matter, at the latest" in to_markdown(table)


def test_a_race_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    folder = race_folder(tmp_path, [[*FLAT], [*FLAT]])
    with pytest.raises(TableError, match=r"it lacks race\.max_seeds, race\.first"):
        read_table(with_study(folder, race={"effect": 0.3}))
    rows = [ROWS[0], row(1, "+ ensemble", 0, group=2)]
    with pytest.raises(StudyError, match=r"one seed at a time, but '\+ ensemble' makes each score out of several"):
        read_table(with_study(folder, race=RACE, rows=rows))


def test_a_race_leaves_out_the_seeds_beyond_its_largest_number(tmp_path: Path) -> None:
    """Seeds that an earlier run finished stay in the table, and no look sees them."""
    flat = [0.9 + 0.001 * ((3 * s) % 5) for s in range(8)]
    folder = with_study(race_folder(tmp_path, [[*flat], [*flat[::-1]]], seeds=8), race={**RACE, "max_seeds": 6})
    table = read_table(folder)
    assert table.race is not None and table.race.seeds == (0, 1, 2, 3, 4, 5)
    assert table.rows[1].verdict == "undecided (after 6 seeds)"
    assert table.rows[1].n_done == 8 and table.needed == ()
