"""`ablate check`, as a user runs it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ablations import commands
from ablations.check import DIAGNOSTICS, Finding, find_recipe
from ablations.cli import main
from ablations.errors import StudyError
from tests.helpers.command_server import run_ablate
from tests.helpers.recipes import digits_recipe

QUICK = ["--set", "trainer.max_epochs=10"]


def test_a_recipe_in_order_is_said_to_be_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run_ablate(tmp_path, "check", "digits", *QUICK)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split(":")[0] for line in lines] == [f"ok         {look.name}" for look in DIAGNOSTICS]
    assert "ok         loss at the start: 2.207, a guess among 10 classes has ln 10 = 2.303" in lines
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_that_needs_a_look_says_what_to_do_and_exits_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(digits_recipe(model__network__num_classes=7)))
    monkeypatch.setattr(commands.out, "_file", None)  # rich binds its stream when it is made
    assert main(["check", str(path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (place,) = (number for number, line in enumerate(lines) if line.startswith("look here"))
    assert lines[place].startswith("look here  values of the images: stopped by ValueError: LitClassifier: the network")
    assert lines[place + 1].startswith("           The training would stop there too.")


def findings(*verdicts: Any) -> Any:
    return lambda config: iter([Finding("luck", verdict, "[seven] clovers", "") for verdict in verdicts])


@pytest.mark.parametrize(
    ("verdicts", "code"), [(["ok", "ok"], 0), (["ok", "not run"], 0), (["ok", "look here", "ok"], 1)]
)
def test_the_exit_code_says_whether_something_needs_a_look(
    verdicts: list[Any], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("ablations.check.check", findings(*verdicts))
    monkeypatch.setattr(commands.out, "_file", None)
    assert main(["check", "digits"]) == code
    assert capsys.readouterr().out == "".join(f"{verdict:<10} luck: [seven] clovers\n" for verdict in verdicts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digit"], "There is no recipe 'digit': neither a file of that name nor a base that comes along"),
        (["digits", "--set", "model.optimizer.lrr=1"], "Did you mean 'lr'?"),
        (["digits", "--set", "data.labels_per_class=500"], "labels_per_class=500 must be from 1 to 54"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_exits_with_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(commands.err, "_file", None)
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_goes_before_a_base_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("digits").name == "digits.yaml"
    (tmp_path / "digits").write_text("model: {}")
    assert find_recipe("digits") == Path("digits")


def test_a_recipe_that_does_not_exist_is_refused_with_the_nearest_base() -> None:
    with pytest.raises(StudyError, match=r"There is no recipe 'digts.yaml'.*\(.*digits.*\)\. Did you mean 'digits'\?"):
        find_recipe("digts.yaml")
