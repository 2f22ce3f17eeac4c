"""What several processes cost, and what it costs to submit to Slurm."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.executors import Finished, run_local
from ablations.executors.slurm_cluster import SlurmOptions
from ablations.executors.slurm_submissions import Submissions
from ablations.plan import Training
from ablations.planner import load_plan
from ablations.store import RunFolder, RunStore
from tests.benchmarks.images import write_jpegs
from tests.benchmarks.report import Figure, median_ratio, seconds
from tests.cluster.real_slurm import real_slurm
from tests.helpers.recipes import write_study

TASKS = 1000
IMAGES = 20 * 128


def ddp() -> Figure:
    """Images a second of two processes, each with half of the batch, against one process with two threads."""
    with tempfile.TemporaryDirectory() as name:
        write_jpegs(Path(name) / "images", IMAGES, 32, 32)
        return _ddp(Path(name))


def _ddp(root: Path) -> Figure:
    resnet20 = {
        "num_classes": 10,
        "in_channels": 3,
        "layers": [3, 3, 3],
        "block": "basic",
        "width": 16,
        "stem": "small",
    }
    images = {"folder": str(root / "images"), "image_size": 32, "val_size": 20, "transforms": []}

    def images_per_second(batch_size: int, **trainer: Any) -> float:
        settings: dict[str, Any] = {
            "model.network": {"class_path": "lit_modules.models.ResNet", "init_args": resnet20},
            "data": {
                "class_path": "datamodules.InMemoryImageFolder",
                "init_args": {**images, "batch_size": batch_size},
            },
            "trainer.max_epochs": 2,
            "trainer.check_val_every_n_epoch": 2,
            **{f"trainer.{key}": value for key, value in trainer.items()},
        }
        with tempfile.TemporaryDirectory(dir=root) as folder:
            study = write_study(Path(folder), seeds=1, tricks=["cosine_schedule"], set=settings)
            training = load_plan(study).trainings(RunStore(Path(folder) / "runs"))[0]
            (reason,) = (event.reason for event in run_local([training], jobs=1) if isinstance(event, Finished))
            result = RunFolder(training.folder).result()
            assert result is not None, reason
            return float(result["images_per_second"])

    ratio = median_ratio(
        lambda: images_per_second(64, devices=2, strategy="ddp"),
        lambda: images_per_second(128),
        pairs=3,
    )
    return Figure("images/s of 2 processes x 64 / 1 process x 128 with 2 threads", ratio, 0.85, at_most=False)


def submitting() -> list[Figure]:
    """Time to submit the trainings of a study to a real Slurm, which starts none of them; nothing without Slurm."""
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        return []
    with tempfile.TemporaryDirectory() as name, real_slurm(Path(name)):
        subprocess.run(["scontrol", "update", "PartitionName=main", "State=DOWN"], check=True)
        study = write_study(Path(name), seeds=1)
        training = load_plan(study).trainings(RunStore(Path(name) / "runs"))[0]
        trainings: list[Training] = [
            replace(training, seed=seed, folder=RunStore(Path(name) / "runs").folder(training.key, seed).path)
            for seed in range(TASKS)
        ]
        submissions = Submissions(RunStore(Path(name) / "runs"))
        taken = seconds(lambda: submissions.submit("small", trainings, [0] * TASKS, SlurmOptions()))
    return [Figure(f"submitting {TASKS:,} trainings to Slurm, s", taken, 30, at_most=True)]
