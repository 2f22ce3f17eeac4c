"""The W&B run of a whole study: its table, and the files of its results folder as an artifact."""

from pathlib import Path
from typing import Any

from ablations.picture_files import read_listing
from ablations.tracking.runs import close_service, first_line, open_run

FILES = ("table.md", "table.csv", "table.tex", "scores.csv", "costs.csv", "report.html", "figures", "pictures")
"""What the artifact holds, of these whatever the results folder has."""


def send_summary(folder: Path, name: str, project: str, offline: bool) -> str:
    """Write the run that sums a study up; the same study always goes on with the same run.

    Args:
        folder: the study's results folder, with a table that is up to date.
        name: what the study is called, its mode included where that is not its own.
        project: the project, or `team/project`.
        offline: whether to write to the disk alone.

    Returns:
        Why that failed; empty if it did not.
    """
    try:
        _send(folder, name, project, offline)
    except Exception as error:  # the table is on the disk, whatever W&B says
        return first_line(error)
    finally:
        close_service()
    return ""


def _send(folder: Path, name: str, project: str, offline: bool) -> None:
    import wandb  # only here: whoever does not track should not wait for it

    from ablations.table import read_table, to_frame  # imports pandas

    table = read_table(folder)
    frame = to_frame(table)
    run = open_run(
        project=project,
        folder=folder,
        offline=offline,
        id=f"{name}-summary",
        name=f"{name} / summary",
        group=table.name,
        job_type="summary",
    )
    try:
        run.summary.update({f"{row.index:02d} {row.name}": row.score.estimate for row in table.rows if row.n_done})
        if shown := _pictures(folder / "pictures"):
            run.log(shown)
        columns: list[str | int] = list(map(str, frame))
        rows: list[Any] = frame.astype(object).where(frame.notna(), None).values.tolist()
        run.log({"table": wandb.Table(columns=columns, data=rows, allow_mixed_types=True)})
        artifact = wandb.Artifact(f"{name}-results", type="study")
        for path in (folder / file for file in FILES):
            if path.is_dir():
                artifact.add_dir(str(path), name=path.name)
            elif path.is_file():
                artifact.add_file(str(path))
        run.log_artifact(artifact)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=0)


def _pictures(folder: Path) -> dict[str, list[Any]]:
    """Return the pictures of a results folder as W&B's images, a panel a row."""
    import wandb

    shown: dict[str, list[Any]] = {}
    for entry in read_listing(folder):
        panel = f"pictures/row {entry['row']:02d}" if isinstance(entry.get("row"), int) else "pictures/more"
        image = wandb.Image(str(folder / entry["file"]), caption=str(entry.get("caption", "")))
        shown.setdefault(panel, []).append(image)
    return shown
