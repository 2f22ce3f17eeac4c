"""A W&B workspace that shows the rows of a study side by side. Needs the optional package `wandb-workspaces`."""

import json
from importlib import util
from pathlib import Path
from typing import Any

from ablations.results import read_study_record
from ablations.store import write_json
from ablations.tracking.runs import close_service, first_line

PACKAGE = "wandb_workspaces"


def offer_workspace(folder: Path, project: str, offline: bool) -> tuple[str, str]:
    """Make the workspace of a study, unless its results folder says that the project has it.

    Args:
        folder: the study's results folder, with its table's scores.
        project: the project, or `team/project`.
        offline: whether W&B is written to the disk alone; a workspace cannot be.

    Returns:
        Its address and, if that failed, why. Both are empty offline, and where `wandb-workspaces` is not installed.
    """
    import wandb  # only here: whoever does not track should not wait for it

    if offline or wandb.setup().settings.mode != "online" or util.find_spec(PACKAGE) is None:
        return "", ""
    try:
        return _save_once(folder, project), ""
    except Exception as error:  # the runs are in W&B, whatever it says to this
        return "", first_line(error)
    finally:
        close_service()


def save_workspace(project: str, study: str, metric: str) -> str:
    """Save a workspace in which the seeds of a row are one group, and return its address.

    It has the headline metric as bars, a bar a row, the learning curves with the spread of the seeds, and the costs.

    Args:
        project: the project, or `team/project`.
        study: the study, whose trainings are shown.
        metric: its headline metric, such as `test/accuracy`.

    Raises:
        ImportError: `wandb-workspaces` is not installed.
        Exception: as the client raises, if W&B does not take it.
    """
    import wandb
    from wandb_workspaces import workspaces

    entity, _, name = project.rpartition("/")
    workspace = workspaces.Workspace(
        entity=entity or wandb.Api().default_entity or "",
        project=name,
        name=f"{study}: the rows side by side",
        sections=_sections(metric),
        runset_settings=workspaces.RunsetSettings(
            filters=workspaces.And(workspaces.Metric("Group") == study, workspaces.Metric("JobType") == "training"),
            groupby=[workspaces.Config("study.rows")],
        ),
    )
    workspace.save()
    return workspace.url


def _sections(metric: str) -> list[Any]:
    from wandb_workspaces.reports import v2 as panels
    from wandb_workspaces.workspaces import Section

    curves = ("train/loss", f"val/{metric.partition('/')[2]}")
    costs = {"seconds": "seconds a training", "peak_memory_mb": "peak memory (MB)"}
    shown: dict[str, list[Any]] = {
        "Rows": [panels.BarPlot(title=metric, metrics=[metric])],
        "Learning curves": [
            panels.LinePlot(title=curve, x="epoch", y=[curve], groupby_aggfunc="mean", groupby_rangefunc="minmax")
            for curve in curves
        ],
        "Costs": [panels.BarPlot(title=title, metrics=[f"costs/{cost}"]) for cost, title in costs.items()],
    }
    return [Section(name=name, panels=of_section, is_open=True) for name, of_section in shown.items()]


def _save_once(folder: Path, project: str) -> str:
    path = folder / "wandb" / "workspaces.json"
    known = json.loads(path.read_bytes()) if path.is_file() else {}
    if project not in known:
        record = read_study_record(folder) or {}
        known[project] = save_workspace(project, record["name"], record["metric"])
        write_json(path, known)
    return str(known[project])
