"""What several processes cost, and what it costs to submit to Slurm."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablations.executors import run_local
from ablations.executors.slurm_cluster import SlurmOptions
from ablations.executors.slurm_submissions import Submissions
from ablations.plan import Training
from ablations.planner import load_plan
from ablations.store import RunFolder, RunStore
from tests.benchmarks.report import Figure, median_ratio, seconds
from tests.cluster.real_slurm import real_slurm
from tests.helpers.recipes import write_study

TASKS = 1000


def ddp() -> Figure:
    """Images a second of two processes, each with half of the batch, against one process with two threads."""
    settings: dict[str, Any] = {
        "model.network": {
            "class_path": "lit_modules.models.ResNet",
            "init_args": {"num_classes": 10, "in_channels": 1, "layers": [3, 3, 3], "block": "basic", "width": 16,
                          "stem": "small"},
        },
        "trainer.max_epochs": 30,
        "trainer.check_val_every_n_epoch": 30,
    }  # fmt: skip

    def images_per_second(**more: Any) -> float:
        with tempfile.TemporaryDirectory() as folder:
            changed = {**settings, **{name.replace("__", "."): value for name, value in more.items()}}
            study = write_study(Path(folder), seeds=1, set=changed)
            training = load_plan(study).trainings(RunStore(Path(folder) / "runs"))[0]
            for _ in run_local([training], jobs=1):
                pass
            result = RunFolder(training.folder).result()
            assert result is not None
            return float(result["images_per_second"])

    ratio = median_ratio(
        lambda: images_per_second(data__batch_size=64, trainer__devices=2, trainer__strategy="ddp"),
        lambda: images_per_second(data__batch_size=128),
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
