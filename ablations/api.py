"""What studies found, as pandas frames: for a notebook, or figures of one's own.

Example::

    from ablations import load_study, scores

    study = load_study("digits")
    print(study.table[["name", "gain", "gain_low", "gain_high", "verdict"]])
    print(scores("digits").groupby("name", sort=False)["test/accuracy"].mean())

Everything is read from results folders; nothing is trained or written. Importing this module imports neither pandas nor
torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import StoreError, StudyError, did_you_mean
from ablations.results import read_study_record
from ablations.store import RunStore
from ablations.study_file import find_study, read_study

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class StudyResults:
    """What is stored of a study.

    Args:
        name: its name.
        folder: its results folder.
        rows: a line a row: `row`, `name`, `text`, `trick`, `compared_to`, and the `key` of its trainings.
        table: the study's table at full precision, as in `table.csv`.
        effects: interactions or Shapley values, as in their CSV files; empty in modes that have none.
    """

    name: str
    folder: Path
    rows: "pd.DataFrame"
    table: "pd.DataFrame"
    effects: "pd.DataFrame"


def load_study(study: str | Path, results: str | Path = "results", mode: str | None = None) -> StudyResults:
    """Return the rows and the table of a study that was run.

    Args:
        study: the study's name, its file, or its results folder.
        results: the folder of all results.
        mode: the mode of its rows, where it was run in another than its own.

    Raises:
        StoreError: there is no such results folder, or it is damaged.
        TableError: the table cannot be made from what is in the folder.
    """
    import pandas as pd

    from ablations.table import read_table, to_frame
    from ablations.table_effects import effects_of

    folder, record = _stored(study, results, mode)
    table = read_table(folder)
    effects = effects_of(table)
    names = {
        "index": "row",
        "name": "name",
        "text": "text",
        "trick": "trick",
        "compared_to": "compared_to",
        "key": "key",
    }
    lines = [{column: row.get(name) for name, column in names.items()} for row in record["rows"]]
    rows = pd.DataFrame(lines, columns=list(names.values())).astype({"compared_to": "Int64"})
    return StudyResults(
        table.name, folder, rows, to_frame(table), effects.frame if effects is not None else pd.DataFrame()
    )


def scores(study: str | Path, results: str | Path = "results", mode: str | None = None) -> "pd.DataFrame":
    """Return a line a row and seed: `row`, `name`, `trick`, `seed`, `status`, and a column for each metric.

    Metrics are as they were logged, not in the table's unit; they are missing unless the status is `done`.

    Args:
        study: the study's name, its file, or its results folder.
        results: the folder of all results.
        mode: the mode of its rows, where it was run in another than its own.

    Raises:
        StoreError: there is no such results folder, or it is damaged.
    """
    import pandas as pd

    folder, record = _stored(study, results, mode)
    path = folder / "scores.csv"
    try:
        frame = pd.read_csv(path, dtype={"key": str, "reason": str}, keep_default_na=False, na_values=[""])
        frame["trick"] = frame["row"].map({row["index"]: row["trick"] for row in record["rows"]})
        frame = frame.drop(columns=["reason", "key", "inference"])
        first = ["row", "name", "trick", "seed", "status"]
        return frame[first + [name for name in frame.columns if name not in first]]
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}). Make it again with `ablate table {record['name']}`."
        ) from None


def curves(
    study: str | Path, results: str | Path = "results", mode: str | None = None, store: str | Path | None = None
) -> "pd.DataFrame":
    """Return the learning curves: a line a row, seed and logged epoch, with a column for each metric.

    Rows that share their trainings have the same curves; trainings without one are left out.

    Args:
        study: the study's name, its file, or its results folder.
        results: the folder of all results.
        mode: the mode of its rows, where it was run in another than its own.
        store: the run store; by default `runs` in the folder of all results.

    Raises:
        StoreError: there is no such results folder, it is damaged, or the store has none of its curves.
    """
    import pandas as pd

    _, record = _stored(study, results, mode)
    runs = RunStore(Path(results) / "runs" if store is None else Path(store))
    frames = []
    for row in record["rows"]:
        for seed in record["seeds"]:
            path = runs.folder(row["key"], seed).metrics
            if path.is_file():
                frame = pd.read_csv(path)
                for place, name in enumerate(("row", "name", "trick", "seed")):
                    frame.insert(place, name, {**row, "row": row["index"], "seed": seed}[name])
                frames.append(frame)
    if not frames:
        raise StoreError(f"{runs.path} holds no learning curve of the study {record['name']}. Run it there first.")
    return pd.concat(frames, ignore_index=True)


def _stored(study: str | Path, results: str | Path, mode: str | None) -> tuple[Path, dict[str, Any]]:
    """Return the results folder of a study and its record."""
    folder = Path(study)
    if not (folder / "study.json").is_file():
        folder = Path(results) / _name(str(study), Path(results))
    record = read_study_record(folder)
    if record is not None and mode not in (None, record.get("mode")):
        folder = folder / str(mode)
        record = read_study_record(folder)
    if record is None:
        known = sorted(path.parent.name for path in Path(results).glob("*/study.json"))
        raise StoreError(
            f"{folder} holds no study. There are: {', '.join(known) or 'none'}.{did_you_mean(folder.name, known)} "
            f"`ablate run` makes one."
        )
    return folder, record


def _name(study: str, results: Path) -> str:
    """Return the name of a study that is given by its name or its file; also where the file is not there any more."""
    if (results / study / "study.json").is_file():
        return study
    try:
        return read_study(find_study(study)).name
    except StudyError:
        return study
