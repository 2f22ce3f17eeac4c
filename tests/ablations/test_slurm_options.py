"""What `ablate` says about a cluster without one: options, a missing Slurm, the state of a study."""

import re

import pytest

from ablations.cli import main
from ablations.errors import UserError
from ablations.executors import run_slurm, slurm_cluster
from ablations.executors.slurm_cluster import SlurmOptions, minutes_of
from ablations.store import RunStore, write_json
from tests.helpers.recipes import write_study


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90),
        ("0:30", 1),
        ("04:00:00", 240),
        ("1:00:01", 61),
        ("2-0", 2880),
        ("1-02:30", 1590),
        ("1-00:00:30", 1441),
    ],
)
def test_a_time_limit_is_read_as_slurm_reads_it(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "1:2:3:4"])
def test_what_is_no_time_limit_is_refused(text):
    with pytest.raises(UserError, match=r"is no time limit\. Write minutes"):
        minutes_of(text)


@pytest.mark.parametrize(
    ("resources", "gpus"), [("(null)", 0), ("gpu:4", 4), ("gpu:a100:4(S:0-1),nvme:1", 4), ("gpu:a:2,gpu:b:6(S:1,3)", 8)]
)
def test_the_gpus_of_a_node_are_counted(resources, gpus):
    assert slurm_cluster._gpus(resources) == gpus


def test_a_machine_without_slurm_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    training = type("Training", (), {"store": tmp_path, "needs": (), "scorings": {}, "key": "key", "seed": 0})()
    with pytest.raises(UserError, match="there is no Slurm on this machine: the command sbatch is not found"):
        list(run_slurm([training], "small", SlurmOptions()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--executor", "slurm"], "there is no Slurm on this machine"),
        (["--set", "trainer.num_nodes=2"], "trainer.num_nodes is 2, and this is one machine"),
    ],
)
def test_a_study_that_cannot_run_here_is_not_recorded(arguments, says, tmp_path, monkeypatch, capsys):
    """Otherwise the settings with which it can would be refused as another version of it."""
    monkeypatch.setattr(slurm_cluster.shutil, "which", lambda _: None)
    assert main(["run", str(write_study(tmp_path)), "--results", str(tmp_path / "results"), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.rglob("study.json"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--slurm.partition", "gpu"], "--slurm.partition needs --executor slurm"),
        (["--executor", "slurm", "--slurm.time", "soon"], "--slurm.time 'soon' is no time limit"),
        (["--executor", "slurm", "--slurm.max_running", "0"], "--slurm.max_running is 0; it must be at least 1"),
        (["--executor", "slurm", "--slurm.retries", "-1"], "--slurm.retries is -1; it must be at least 0"),
        (["--executor", "slurm", "--slurm.mem", "-1"], "--slurm.mem is -1.0; it must be a number of GiB above 0"),
        (["--executor", "slurm", "--slurm.mem", "nan"], "--slurm.mem is nan; it must be a number of GiB above 0"),
        (["--executor", "slurm", "--slurm.poll", "-1"], "--slurm.poll is -1.0; it must be a number of seconds above 0"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, says, capsys):
    assert main(["run", "digits", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_the_status_of_a_study_counts_each_row_and_gives_reasons(tmp_path, capsys):
    rows = [
        {"index": 0, "name": "base", "key": "a", "inference": "last", "trainings": [["a", 0]]},
        {"index": 1, "name": "+ pair", "key": "a", "inference": "two", "trainings": [["a", 0], ["b", 0]]},
    ]
    write_json(tmp_path / "small" / "study.json", {"seeds": [0, 1], "rows": rows})
    store = RunStore(tmp_path / "runs")
    store.folder("a", 0).write_result({"seconds": 1.0})
    store.folder("a", 1).write_status("failed", "out of memory")
    store.folder("b", 0).write_status("running")  # by this process
    assert main(["status", "small", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    cells = [re.split(r" {2,}", line.strip()) for line in out.splitlines()[:3]]
    assert cells[0] == ["#", "row", "done", "running", "pending", "failed", "missing"]
    assert cells[1] == ["0", "base", "1", "–", "–", "1", "–"]
    assert cells[2] == ["1", "+ pair", "1", "1", "–", "1", "1"]
    assert "failed: base, seed 1: out of memory; " in out
    assert "running: + pair, seed 0: process " in out
