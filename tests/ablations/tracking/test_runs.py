"""W&B's own client, offline (its files are read back) and against a server on this machine."""

import logging
import os
import subprocess
import sys
from dataclasses import replace

import lightning as L
import pytest
import torch
import wandb
from safetensors.torch import load_file

from ablations.errors import UserError
from ablations.picture_files import read_listing
from ablations.plan import Scoring, Training
from ablations.store import RunFolder
from ablations.tracking import Tracking, runs
from ablations.tracking.connection import connect
from ablations.tracking.runs import TrainingLogger, open_run, run_id, send_finished
from ablations.training import run_and_record, run_training
from tests.helpers.command_line import environment
from tests.helpers.distributed import run_distributed
from tests.helpers.one_weight import OneWeight, make_trainer
from tests.helpers.recipes import digits_recipe
from tests.helpers.wandb_files import stored_runs
from tests.helpers.wandb_server import wandb_server

LAST = {"last": Scoring("last", {"weights": "last", "views": None})}
CORNERS = {"class_path": "lit_modules.inference.CornerCropViews", "init_args": {"padding": 1}}
BOTH = {**LAST, "last-shifted": Scoring("last", {"weights": "last", "views": CORNERS})}
TRACKING = Tracking(
    "project", "02 + ema / seed 0", "small", ("01 + x", "02 + ema"), ("row 01", "row 02", "ema"), "last"
)
CLOSED_PORT = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def offline(no_account, monkeypatch, tmp_path):
    """Runs go to the disk, and the cwd is empty."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def training(folder, seed=0, scorings=LAST, tracking=TRACKING, key="key", **settings):
    folder = folder / key / f"seed-{seed}"
    return Training(
        key, seed, digits_recipe(**settings), dict(scorings), folder, checkpoint_seconds=0, tracking=tracking
    )


class StopAt(L.Callback):
    """Raises in the middle of an epoch, as a process that is killed there would end."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise RuntimeError("stopped\nhere")


def stopping(tracked, epoch):
    tracked.recipe["trainer"]["callbacks"] = [{"class_path": f"{__name__}.StopAt", "init_args": {"epoch": epoch}}]
    return tracked


def online(monkeypatch, address):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


def test_c2_a_run_holds_the_full_recipe_and_how_it_went(tmp_path):
    done = training(tmp_path, scorings=BOTH)
    run_training(done)
    (stored,) = stored_runs(tmp_path)
    run, folder = stored.run, RunFolder(done.folder)
    assert (run.run_id, run.project, run.run_group, run.job_type) == ("key-0", "project", "small", "training")
    assert (run.display_name, tuple(run.tags)) == (TRACKING.name, TRACKING.tags)
    assert {name: stored.config[name] for name in done.config()} == done.config()
    assert stored.config["study"] == {"name": "small", "rows": list(TRACKING.rows), "key": "key", "seed": 0}
    losses = {line["epoch"]: line["train/loss"] for line in stored.history if "train/loss" in line}
    written = folder.metrics.read_text().splitlines()
    column = written[0].split(",").index("train/loss")
    assert losses == {epoch: float(line.split(",")[column]) for epoch, line in enumerate(written[1:])}
    for inference in BOTH:
        for metric, value in folder.score(inference).items():
            assert stored.summary[f"scores/{inference}/{metric}"] == value
    assert stored.summary["test/accuracy"] == folder.score("last")["test/accuracy"]
    assert stored.summary["costs/seconds"] == folder.result()["seconds"]
    assert stored.exit_code == 0


def test_its_files_lie_in_the_folder_of_the_training(tmp_path):
    done = training(tmp_path)
    run_training(done)
    assert [path.name for path in done.folder.glob("wandb/offline-run-*/run-*.wandb")] == ["run-key-0.wandb"]
    assert list((tmp_path / "cwd").iterdir()) == []


def test_tracking_changes_no_score_and_no_weight(tmp_path):
    plain, tracked = training(tmp_path / "plain", tracking=None), training(tmp_path / "tracked")
    assert plain == training(tmp_path / "plain")  # tracking does not tell trainings apart
    run_training(plain)
    run_training(tracked)
    one, other = RunFolder(plain.folder), RunFolder(tracked.folder)
    assert one.score("last") == other.score("last")
    weights = load_file(other.weights("last"))
    for name, tensor in load_file(one.weights("last")).items():
        assert torch.equal(tensor, weights[name]), name
    assert one.metrics.read_text() == other.metrics.read_text()
    assert not (plain.folder / "wandb").exists()


