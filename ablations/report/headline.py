"""The question that a study asked, and its answer in a sentence or two that follow from the table's verdicts."""

import math
from collections.abc import Sequence

from ablations.report.cells import number
from ablations.report.frames import verdict_kind
from ablations.table import Table, TableRow

KINDS = ("gain", "loss", "undecided", "small")
_NAMED = 5
_QUESTIONS = {
    "stack": "each added to the ones before",
    "leave-one-out": "each left out of all of them",
    "one-at-a-time": "each added to the base alone",
}


def question(table: Table) -> str:
    """Return what was asked."""
    tricks = [row for row in table.rows if row.compared_to is not None]
    better = "improve" if table.higher_is_better else "lower"
    what = f"Does this trick {better}" if len(tricks) == 1 else f"Which of {len(tricks)} tricks {better}"
    how = f", {_QUESTIONS[table.mode]}" if table.mode in _QUESTIONS and len(tricks) > 1 else ""
    if not tricks:
        return f"What does the base recipe reach in {table.metric}?"
    return f"{what} {table.metric}{how}?"


def answer(table: Table) -> str:
    """Return what the verdicts say."""
    tricks = [row for row in table.rows if row.compared_to is not None]
    if not any(row.n_done for row in table.rows):
        return "There is no score yet: no training has finished."
    if not tricks:
        return f"{_reached(table, table.rows[0])}. There is no trick to compare it with."
    if not any(verdict_kind(row.verdict) in KINDS for row in tricks):
        why = "there is one seed only" if len(table.seeds) == 1 else "no two rows that are compared have two seeds each"
        return f"Nothing can be said: {why}, and chance is not told from effect."
    sentences = [_groups(table, tricks), _ends(table)]
    return " ".join(sentence for sentence in sentences if sentence)


def _groups(table: Table, tricks: Sequence[TableRow]) -> str:
    kinds = {kind: [row for row in tricks if verdict_kind(row.verdict) == kind] for kind in KINDS}
    parts = []
    if kinds["gain"]:
        verb = "is a gain" if len(kinds["gain"]) == 1 else "are gains"
        parts.append(f"{len(kinds['gain'])} of {len(tricks)} {verb}: {_names(table, kinds['gain'])}")
    else:
        parts.append(
            f"None of {len(tricks)} is shown to be a gain" if len(tricks) > 1 else "It is not shown to be a gain"
        )
    if kinds["loss"]:
        verb = "is a loss" if len(kinds["loss"]) == 1 else "are losses"
        parts.append(f"{len(kinds['loss'])} {verb}: {_names(table, kinds['loss'])}")
    if kinds["undecided"]:
        parts.append(f"{len(kinds['undecided'])} stay{'s' * (len(kinds['undecided']) == 1)} undecided with these seeds")
    if kinds["small"]:
        parts.append(f"{len(kinds['small'])} {'is' if len(kinds['small']) == 1 else 'are'} too small to matter")
    rest = len(tricks) - sum(map(len, kinds.values()))
    if rest:
        parts.append(f"{rest} cannot be judged")
    return "; ".join(parts) + "."


def _names(table: Table, rows: Sequence[TableRow]) -> str:
    """The largest first: what a reader remembers of the page."""
    ordered = sorted(rows, key=lambda row: -abs(row.gain.estimate) if row.gain else 0.0)
    named = [
        f"{row.trick or row.name} ({number(table, row.gain.estimate, '+')})" for row in ordered[:_NAMED] if row.gain
    ]
    more = [f"{len(ordered) - _NAMED} more"] if len(ordered) > _NAMED else []
    *first, last = [*named, *more]
    return f"{', '.join(first)} and {last}" if first else last


def _ends(table: Table) -> str:
    """From the first row to the last, which only a stack leads from one to the other."""
    first, last = table.rows[0], table.rows[-1]
    if table.mode != "stack" or math.isnan(first.score.estimate) or math.isnan(last.score.estimate):
        return ""
    unit = f" {table.unit}" if table.unit else ""
    return (
        f"The whole stack goes from {number(table, first.score.estimate)} to "
        f"{number(table, last.score.estimate)}{unit}."
    )


def _reached(table: Table, row: TableRow) -> str:
    if math.isnan(row.score.estimate):
        return "The base recipe has no score"
    return f"The base recipe reaches {number(table, row.score.estimate)}{f' {table.unit}' if table.unit else ''}"
