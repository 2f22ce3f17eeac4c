"""A LightningModule of the user's own, whose parts have names of its own, in a study."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import write_study

OWN = '''
from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def points():
    """40 points of two classes."""
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    return points, (points.sum(1) > 0).long()


class Net(L.LightningModule):
    network = "what it is called, and no part of it"

    def __init__(self, lr: float = 0.1, broken: str = "", logs: float = 0.0, named: str = "test/cost"):
        super().__init__()
        self.model, self.lr, self.broken, self.logs, self.named = nn.Linear(3, 2), lr, broken, logs, named

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def test_step(self, batch, batch_idx):
        if self.broken and Path(self.broken).exists():
            raise KeyError("masks")
        self.log("test/right", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())
        self.log(self.named, self.logs)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Bare(Net):
    def __init__(self):
        super().__init__()


class Points(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(*points()), batch_size=8)

    def test_dataloader(self):
        return DataLoader(TensorDataset(*points()), batch_size=40)
'''

SNAPSHOTS = {"add": {"trainer.callbacks": {"class_path": "callbacks.SnapshotEnsemble", "init_args": {"cycles": 2}}}}
FASTER = {"faster": {"set": {"model.lr": 0.5}}}


def own_study(folder: Path, class_path: str = "own.Net", init_args: dict | None = None, **changes) -> Path:
    (folder / "own.py").write_text(OWN)
    trainer = {"max_epochs": 2, "accelerator": "cpu", "limit_val_batches": 0}
    model = {"class_path": class_path, **({"init_args": init_args} if init_args else {})}
    recipe = {"trainer": trainer, "model": model, "data": {"class_path": "own.Points"}}
    (folder / "base.yaml").write_text(yaml.safe_dump(recipe))
    return write_study(
        folder, **{"base": "base.yaml", "metric": "test/right", "plugins": ["own.py"], "set": None, **changes}
    )


def scores_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "results/small/scores.csv", keep_default_na=False)


def weights_of(folder: Path, key: str, seed: int, name: str) -> dict[str, torch.Tensor]:
    (path,) = (folder / f"results/runs/{key}/seed-{seed}/weights").glob(f"{name}*.safetensors")
    return load_file(path)


def test_it_is_scored_as_it_is_with_its_last_weights_and_with_their_average(tmp_path):
    done = run_ablate(tmp_path, "run", own_study(tmp_path, tricks=[FASTER, {"ema": {"decay": 0.5}}]))
    assert done.returncode == 0, done.stdout + done.stderr
    namespace: dict = {}
    exec(OWN, namespace)
    points, targets = namespace["points"]()
    scores = scores_of(tmp_path)
    assert len(scores) == 3 * 2
    for line in scores.itertuples():
        state = weights_of(tmp_path, line.key, line.seed, "ema" if line.row == 2 else "last")
        outputs = points @ state["model.weight"].T + state["model.bias"]
        assert float(line[scores.columns.get_loc("test/right") + 1]) == pytest.approx(
            (outputs.argmax(1) == targets).float().mean().item()
        )


def test_one_without_arguments_plans_and_trains(tmp_path):
    done = run_ablate(tmp_path, "run", own_study(tmp_path, "own.Bare", tricks=[{"ema": {"decay": 0.5}}], seeds=1))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("trick", ["tta_flip", {"snapshots": {"set": {"inference.weights": "snapshots"}, **SNAPSHOTS}}])
def test_what_asks_for_a_part_of_it_is_refused_before_anything_trains(tmp_path, trick):
    done = run_ablate(tmp_path, "run", own_study(tmp_path, tricks=[trick]))
    assert done.returncode == 2
    assert "Net is scored as it is, with its own test_step" in " ".join(done.stderr.split())
    assert not (tmp_path / "results/runs").exists() or not list((tmp_path / "results/runs").iterdir())


def test_a_training_whose_scoring_fails_is_scored_later_without_training_again(tmp_path):
    broken = tmp_path / "broken"
    broken.touch()
    study = own_study(tmp_path, init_args={"broken": str(broken)}, tricks=[FASTER], seeds=1)
    done = run_ablate(tmp_path, "run", study)
    assert done.returncode == 1
    scores = scores_of(tmp_path)
    assert scores["status"].tolist() == ["failed", "failed"]
    assert all(
        scores["reason"].str.contains("it is trained, but scoring it failed (last): KeyError: 'masks'", regex=False)
    )
    curves = {path: path.stat().st_mtime_ns for path in (tmp_path / "results/runs").rglob("metrics.csv")}
    broken.unlink()
    done = run_ablate(tmp_path, "run", study)
    assert done.returncode == 0, done.stdout + done.stderr
    assert scores_of(tmp_path)["status"].tolist() == ["done", "done"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "results/runs").rglob("metrics.csv")} == curves


@pytest.mark.parametrize(
    ("metric", "named", "value", "reason"),
    [
        ("test/right", "test/loss", ".inf", "it is trained, but scoring it failed (last): test/loss is inf"),
        ("test/right", "test/loss_box", ".nan", "it is trained, but scoring it failed (last): test/loss_box is nan"),
        ("test/cost", "test/cost", ".nan", "test/cost is nan"),
        ("test/cost", "test/cost", ".inf", "test/cost is inf"),
        ("test/wrong", "test/cost", "0.0", "its test logged no 'test/wrong'; there are: test/cost, test/right"),
    ],
)
def test_a_score_that_is_no_number_is_a_failure(tmp_path, metric, named, value, reason):
    logged = {"model.logs": yaml.safe_load(value), "model.named": named}
    done = run_ablate(tmp_path, "run", own_study(tmp_path, metric=metric, tricks=[FASTER], seeds=1, set=logged))
    assert done.returncode == 1, done.stdout + done.stderr
    assert scores_of(tmp_path)["status"].tolist() == ["failed", "failed"]
    assert scores_of(tmp_path)["reason"].tolist() == [reason, reason]


@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_another_metric_may_have_nothing_to_measure(tmp_path, value):
    logged = {"model.logs": yaml.safe_load(value), "model.named": "test/false_positives"}
    done = run_ablate(tmp_path, "run", own_study(tmp_path, tricks=[FASTER], seeds=1, set=logged))
    assert done.returncode == 0, done.stdout + done.stderr
    assert scores_of(tmp_path)["status"].tolist() == ["done", "done"]


def test_weights_that_are_no_numbers_are_a_failure(tmp_path):
    study = own_study(tmp_path, tricks=[FASTER], seeds=1, set={"trainer.max_epochs": 1, "trainer.max_steps": 1})
    (tmp_path / "own.py").write_text(OWN.replace("lr=self.lr", "lr=float('inf')"))
    done = run_ablate(tmp_path, "run", study)
    assert done.returncode == 1
    assert (
        scores_of(tmp_path)["reason"].tolist() == ["the training diverged: at its end model.weight is not finite"] * 2
    )


def test_a_result_without_its_store_keeps_its_lines_when_fewer_seeds_are_asked_for(tmp_path):
    study = own_study(tmp_path, tricks=[FASTER], seeds=3)
    assert run_ablate(tmp_path, "run", study).returncode == 0
    before = scores_of(tmp_path)
    shutil.rmtree(tmp_path / "results/runs")
    done = run_ablate(tmp_path, "run", study, "--seeds", 1)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trainings" in done.stderr
    pd.testing.assert_frame_equal(scores_of(tmp_path), before)
    assert "- Seeds: 3 (0, 1, 2)" in (tmp_path / "results/small/table.md").read_text()


def test_finished_lines_of_another_code_go_with_replace_alone_and_are_kept_beside(tmp_path):
    study = own_study(tmp_path, tricks=[FASTER], seeds=2)
    assert run_ablate(tmp_path, "run", study).returncode == 0
    files = {
        name: (tmp_path / "results/small" / name).read_bytes() for name in ("scores.csv", "study.json", "table.md")
    }
    (tmp_path / "own.py").write_text(OWN.replace("> 0).long()", "> 0.5).long()"))
    done = run_ablate(tmp_path, "run", study, "--seeds", 1)
    assert done.returncode == 2
    assert "4 finished score(s) that do not belong to what 'base', '+ faster' would train now" in " ".join(
        done.stderr.split()
    )
    assert {name: (tmp_path / "results/small" / name).read_bytes() for name in files} == files
    done = run_ablate(tmp_path, "run", study, "--seeds", 1, "--replace")
    assert done.returncode == 0, done.stderr
    assert len(scores_of(tmp_path)) == 2
    assert {name: (tmp_path / "results/small/replaced/1" / name).read_bytes() for name in files} == files