def test_b1_two_trainings_in_one_process_have_a_run_each(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "theirs")
    monkeypatch.setenv("WANDB_NAME", "theirs")
    run_training(training(tmp_path))
    run_training(training(tmp_path, seed=1))
    assert [stored.run.run_id for stored in stored_runs(tmp_path)] == ["key-0", "key-1"]
    assert [stored.run.display_name for stored in stored_runs(tmp_path)] == [TRACKING.name] * 2


def test_b1_a_run_that_is_open_already_is_neither_joined_nor_ended(tmp_path):
    with wandb.init(project="theirs", dir=str(tmp_path), id="theirs", settings=wandb.Settings(silent=True)) as theirs:
        run_training(training(tmp_path))
        assert wandb.run is theirs
        theirs.log({"still": "open"})
    wandb.teardown()  # the end of a run is told to the service, which writes it later
    by_id = {stored.run.run_id: stored for stored in stored_runs(tmp_path)}
    assert by_id["theirs"].history == [{"still": "open"}]
    assert "train/loss" in by_id["key-0"].summary


def test_b2_a_training_that_fails_ends_its_run_as_failed(tmp_path):
    with pytest.raises(RuntimeError, match="stopped"):
        run_training(stopping(training(tmp_path), epoch=1))
    run_training(training(tmp_path, seed=1))
    failed, succeeded = stored_runs(tmp_path)
    assert (failed.exit_code, failed.summary["failure"]) == (1, "RuntimeError: stopped")
    assert (succeeded.run.run_id, succeeded.exit_code) == ("key-1", 0)
    assert "failure" not in succeeded.summary


def test_b2_a_training_that_fails_before_its_first_step_shows_as_failed_too(tmp_path):
    with pytest.raises(SystemExit):
        run_and_record(training(tmp_path, model__network__num_classes=3))
    (failed,) = stored_runs(tmp_path)
    assert failed.exit_code == 1
    assert "the network has 3 outputs" in failed.summary["failure"]


def test_b3_a_run_that_is_offline_leaves_the_mode_of_the_process_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    before = dict(os.environ)
    run_training(training(tmp_path, tracking=Tracking("project", "name", offline=True)))
    assert dict(os.environ) == before
    assert stored_runs(tmp_path)[0].exit_code == 0


def test_b4_the_client_has_nothing_to_complain_about(tmp_path, capfd):
    run_training(training(tmp_path))
    assert "anonymous" not in "".join(capfd.readouterr())


def test_b5_a_training_that_is_taken_up_again_goes_on_with_its_run(tmp_path, monkeypatch):
    with wandb_server() as server:
        online(monkeypatch, server.address)
        with pytest.raises(RuntimeError, match="stopped"):
            run_training(stopping(training(tmp_path), epoch=1))
        run_training(training(tmp_path))
        assert list(server.runs) == ["key-0"]
        assert server.exit_codes == {"key-0": [1, 0]}
        epochs = [line["epoch"] for line in server.history("key-0") if "train/loss" in line]
        assert epochs == [0, 1]
        steps = [line["_step"] for line in server.history("key-0")]
        assert steps == sorted(set(steps))


def fit_on_two_ranks(folder):
    os.environ["WANDB_MODE"] = "offline"
    logger = TrainingLogger(training(folder))
    trainer = make_trainer(strategy="ddp", devices=2, logger=logger)
    trainer.fit(OneWeight())
    logger.close()
    return trainer.global_rank


def test_b6_of_several_processes_only_the_first_writes(tmp_path):
    assert run_distributed(fit_on_two_ranks, tmp_path) == [0, 1]
    (stored,) = stored_runs(tmp_path)
    assert stored.exit_code == 0


def test_b7_training_and_validation_share_their_x_axis(tmp_path):
    run_training(training(tmp_path))
    (stored,) = stored_runs(tmp_path)
    assert {stored.axes[pattern] for pattern in ("train/*", "val/*", "test/*")} == {"epoch"}
    assert all("epoch" in line for line in stored.history)
    last = [line["epoch"] for line in stored.history if {"train/loss", "val/loss"} & line.keys()][-2:]
    assert last == [1, 1]


def test_a_server_gets_all_of_a_run(tmp_path, monkeypatch):
    done = training(tmp_path)
    with wandb_server() as server:
        online(monkeypatch, server.address)
        run_training(done)
    (id,) = server.runs
    assert id == run_id(done)
    names = ("displayName", "groupName", "jobType", "tags", "project")
    expected = [TRACKING.name, "small", "training", list(TRACKING.tags), "project"]
    assert [server.latest(id, name) for name in names] == expected
    assert [line["epoch"] for line in server.history(id) if "train/loss" in line] == [0, 1]
    assert server.summary(id)["test/accuracy"] == RunFolder(done.folder).score("last")["test/accuracy"]
    assert server.exit_codes == {id: [0]}


