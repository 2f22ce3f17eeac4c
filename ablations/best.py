"""The tricks of a study that earned their place, and the recipe that has them.

A trick is chosen by the verdict of the study's table, and by what it costs. Each was judged beside other tricks than
those that are chosen in the end, so the recipe as a whole is a proposal until it is trained.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablations.errors import StoreError, UserError
from ablations.plan import Plan, Row
from ablations.store import write_text
from ablations.table_format import number
from ablations.table_records import Table
from ablations.yaml_file import dump_yaml


@dataclass(frozen=True)
class Choice:
    """Whether a trick earned its place.

    Args:
        trick: the trick.
        kept: whether it did.
        why: the verdict on it and what it costs, in words.
    """

    trick: str
    kept: bool
    why: str

    def __str__(self) -> str:
        return f"{'kept' if self.kept else 'left out'} {self.trick}: {self.why}"


@dataclass(frozen=True)
class _Judged:
    """What a table says of a trick: its verdict, the gain behind it, and how many times as long things take with it."""

    trick: str
    verdict: str
    gain: float
    training: float
    test: float


def choose(table: Table, study: Mapping[str, Any], max_cost: float | None = None) -> list[Choice]:
    """Say of each trick whether its verdict is a gain and it costs no more than it may.

    Args:
        table: the study's table.
        study: its `study.json`.
        max_cost: a trick may make a training, and a test, at most this many times as long; None sets no limit.

    Raises:
        StoreError: no row has a score.
        UserError: the limit is not above 0.
    """
    if max_cost is not None and not max_cost > 0:
        raise UserError(f"--max-cost {max_cost:g}: how many times as long things may take must be a number above 0.")
    if not any(row.n_done for row in table.rows):
        raise StoreError(f"the study {table.name} has no scores yet. Run it first: ablate run {table.name}.")
    judged = _judged_by_value(table, study) if table.shapley else _judged_by_row(table)
    return [_choice(table, item, max_cost) for item in judged]


def interference(table: Table, kept: Sequence[str]) -> Iterator[str]:
    """Say which of the kept tricks certainly do less together than each does alone."""
    for item in table.interactions:
        if item.verdict == "less than the sum" and set(item.tricks) <= set(kept):
            first, second = item.tricks
            yield (
                f"{first} and {second} give less together than the sum of their gains "
                f"({number(table, item.difference.estimate, '+')})."
            )


def same_row(plan: Plan) -> Row | None:
    """Return the row of the study that has the recipe of the plan's last row, if there is one."""
    best = plan.rows[-1]
    return next((row for row in plan.rows[:-1] if (row.key, row.inference) == (best.key, best.inference)), None)


def check_same_study(folder: Path, study: Mapping[str, Any], plan: Plan) -> None:
    """See that the stored rows are those of the study as it is now.

    Raises:
        StoreError: they are not, so their verdicts would be on other tricks.
    """
    now = {(row.name, row.definition) for row in plan.rows}
    other = [row["name"] for row in study["rows"] if (row["name"], row.get("definition")) not in now]
    if other:
        raise StoreError(
            f"{folder} holds the scores of another version of this study: {', '.join(map(repr, other[:3]))} would be "
            f"another row now. Give the same --set as for the run ({study['head']['command']}), or run the study again."
        )


def write_best(path: Path, plan: Plan, choices: Sequence[Choice], notes: Sequence[str]) -> None:
    """Write the recipe of the plan's last row as a file that runs alone, and above it why it is as it is."""
    best = plan.rows[-1]
    plugins = [str(plugin) for plugin in plan.study.plugins]
    recipe = {"plugins": plugins, **best.recipe} if plugins else best.recipe
    lines = [f"The tricks of the study {plan.study.name} that earned their place.", *map(str, choices), *notes]
    head = "".join(f"# {line}\n" for line in [*lines, f"It runs alone: ablate fit {path}"])
    write_text(path, head + dump_yaml(recipe))


def _judged_by_row(table: Table) -> Iterator[_Judged]:
    """The verdict on the row that adds a trick or leaves it out; without the trick, costs are the inverse."""
    for row in table.rows:
        if row.trick is not None and row.gain is not None:
            costs = row.seconds_ratio, row.test_ratio
            training, test = (_ratio(1, cost) for cost in costs) if table.mode == "leave-one-out" else costs
            yield _Judged(row.trick, row.verdict, row.gain.estimate, training, test)


def _judged_by_value(table: Table, study: Mapping[str, Any]) -> Iterator[_Judged]:
    """The verdict on a trick's Shapley value; costs are the mean over the orders, as the gain is."""
    rows = {frozenset(row.get("tricks", ())): table.rows[place] for place, row in enumerate(study["rows"])}
    for item in table.shapley:
        before = [frozenset(order[: order.index(item.trick)]) for order in table.orders]
        steps = [(rows[names | {item.trick}], rows[names]) for names in before]
        training = sum(_ratio(row.seconds, other.seconds) for row, other in steps) / len(steps)
        test = sum(_ratio(row.test_seconds, other.test_seconds) for row, other in steps) / len(steps)
        yield _Judged(item.trick, item.verdict, item.value.estimate, training, test)


def _ratio(value: float, other: float) -> float:
    return value / other if other > 0 else math.nan


def _choice(table: Table, item: _Judged, max_cost: float | None) -> Choice:
    costs = {"training": item.training, "test": item.test}
    known = {name: cost for name, cost in costs.items() if math.isfinite(cost)}
    why = item.verdict
    if math.isfinite(item.gain):
        why += f", {number(table, item.gain, '+')}{' points' if table.unit == '%' else ''}"
    why += "".join(f", {name} ×{cost:.2f}" for name, cost in known.items())
    if item.verdict != "gain":
        return Choice(item.trick, False, why)
    if max_cost is not None and "training" not in known:
        return Choice(item.trick, False, f"{why}; what it costs is unknown, so it may be above --max-cost {max_cost:g}")
    if above := [name for name, cost in known.items() if max_cost is not None and cost > max_cost]:
        return Choice(item.trick, False, f"{why}; its {' and its '.join(above)} is above --max-cost {max_cost:g}")
    return Choice(item.trick, True, why)
