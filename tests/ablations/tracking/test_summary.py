"""The run that sums a study up, and the workspace that compares its rows, against a server on this machine."""

import json
import time

import pytest
import wandb
from PIL import Image

from ablations.tracking import workspace
from ablations.tracking.summary import send_summary
from ablations.tracking.workspace import offer_workspace
from tests.helpers.results_folder import plan_rows, write_results
from tests.helpers.wandb_server import wandb_server

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style", "ignore:.*:pydantic.PydanticDeprecatedSince20")


@pytest.fixture(autouse=True)
def with_account(no_account, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


@pytest.fixture
def server(monkeypatch):
    with wandb_server() as received:
        monkeypatch.setenv("WANDB_BASE_URL", received.address)
        yield received


@pytest.fixture
def folder(tmp_path):
    """A results folder with a report and two pictures, one of row 1."""
    folder = write_results(tmp_path / "small", plan_rows(3))
    (folder / "report.html").write_text("<p>The report.</p>")
    (folder / "pictures").mkdir()
    for number in (1, 2):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"pictures/{number}.png")
    entries = [{"file": "1.png", "row": 1, "caption": "One, taken for seven"}, {"file": "2.png", "caption": "More"}]
    (folder / "pictures/pictures.json").write_text(json.dumps(entries))
    return folder


def test_the_summary_has_table_scores_pictures_and_the_report(server, folder):
    assert send_summary(folder, "small", "project", offline=False) == ""
    (run,) = server.runs
    assert (run, server.latest(run, "groupName"), server.latest(run, "jobType")) == (
        "small-summary",
        "small",
        "summary",
    )
    assert server.exit_codes == {run: [0]}
    summary = server.summary(run)
    assert summary["00 base"] == pytest.approx(80.04)
    assert summary["table"]["nrows"] == 3
    assert summary["pictures/row 01"]["captions"] == ["One, taken for seven"]
    assert summary["pictures/more"]["captions"] == ["More"]
    (table,) = [json.loads(content) for name, content in server.files.items() if name.endswith(".table.json")][:1]
    assert [line[table["columns"].index("name")] for line in table["data"]] == ["base", "+ trick_1", "+ trick_2"]
    states = {artifact["name"]: artifact["state"] for artifact in server.artifacts.values()}
    assert states == {"small-results": "COMMITTED", f"run-{run}-table": "COMMITTED"}
    (results,) = [id for id, artifact in server.artifacts.items() if artifact["name"] == "small-results"]
    sent = {name.split("/", 1)[1] for name in server.files if name.startswith(f"{results}/")}
    assert sent >= {"report.html", "scores.csv", "costs.csv", "pictures/1.png", "pictures/pictures.json"}
    assert server.files[f"{results}/report.html"] == b"<p>The report.</p>"


def test_a_server_without_artifacts_does_not_hold_the_end_up(server, folder):
    server.without = {"ArtifactType"}
    started = time.monotonic()
    assert "ArtifactType" in send_summary(folder, "small", "project", offline=False)
    assert time.monotonic() - started < 60
    (run,) = server.runs
    assert server.exit_codes == {run: [1]}
    assert server.summary(run)["00 base"] == pytest.approx(80.04)  # what it could take, it has


def test_a_workspace_compares_the_rows_and_is_made_once(server, folder):
    pytest.importorskip(workspace.PACKAGE)
    first = offer_workspace(folder, "project", offline=False)
    assert first[1] == ""
    assert first[0].startswith(f"{server.address}/team/project?nw=")
    assert first[1] == ""
    assert offer_workspace(folder, "project", offline=False) == first
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("team", "project")
    assert view["displayName"] == "small: the rows side by side"
    spec = json.loads(view["spec"])["section"]
    shown = {
        section["name"]: [panel["config"]["metrics"] for panel in section["panels"]]
        for section in spec["panelBankConfig"]["sections"]
    }
    assert shown["Rows"] == [["test/accuracy"]]
    assert shown["Learning curves"] == [["train/loss"], ["val/accuracy"]]
    assert shown["Costs"] == [["costs/seconds"], ["costs/peak_memory_mb"]]
    (runset,) = spec["runSets"]
    assert runset["grouping"] == [{"section": "config", "name": "study.value.rows"}]
    filters = {item["key"]["name"]: item["value"] for item in runset["filters"]["filters"]}
    assert filters == {"group": "small", "jobType": "training"}


def test_a_workspace_that_is_refused_is_said(server, folder):
    pytest.importorskip(workspace.PACKAGE)
    server.without = {"UpsertView2"}
    address, reason = offer_workspace(folder, "project", offline=False)
    assert (address, bool(reason)) == ("", True)
    assert not (folder / "wandb/workspaces.json").exists()


def test_without_the_package_or_offline_there_is_no_workspace(server, folder, monkeypatch):
    assert offer_workspace(folder, "project", offline=True) == ("", "")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert offer_workspace(folder, "project", offline=False) == ("", "")
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(workspace, "PACKAGE", "no_such_package")
    assert offer_workspace(folder, "project", offline=False) == ("", "")
    assert server.views == []