def test_what_was_written_offline_can_be_sent_later(tmp_path, monkeypatch):
    run_training(training(tmp_path))
    wandb.teardown()
    with wandb_server() as server:
        online(monkeypatch, server.address)
        command = [sys.executable, "-m", "wandb", "sync", *map(str, tmp_path.glob("key/*/wandb/offline-run-*"))]
        names = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 60}
        done = subprocess.run(command, check=False, env=environment(), **names)
        assert done.returncode == 0, done.stderr
    assert server.latest("key-0", "displayName") == TRACKING.name
    assert [line["epoch"] for line in server.history("key-0") if "train/loss" in line] == [0, 1]
    assert server.exit_codes == {"key-0": [0]}


def test_a_training_that_was_done_before_gets_its_run_later_and_once(tmp_path):
    done = training(tmp_path, tracking=None)
    run_training(replace(done, with_pictures=True))
    assert stored_runs(tmp_path) == []
    tracked = replace(done, tracking=TRACKING)
    assert send_finished([tracked, training(tmp_path, seed=1)]) == 1  # the other has not been trained
    assert send_finished([tracked]) == 0
    (stored,) = stored_runs(tmp_path)
    column = RunFolder(done.folder).metrics.read_text().splitlines()[0].split(",").index("train/loss")
    written = [line.split(",") for line in RunFolder(done.folder).metrics.read_text().splitlines()[1:]]
    losses = [(line["epoch"], line["train/loss"]) for line in stored.history if "train/loss" in line]
    assert losses == [(epoch, float(cells[column])) for epoch, cells in enumerate(written)]
    assert all("step" not in line and "trainer/global_step" in line for line in stored.history if "epoch" in line)
    assert stored.summary["test/accuracy"] == RunFolder(done.folder).score("last")["test/accuracy"]
    assert stored.exit_code == 0
    (shown,) = [line for line in stored.history if "train/loss" not in line]
    captions = [entry["caption"] for entry in read_listing(RunFolder(done.folder).pictures("last"))]
    assert shown["pictures/last/captions"] == captions
    assert len(list(done.folder.glob("wandb/offline-run-*/files/media/images/pictures/*.png"))) == len(captions) > 0


def test_a_training_with_a_run_gets_no_second_one_and_a_new_score_is_added_to_it(tmp_path):
    run_training(training(tmp_path))
    assert send_finished([training(tmp_path)]) == 0
    again = training(tmp_path, scorings=BOTH)
    assert send_finished([again]) == 0  # it is not done
    run_training(again)
    first, second = stored_runs(tmp_path)
    assert first.run.run_id == second.run.run_id
    assert not any("train/loss" in line for line in second.history)
    assert "scores/last-shifted/test/accuracy" in second.summary


def test_without_w_and_b_the_training_goes_on_and_says_so_once(tmp_path, monkeypatch, caplog):
    online(monkeypatch, CLOSED_PORT)
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    done = training(tmp_path)
    with caplog.at_level(logging.WARNING, logger=runs.__name__):
        run_training(done)
    said = [record.getMessage() for record in caplog.records if "W&B" in record.getMessage()]
    assert len(said) == 1
    assert f"`wandb sync {done.folder}/wandb/offline-run-*`" in said[0]
    assert RunFolder(done.folder).score("last")
    (folder,) = done.folder.glob("wandb/offline-run-*")
    (kept,) = stored_runs(folder)
    assert [line["epoch"] for line in kept.history if "train/loss" in line] == [0, 1]
    assert kept.exit_code == 0


def test_a_client_that_breaks_down_does_not_stop_the_training(tmp_path, monkeypatch, caplog):
    def broken(*arguments, **names):
        raise ConnectionResetError("Connection lost")

    def open_broken(**arguments):
        run = open_run(**arguments)
        monkeypatch.setattr(type(run), "log", broken)
        return run

    monkeypatch.setattr(runs, "open_run", open_broken)
    done = training(tmp_path)
    run_training(done)
    assert RunFolder(done.folder).score("last")
    said = [record.getMessage() for record in caplog.records if "W&B" in record.getMessage()]
    assert said == ["W&B takes no more (Connection lost); the training goes on without it."]


def test_it_is_said_before_anything_trains_whether_w_and_b_answers(monkeypatch):
    assert connect() == ""  # offline
    online(monkeypatch, CLOSED_PORT)
    assert "Connection refused" in connect()
    with wandb_server() as server:
        online(monkeypatch, server.address)
        assert connect() == ""
        monkeypatch.delenv("WANDB_API_KEY")
        with pytest.raises(UserError, match=r"W&B knows no account here .*wandb login"):
            connect()
