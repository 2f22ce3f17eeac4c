"""Trainings whose data loaders have processes of their own."""

import os
import select
import signal
from pathlib import Path

import pandas as pd
import pytest

from tests.datamodules.detection.box_folders import write_voc
from tests.datamodules.image_files import write_folder
from tests.helpers.command_server import command_server, run_ablate
from tests.helpers.recipes import write_study

PLAIN = '''
import os
import threading
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info


class Images(Dataset):
    """Random images. Each process that reads one leaves its number; told to, it reads no further."""

    def __init__(self, visitors, stop):
        self.visitors, self.stop = visitors, stop

    def __len__(self):
        return 24

    def __getitem__(self, index):
        if get_worker_info() is not None:
            (Path(self.visitors) / str(os.getpid())).touch()
            if self.stop:
                threading.Event().wait()
        return torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index)), index % 10


class Plain(L.LightningDataModule):
    def __init__(self, visitors: str, num_workers: int = 2, stop: bool = False):
        super().__init__()
        self.images, self.num_workers = Images(visitors, stop), num_workers

    def train_dataloader(self):
        return DataLoader(self.images, batch_size=8, shuffle=True, num_workers=self.num_workers)

    def val_dataloader(self):
        return DataLoader(self.images, batch_size=8, num_workers=self.num_workers)

    test_dataloader = val_dataloader
'''


def plain_study(folder: Path, **arguments):
    """Write a study of a LightningDataModule of the user's own whose loaders have two processes each."""
    (folder / "plain_data.py").write_text(PLAIN)
    (folder / "visitors").mkdir()
    data = {"class_path": "plain_data.Plain", "init_args": {"visitors": str(folder / "visitors"), **arguments}}
    settings = {"trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 1, "model.network.width": 4, "data": data}
    return write_study(folder, plugins=["plain_data.py"], tricks=["label_smoothing"], seeds=1, set=settings)


def visitors(folder: Path) -> list[int]:
    return [int(path.name) for path in (folder / "visitors").iterdir()]


def has_ended(pid: int) -> bool:
    """Wait for the end of a process, and return whether it came."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended, _, _ = select.select([handle], [], [], 60)
    os.close(handle)
    return bool(ended)


def is_there(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody has asked for its end does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def folder_study(folder: Path):
    write_folder(folder / "data/flat", {part: {"cat": 8, "dog": 8} for part in ("train", "val", "test")}, size=(8, 8))
    arguments = {"folder": "flat", "data_dir": str(folder / "data"), "image_size": 8, "batch_size": 8, "num_workers": 2}
    data = {"class_path": "datamodules.StreamedImageFolder", "init_args": {**arguments, "channels": 1}}
    settings = {"trainer.max_epochs": 1, "model.network.width": 4, "model.network.num_classes": 2, "data": data}
    return write_study(folder, tricks=["label_smoothing"], seeds=1, set=settings)


def voc_study(folder: Path):
    boxes = [("cat", (5, 5, 40, 40)), ("dog", (10, 8, 60, 30))]
    parts = {part: {f"{part}{n}": boxes for n in range(4)} for part in ("train", "val", "test")}
    write_voc(folder / "data/pets", parts)
    arguments = {"folder": "pets", "data_dir": str(folder / "data"), "input_size": 64, "batch_size": 2}
    data = {"class_path": "datamodules.VOCFolder", "init_args": {**arguments, "num_workers": 2}}
    settings = {"trainer.max_epochs": 1, "model.detector.network.num_classes": 2, "data": data}
    changes = {"task": "detection", "base": "digit_scenes", "metric": "test/map", "tricks": ["horizontal_flip"]}
    return write_study(folder, seeds=1, set=settings, **changes)


@pytest.mark.parametrize("make", [plain_study, folder_study, voc_study])
def test_a_study_trains_with_loaders_that_have_processes(tmp_path, make):
    done = run_ablate(tmp_path, "run", make(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    scores = pd.read_csv(tmp_path / "results/small/scores.csv")
    assert scores["status"].tolist() == ["done", "done"], scores["reason"].tolist()


def test_what_loaders_started_has_ended_when_the_study_has(tmp_path):
    done = run_ablate(tmp_path, "run", plain_study(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(visitors(tmp_path)) >= 2 * 3  # two processes for each of three loaders
    assert not [pid for pid in visitors(tmp_path) if is_there(pid)]


def wait_for_visitors(folder: Path, process, count: int) -> list[int]:
    while len(visitors(folder)) < count:
        assert process.returncode is None, "the study ended before its loaders had begun"
    return visitors(folder)


def test_a_training_that_is_killed_takes_the_processes_of_its_loaders_along(tmp_path):
    study = plain_study(tmp_path, stop=True)
    process = command_server().start(tmp_path, "run", study, "--jobs", 1, "--rows", "0")
    loading = wait_for_visitors(tmp_path, process, 2)
    training = int(Path(f"/proc/{loading[0]}/stat").read_text().rpartition(")")[2].split()[1])  # its parent
    os.kill(training, signal.SIGKILL)
    process.finish()
    assert process.returncode == 1
    assert not [pid for pid in loading if is_there(pid)]
    assert "killed by SIGKILL" in (tmp_path / "results/small/scores.csv").read_text()


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_study_that_is_stopped_leaves_no_process_of_a_loader_behind(tmp_path, sign):
    process = command_server().start(tmp_path, "run", plain_study(tmp_path, stop=True), "--jobs", 1)
    loading = wait_for_visitors(tmp_path, process, 2)
    process.send(sign)
    process.finish()
    assert all(has_ended(pid) for pid in loading)
