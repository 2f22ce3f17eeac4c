"""The package as it installs elsewhere: the wheel with what it depends on and nothing else."""

import zipfile
from pathlib import Path

import pytest

from tests.helpers.plain_install import ROOT, PlainInstall, build_wheel
from tests.helpers.recipes import write_study

ONE_EPOCH = {"trainer.max_epochs": 1, "trainer.check_val_every_n_epoch": 1}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def plain(wheel, tmp_path_factory) -> PlainInstall:
    return PlainInstall(tmp_path_factory.mktemp("plain") / "environment", wheel)


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder of a user who has packages with the names of ours."""
    for name in ("callbacks", "datamodules"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('this is the package of the user')\n")
    return tmp_path


def test_the_wheel_holds_the_yaml_files_and_the_command(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*(ROOT / "ablations").rglob("*.yaml"), *(ROOT / "ablations").rglob("*.py")]:
        assert str(path.relative_to(ROOT)) in names
    assert not [name for name in names if name.startswith(("tests/", "results/"))]


def test_a_plain_install_has_no_extra(plain):
    assert {"torch", "lightning", "wandb"} <= plain.distributions
    assert not {"timm", "submitit", "pytest", "pytorch-metric-learning"} & plain.distributions


def test_the_installed_command_knows_tricks_and_studies(plain, project):
    assert "label_smoothing" in plain.run(project, "tricks").stdout
    done = plain.run(project, "plan", "digits")
    assert "8 rows x 10 seeds" in done.stdout, done.stderr
    assert str(ROOT) not in done.stdout


@pytest.mark.parametrize(
    ("base", "task", "metric", "trick"),
    [
        ("digits", "classification", "test/accuracy", "label_smoothing"),
        ("digit_scenes", "detection", "test/map", "horizontal_flip"),
        ("digits_retrieval", "retrieval", "test/map", "label_smoothing"),
    ],
)
def test_a_plain_install_trains_the_bases_that_need_no_data(plain, project, base, task, metric, trick):
    study = write_study(project, base=base, task=task, metric=metric, tricks=[trick], seeds=1, set=ONE_EPOCH)
    done = plain.run(project, "run", study)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no result" not in done.stdout


def test_a_missing_library_is_named_before_anything_trains(wheel, project, tmp_path_factory):
    """What torchmetrics needs for boxes, and says in an ImportError when a metric is made."""
    lacking = PlainInstall(tmp_path_factory.mktemp("lacking") / "environment", wheel, without=("faster-coco-eval",))
    detection = {"base": "digit_scenes", "task": "detection", "metric": "test/map", "tricks": ["horizontal_flip"]}
    study = write_study(project, set=ONE_EPOCH, **detection)
    for command in (["run", study], ["check", "digit_scenes"]):
        done = lacking.run(project, *command)
        said = " ".join(done.stderr.split())
        assert done.returncode == 2, said
        assert "model.metric: lit_modules.metrics.COCOAveragePrecision" in said, said
        assert "faster-coco-eval" in said or "faster_coco_eval" in said, said
        assert "Namespace" not in said
    assert not list((project / "results").rglob("seed-*"))
