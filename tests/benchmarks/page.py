"""What the report of a large study costs."""

import tempfile
from pathlib import Path

from ablations.report import write_report
from tests.benchmarks.report import Figure, seconds
from tests.helpers.results_folder import plan_rows, write_results, write_store

ROWS, SEEDS = 60, 20


def report() -> list[Figure]:
    """Time and size of the page of a large study whose store holds curves and predictions."""
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name) / "small", plan_rows(ROWS)
        write_results(folder, rows, SEEDS)
        store = write_store(Path(name) / "runs", rows, SEEDS, epochs=100, images=500)
        took = seconds(lambda: write_report(folder, store))
        size = (folder / "report.html").stat().st_size / 1e6
    text = f"report of {ROWS} rows x {SEEDS} seeds"
    return [Figure(f"{text}, s", took, 20, at_most=True), Figure(f"{text}, MB", size, 8, at_most=True)]
