"""The table of a study, from its results folder to `table.md`, `table.csv` and the terminal.

The numbers are made in `table_numbers`, from files that `table_files` reads, and put into words in `table_text`; what
goes from one to the other are the records of `table_records`.
"""

import math
from pathlib import Path

import pandas as pd

from ablations.store import write_text
from ablations.table_effects import effects_of
from ablations.table_files import TableError
from ablations.table_numbers import read_table
from ablations.table_records import Failure, Head, Mixture, Table, TableRow
from ablations.table_text import to_markdown, to_rich

__all__ = [
    "Failure",
    "Head",
    "Mixture",
    "Table",
    "TableError",
    "TableRow",
    "read_table",
    "to_frame",
    "to_markdown",
    "to_rich",
    "write_table",
]


MORE_COSTS = ("test_seconds", "test_ratio", "peak_memory_mb", "flops_per_image")
"""Costs that the frame has where they are known of any row."""


def write_table(folder: Path) -> Table:
    """Make the table of a results folder and write it there as `table.md` and `table.csv`, each whole or not at all.

    In the modes `pairs` and `shapley` there is `interactions.csv` or `shapley_values.csv`, too. The same files give
    the same bytes.

    Raises:
        TableError: a file that the table needs is missing or damaged.
    """
    table = read_table(folder)
    write_text(folder / "table.md", to_markdown(table))
    write_text(folder / "table.csv", to_frame(table).to_csv(index=False, lineterminator="\n"))
    effects = effects_of(table)
    if effects is not None:
        name = effects.name.lower().replace(" ", "_")
        write_text(folder / f"{name}.csv", effects.frame.to_csv(index=False, lineterminator="\n"))
    return table


def to_frame(table: Table) -> pd.DataFrame:
    """Return a line a row, at full precision; what is unknown is missing."""
    lines = [
        {
            "row": row.index,
            "name": row.name,
            "trick": row.trick,
            "text": row.text,
            "compared_to": row.compared_to,
            "mean": row.score.estimate,
            "low": row.score.low,
            "high": row.score.high,
            "sd": row.sd,
            "gain": row.gain.estimate if row.gain else math.nan,
            "gain_low": row.gain.low if row.gain else math.nan,
            "gain_high": row.gain.high if row.gain else math.nan,
            "gain_confidence": row.gain.confidence if row.gain else math.nan,
            "pairs": row.gain.pairs if row.gain else None,
            "p": row.gain.p if row.gain and table.race is None else math.nan,
            "p_holm": row.p_adjusted,
            "p_improvement": row.improvement.estimate if row.improvement else math.nan,
            "p_improvement_low": row.improvement.low if row.improvement else math.nan,
            "p_improvement_high": row.improvement.high if row.improvement else math.nan,
            "verdict": row.verdict,
            "published_gain": math.nan if row.published is None else row.published,
            "published_unconfirmed": row.published_unconfirmed,
            "seconds": row.seconds,
            "seconds_ratio": row.seconds_ratio,
            **{name: getattr(row, name) for name in MORE_COSTS},
            "parameters": row.parameters,
            "done": row.n_done,
            "failed": row.n_failed,
            "missing": row.n_missing,
            "spared": row.n_spared,
        }
        for row in table.rows
    ]
    frame = pd.DataFrame(lines).astype({"compared_to": "Int64", "pairs": "Int64", "parameters": "Int64"})
    return frame.drop(columns=[name for name in MORE_COSTS if frame[name].isna().all()])
