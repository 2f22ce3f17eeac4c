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
    if table.mode in ("pairs", "shapley"):
        return _question_of_sets(table)
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
    if table.interactions or table.shapley:
        return _answer_of_sets(table)
    if not any(verdict_kind(row.verdict) in KINDS for row in tricks):
        why = "there is one seed only" if len(table.seeds) == 1 else "no two rows that are compared have two seeds each"
        return f"Nothing can be said: {why}, and chance is not told from effect."
    sentences = [_groups(table, tricks), _ends(table)]
    return " ".join(sentence for sentence in sentences if sentence)


def _question_of_sets(table: Table) -> str:
    if table.mode == "pairs":
        tricks = {name for item in table.interactions for name in item.tricks}
        return f"What do {len(tricks)} tricks do to {table.metric}, and any two of them to each other?"
    return f"What is each of {len(table.shapley)} tricks worth in {table.metric}, whichever joined before it?"


def _answer_of_sets(table: Table) -> str:
    """What the interactions or the Shapley values say, the largest first."""
    if table.interactions:
        what = "pairs do more or less together than the sum of the two"
        found = [(" × ".join(item.tricks), item.difference) for item in table.interactions]
    else:
        what = "tricks are worth something, for better or worse, averaged over the orders in which they can join"
        found = [(item.trick, item.value) for item in table.shapley]
    judged = [(name, value) for name, value in found if not math.isnan(value.low)]
    if not judged:
        return "Nothing can be said: there are too few seeds for intervals, and chance is not told from effect."
    claims = sorted(
        ((name, value) for name, value in judged if value.low > 0 or value.high < 0),
        key=lambda item: -abs(item[1].estimate),
    )
    if not claims:
        return f"None of {len(found)} {what} as far as these seeds show."
    named = [f"{name} ({number(table, value.estimate, '+')})" for name, value in claims[:_NAMED]]
    more = f" and {len(claims) - _NAMED} more" if len(claims) > _NAMED else ""
    return f"{len(claims)} of {len(found)} {what}: {', '.join(named)}{more}."


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
