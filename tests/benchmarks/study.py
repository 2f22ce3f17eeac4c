"""What the study process costs: planning, tables, memory."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ablations.executors import run_inline
from ablations.plan import Scoring, Training
from ablations.planner import load_plan
from ablations.store import SCORING, RunFolder, RunStore, write_json
from ablations.table import read_table
from tests.benchmarks.report import Figure, median_ratio, seconds
from tests.helpers.command_line import environment, run_ablate
from tests.helpers.recipes import write_study

ROWS, SEEDS = 200, 50


def plan() -> Figure:
    """Wall time of the whole command `ablate plan`, imports included."""
    settings = [
        ("model.loss.label_smoothing", 0.001),
        ("model.optimizer.lr", 0.001),
        ("model.network.dropout", 0.001),
        ("trainer.gradient_clip_val", 0.01),
    ]
    tricks = []
    for number in range(ROWS - 1):
        path, unit = settings[number % len(settings)]
        tricks.append({f"trick_{number:03}": {"set": {path: unit * (number + 1)}, "revises": path}})
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), tricks=tricks, seeds=SEEDS)

        def command() -> None:
            done = run_ablate(Path(folder), "plan", study)
            assert f"{ROWS} rows x {SEEDS} seeds" in done.stdout, done.stderr

        command()
        return Figure(f"ablate plan of {ROWS} rows x {SEEDS} seeds, s", seconds(command), 5, at_most=True)


def table() -> Figure:
    """Wall time of `ablate table` over a store of 10,000 scores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            {
                "index": row,
                "name": f"row {row}",
                "text": "A row.",
                "trick": f"trick_{row}" if row else None,
                "compared_to": row - 1 if row else None,
                "sign": 1,
                "published": None,
                "published_unconfirmed": False,
                "key": f"key{row}",
                "inference": "last",
            }
            for row in range(ROWS)
        ]
        for row in range(ROWS):
            for seed in range(SEEDS):
                run = RunFolder(folder / f"results/runs/key{row}/seed-{seed}")
                (run.path / "scores").mkdir(parents=True)
                score = {
                    "scoring": SCORING,
                    "metrics": {"test/accuracy": (row * 7 + seed * 13) % 100 / 100},
                    "costs": {},
                }
                (run.path / "scores/last.json").write_text(json.dumps(score))
                (run.path / "result.json").write_text(json.dumps({"seconds": 1.0, "parameters": 1}))
        study = {
            "name": "large",
            "task": "classification",
            "mode": "stack",
            "metric": "test/accuracy",
            "scale": 100.0,
            "unit": "%",
            "higher_is_better": True,
            "seeds": list(range(SEEDS)),
            "reference": None,
            "rows": rows,
            "head": {"command": "", "commit": None, "versions": {}, "hardware": "", "date": ""},
        }
        write_json(folder / "results/large/study.json", study)

        def command() -> None:
            done = run_ablate(folder, "table", "large")
            assert done.returncode == 0, done.stderr

        command()
        return Figure(f"{ROWS * SEEDS:,} scores into a table, s", seconds(command), 3, at_most=True)


def scan() -> Figure:
    """Time in which a study sees which of its 10,000 trainings the store holds."""
    with tempfile.TemporaryDirectory() as name:
        scorings = {"last": Scoring("last", {})}
        trainings = [
            Training(f"key{row}", seed, {}, scorings, RunStore(Path(name)).folder(f"key{row}", seed).path)
            for row in range(ROWS)
            for seed in range(SEEDS)
        ]
        for training in trainings:
            (training.folder / "scores").mkdir(parents=True)
            (training.folder / "scores/last.json").write_text(
                json.dumps({"scoring": SCORING, "metrics": {"test/accuracy": 0.5}})
            )
            (training.folder / "result.json").write_text(json.dumps({"seconds": 1.0, "parameters": 1}))
        assert all(training.is_done() for training in trainings)
        taken = seconds(lambda: [training.is_done() for training in trainings])
        return Figure(f"a store of {len(trainings):,} trainings scanned, s", taken, 3, at_most=True)


def statistics() -> Figure:
    """Time of all numbers of a table of 60 rows x 20 seeds, from its files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = ("index", "name", "text", "trick", "compared_to", "sign", "published", "published_unconfirmed")
        rows = [(row, f"row {row}", "", f"trick_{row}", row - 1 if row else None, 1, None, False) for row in range(60)]
        study = {"name": "large", "task": "classification", "mode": "stack", "metric": "test/accuracy", "scale": 100.0}
        study |= {"unit": "%", "higher_is_better": True, "seeds": list(range(20)), "reference": None}
        study |= {"rows": [dict(zip(names, row, strict=True)) for row in rows]}
        study |= {"head": {"command": "", "commit": None, "versions": {}, "hardware": "", "date": ""}}
        write_json(folder / "study.json", study)
        lines = [
            f"{row},x,{seed},done,,k{row},last,{(row * 7 + seed * 13) % 97}" for row in range(60) for seed in range(20)
        ]
        head = "row,name,seed,status,reason,key,inference,test/accuracy"
        (folder / "scores.csv").write_text("\n".join([head, *lines]) + "\n")
        read_table(folder)
        return Figure(
            "numbers of a table of 60 rows x 20 seeds, s", seconds(lambda: read_table(folder)), 2, at_most=True
        )


def post_training() -> Figure:
    """Wall time of the trainings of a study with three rows that train nothing, against the same study without them."""
    trained = ["label_smoothing", "cosine_schedule"]
    free = ["ema", {"tta_crops": {"padding": 1}}, "early_stopping"]
    settings = {"trainer.max_epochs": 80, "trainer.check_val_every_n_epoch": 40, "model.network.width": 16}

    def time_of(tricks: list[Any]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            study = write_study(Path(folder), tricks=tricks, seeds=1, set=settings)
            trainings = load_plan(study).trainings(RunStore(Path(folder) / "runs"))
            return seconds(lambda: list(run_inline(trainings, jobs=1)))

    time_of(["label_smoothing"])
    ratio = median_ratio(lambda: time_of([*trained, *free]), lambda: time_of(trained), pairs=3)
    return Figure("a study with 3 post-training rows / without", ratio, 1.1, at_most=True)


def memory() -> Figure:
    """Peak resident memory of the process of `ablate run`, its workers left out."""
    code = (
        "import sys; from ablations.cli import main; code = main(sys.argv[1:]);"
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]); sys.exit(code)"
    )
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), seeds=4)
        command = [sys.executable, "-c", code, "run", str(study)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment())
    peak = int(done.stdout.split()[-1]) / 1024
    return Figure("peak memory of the study process, MB", peak, 600, at_most=True)
