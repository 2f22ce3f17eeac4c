"""Which costs a study's table shows beside the gains: those that differ from row to row."""

import math
from collections.abc import Iterator

from ablations.table_format import row_list
from ablations.table_records import Table, TableRow

NONE = "–"
COST_FIELDS = {
    "seconds a test": "test_seconds",
    "peak memory (MB)": "peak_memory_mb",
    "FLOPs an image": "flops_per_image",
}
"""The columns for costs beyond training time and parameters, and the field of a row behind each."""


def cost_columns(table: Table) -> dict[str, list[str]]:
    """Return the columns for costs beyond training time and parameters, by heading."""
    columns = {}
    if _known(table, "test_seconds"):
        columns["seconds a test"] = [" ".join(_test(row)) for row in table.rows]
    if differs(table, "peak_memory_mb"):
        columns["peak memory (MB)"] = [_text(row.peak_memory_mb, f"{row.peak_memory_mb:,.0f}") for row in table.rows]
    if differs(table, "flops_per_image"):
        columns["FLOPs an image"] = [_text(row.flops_per_image, short(row.flops_per_image)) for row in table.rows]
    return columns


def differs(table: Table, cost: str) -> bool:
    """Return whether a cost is known and differs between rows by more than one part in a hundred."""
    values = _known(table, cost)
    return bool(values) and max(values) > 1.01 * min(values)


def cost_notes(table: Table) -> Iterator[str]:
    """Say what the columns for costs hold."""
    several = tuple(row.index for row in table.rows if row.n_trainings > 1)
    if several:
        verb = "needs" if len(several) == 1 else "need"
        yield (
            f"Of {row_list(several)}, which {verb} several trainings, the seconds are those of all of them together, "
            f"and the memory is the largest."
        )
    names = list(cost_columns(table))
    if "seconds a test" in names:
        yield (
            "Seconds a test are the median time of the whole test, and in brackets how many times that of the row "
            "compared with."
        )
    if "FLOPs an image" in names:
        yield "FLOPs are those of the test of one image; a multiplication and an addition are two."


def short(count: float) -> str:
    """Return a count in thousands or millions, as wide as three digits are: 77.8k, 25.6M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:g}"


def _known(table: Table, cost: str) -> list[float]:
    values = (getattr(row, cost) for row in table.rows)
    return [value for value in values if value is not None and math.isfinite(value)]


def _test(row: TableRow) -> list[str]:
    if math.isnan(row.test_seconds):
        return [NONE]
    seconds = f"{row.test_seconds:.3g}"
    return [seconds] if math.isnan(row.test_ratio) else [seconds, f"(×{row.test_ratio:.2f})"]


def _text(value: float, text: str) -> str:
    return NONE if math.isnan(value) else text
