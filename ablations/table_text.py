"""A study's table as text: Markdown, and rich text for the terminal.

Pure functions of a `Table`, which round to a hundredth of a point. Everything that a reader needs in order to trust the
numbers is printed with them, failed seeds above all.
"""

import html
import math
from collections.abc import Iterable, Iterator

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ablations.statistics import smallest_difference
from ablations.table_numbers import ALPHA, Table, TableRow

NONE = "–"
MODE_TEXTS = {
    "stack": "each row adds a trick to the row before",
    "leave-one-out": "each row leaves one trick out of all of them",
    "one-at-a-time": "each row adds one trick to the base",
}
VERDICT_STYLES = {"gain": "green", "loss": "red"}


def to_markdown(table: Table) -> str:
    """Return the table with its head and notes, as GitHub's Markdown."""
    columns = [
        ("#", "--:", [str(row.index) for row in table.rows]),
        ("row", ":--", [_escape(row.name) for row in table.rows]),
        (
            "what it leaves out" if table.mode == "leave-one-out" else "what it adds",
            ":--",
            [_escape(row.text) for row in table.rows],
        ),
        (_escape(_metric(table)), "--:", [" ".join(_score(table, row)) for row in table.rows]),
        ("gain", "--:", [" ".join(_gain(table, row)) for row in table.rows]),
        ("p (Holm)", "--:", [_p_value(row.p_adjusted) for row in table.rows]),
        ("verdict", ":--", [row.verdict or NONE for row in table.rows]),
        ("published gain", "--:", [_published(table, row) for row in table.rows]),
        ("seconds a training", "--:", [" ".join(_seconds(row)) for row in table.rows]),
        ("parameters", "--:", [NONE if row.parameters is None else f"{row.parameters:,}" for row in table.rows]),
    ]
    heads, rules, cells = zip(*columns, strict=True)
    lines = [_line(heads), _line(rules), *(_line(row) for row in zip(*cells, strict=True))]
    sections = [
        [f"# {_escape(table.name)}"],
        _bullets(_head(table)),
        lines,
        ["## How to read it"],
        _bullets(_notes(table)),
    ]
    incidents = list(_incidents(table))
    if incidents:
        sections += [["## Failed, missing and shared"], _bullets(map(_escape, incidents))]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def to_rich(table: Table) -> RichTable:
    """Return the table for the terminal: no notes, readable from 80 columns on."""
    shown = RichTable(
        title=Text(f"{table.name}: {_metric(table)}, {_count(len(table.seeds), 'seed')}"),
        caption=Text("\n".join(_incidents(table))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("#", justify="right", no_wrap=True)
    shown.add_column("row", overflow="fold", min_width=8)
    for name in ("score", "gain", "p"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold", min_width=11)
    for name in ("paper", "seconds", "params"):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(
            Text(str(row.index)),
            Text(row.name),
            Text("\n".join(_score(table, row))),
            Text("\n".join(_gain(table, row))),
            Text(_p_value(row.p_adjusted)),
            Text(row.verdict or NONE, VERDICT_STYLES.get(row.verdict, "")),
            Text(_published(table, row)),
            Text("\n".join(_seconds(row))),
            Text(NONE if row.parameters is None else _short(row.parameters)),
        )
    return shown


def _short(count: float) -> str:
    """Return a count in thousands or millions, as wide as three digits are: 77.8k, 25.6M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def _head(table: Table) -> Iterator[str]:
    head = table.head
    yield f"Command: `{' '.join(head.command.split())}`"
    yield f"Commit: {_escape(head.commit or 'unknown')}"
    yield f"Versions: {_escape(', '.join(f'{name} {version}' for name, version in head.versions.items()))}"
    yield f"Hardware: {_escape(head.hardware)}"
    yield f"Date: {_escape(head.date)}"
    yield f"Seeds: {len(table.seeds)} ({_seed_list(table.seeds)})"
    yield f"Metric: {_escape(_metric(table))}, {'higher' if table.higher_is_better else 'lower'} is better"
    yield f"Mode: {table.mode}, {MODE_TEXTS.get(table.mode, 'each row has a row that it is compared with')}"
    if table.source is not None:
        yield f"Published gains: {_escape(table.source)}{' (partly unconfirmed)' if table.source_unconfirmed else ''}"


def _notes(table: Table) -> Iterator[str]:
    yield (
        "The score is the mean over the seeds that finished ± half the width of its 95 % interval (Student's t). The "
        "last epoch counts, never the best one."
    )
    yield (
        "The gain is with the trick minus without it, then its 95 % interval (Welch's t test, which takes the seeds as "
        "unpaired)." + ("" if table.higher_is_better else " Lower is better, so a negative difference is a gain.")
    )
    if len(table.seeds) == 1:
        yield "There is one seed only, so there are no intervals, no p and no verdicts. Chance is not told from effect."
    if table.comparisons:
        yield (
            f"p is Welch's two-sided p-value, adjusted with Holm's method over all gains of this table "
            f"({table.comparisons}): if no trick did anything, at most 1 table in 20 would claim that one did."
        )
        yield (
            f"The verdict follows from the adjusted p alone: gain or loss up to {ALPHA}, undecided above. The interval "
            f"is for its row alone, so it can leave out zero in a row that is undecided. The number of seeds is what "
            f"each of the two rows needs to find the measured gain, were it the true one, with a probability of 80 %."
        )
        yield from _resolution(table)
    if any(row.published is not None for row in table.rows):
        yield "The published gain is that of its source, on data of its own. Brackets: nobody has checked the number."
    yield "Seconds are the mean time of a training, and in brackets how many times that of the row compared with."
    if table.machines:
        warning = ", so times do not compare" if len(table.machines) > 1 else ""
        yield f"Trainings ran on {_escape(' and '.join(table.machines))}{warning}."


def _resolution(table: Table) -> Iterator[str]:
    """Say which gains this table could have found, from the spread of the seeds pooled over the rows."""
    spreads = [(row.n_done - 1, row.sd**2) for row in table.rows if row.n_done > 1]
    sd = math.sqrt(sum(df * variance for df, variance in spreads) / sum(df for df, _ in spreads))
    if sd > 0:
        smallest = smallest_difference(len(table.seeds), sd, ALPHA / table.comparisons)
        yield (
            f"Seeds differ with a standard deviation of {_number(table, sd)}. With {len(table.seeds)} seeds a row, a "
            f"true gain is found with a probability of 80 % from {_number(table, smallest)} on; smaller ones are more "
            f"likely to stay undecided."
        )


def _incidents(table: Table) -> Iterator[str]:
    """What happened to seeds, row by row, and which rows are not independent."""
    for row in table.rows:
        if row.failures:
            reasons = "; ".join(
                f"{failure.reason} (seed{'s' * (len(failure.seeds) > 1)} {_seed_list(failure.seeds)})"
                for failure in row.failures
            )
            yield f"Row {row.index} ({row.name}): {row.n_failed} of {len(table.seeds)} failed: {reasons}"
    for row in table.rows:
        if row.n_missing:
            yield f"Row {row.index} ({row.name}): {row.n_missing} of {len(table.seeds)} not run"
    for group in table.shared_trainings:
        yield (
            f"Rows {', '.join(map(str, group[:-1]))} and {group[-1]} score the same trainings in different ways. Their "
            f"scores go together, which Welch's test leaves unused."
        )


def _metric(table: Table) -> str:
    return f"{table.metric} ({table.unit})" if table.unit else table.metric


def _score(table: Table, row: TableRow) -> list[str]:
    """The mean with its interval and, if that is not the number of seeds, how many it is made from."""
    if row.n_done == 0:
        if row.n_failed and row.n_missing:
            return [f"{row.n_failed} failed,", f"{row.n_missing} not run"]
        return ["failed" if row.n_failed else "not run"]
    mean = _number(table, row.score.estimate)
    if row.n_done > 1:
        mean += f" ± {_number(table, row.score.half_width)}"
    return [mean] if row.n_done == len(table.seeds) else [mean, f"(n = {row.n_done})"]


def _gain(table: Table, row: TableRow) -> list[str]:
    """The gain and, if there is one, its interval."""
    if row.gain is None or math.isnan(row.gain.estimate):
        return [NONE]
    parts = [_number(table, row.gain.estimate, "+")]
    if not math.isnan(row.gain.low):
        parts.append(f"[{_number(table, row.gain.low, '+')}, {_number(table, row.gain.high, '+')}]")
    return parts


def _published(table: Table, row: TableRow) -> str:
    if row.published is None:
        return NONE
    gain = _number(table, row.published, "+")
    return f"({gain})" if row.published_unconfirmed else gain


def _p_value(p: float) -> str:
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _seconds(row: TableRow) -> list[str]:
    """The time and, if known, how many times that of the row compared with."""
    if math.isnan(row.seconds):
        return [NONE]
    parts = [f"{row.seconds:,.0f}" if row.seconds >= 100 else f"{row.seconds:.3g}"]
    return parts if math.isnan(row.seconds_ratio) else [*parts, f"(×{row.seconds_ratio:.2f})"]


def _number(table: Table, value: float, sign: str = "") -> str:
    """Print a number to a hundredth of a point; a plain number, such as a loss, to as many digits before scaling."""
    decimals = max(0, 4 - round(math.log10(table.scale)))
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def _seed_list(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 5 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _bullets(items: Iterable[str]) -> list[str]:
    return [f"- {item}" for item in items]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Keep a text on one line, in its cell, and out of the page's HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("\\", "\\\\").replace("|", "\\|")
