import math

import pytest

from ablations.errors import StudyError
from ablations.study_file import find_study, packaged_studies, read_study
from tests.helpers.recipes import write_study


def problems(path):
    with pytest.raises(StudyError) as error:
        read_study(path)
    return str(error.value)


def test_every_packaged_study_reads():
    assert packaged_studies()
    for name in packaged_studies():
        assert read_study(find_study(name)).name == name


def test_a_study_is_read_as_it_was_written(tmp_path):
    study = read_study(
        write_study(
            tmp_path,
            seeds=[3, 5],
            tricks=["cosine_schedule", {"mixup": {"alpha": 0.5}}, {"wide": {"set": {"model.network.width": 32}}}],
            reference={"source": "a paper", "gains": {"mixup": 0.8}, "unconfirmed": True},
            mode="one-at-a-time",
        )
    )
    assert study.seeds == (3, 5)
    assert [use.name for use in study.tricks] == ["cosine_schedule", "mixup", "wide"]
    assert study.tricks[1].label == "mixup (alpha=0.5)"
    assert study.tricks[2].inline == {"set": {"model.network.width": 32}}
    assert study.reference is not None
    assert (study.reference.gains, study.reference.unconfirmed) == ({"mixup": 0.8}, frozenset({"mixup"}))
    assert study.mode == "one-at-a-time"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sedes": 3}, "unknown key 'sedes'. Did you mean 'seeds'?"),
        ({"metric": None}, "the key 'metric' is missing"),
        ({"seeds": 0}, "'seeds' must be at least 1, not 0"),
        ({"seeds": -2}, "'seeds' must be at least 1, not -2"),
        ({"seeds": [1, 1]}, "'seeds' names a seed twice"),
        ({"seeds": "many"}, "'seeds' must be a number of seeds"),
        ({"seeds": True}, "'seeds' must be a number of seeds"),
        ({"task": "clasification"}, "Did you mean 'classification'?"),
        ({"mode": "stacked"}, "Did you mean 'stack'?"),
        ({"name": "../up"}, "'name' names a folder"),
        ({"tricks": ["mixup", "mixup"]}, "the trick 'mixup' stands twice"),
        ({"tricks": "mixup"}, "'tricks' must be a list, not 'mixup'"),
        ({"tricks": [{"mixup": 3}]}, "the arguments of 'mixup' must be a mapping, not 3"),
        ({"tricks": [["mixup"]]}, "write a trick as its name"),
        ({"tricks": [{"wide": {"set": {"a": 1}, "sett": 2}}]}, "the inline trick 'wide' takes"),
        ({"base": "../../elsewhere/base.yaml"}, "leads out of the study's folders"),
        ({"base": "/etc/passwd"}, "leads out of the study's folders"),
        ({"plugins": ["../x.py"]}, "leads out of the study's folders"),
        ({"plugins": ["tricks.txt"]}, "must be a .py file"),
        ({"reference": {"source": "x", "gains": {"mixpu": 1}}}, "'reference' names 'mixpu'"),
        ({"reference": {"gains": {}}}, "needs a 'source'"),
        ({"reference": {"source": "x", "gains": {"label_smoothing": "much"}}}, "must map tricks to numbers"),
        ({"set": [1]}, "'set' must be a mapping"),
    ],
)
def test_a_wrong_study_is_refused_with_its_reason(tmp_path, changes, says):
    assert says in problems(write_study(tmp_path, **changes))


def test_all_problems_of_a_file_are_told_at_once(tmp_path):
    text = problems(write_study(tmp_path, seeds=0, task="x", mode="y", sedes=1))
    assert text.startswith("4 problems:")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1,", "is not YAML"),
        ("name: a\nname: b\n", "the key 'name' stands twice (line 2, column 1)"),
        ("- 1\n- 2\n", "must hold a mapping of keys to values, not list"),
        ("", "not nothing"),
        ("a: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: \x00", "is not YAML"),
    ],
)
def test_a_file_that_is_no_study_is_refused(tmp_path, text, says):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert says in problems(path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert "cannot be read" in problems(path)


def test_a_number_with_an_exponent_is_a_number(tmp_path):
    path = write_study(tmp_path)
    path.write_text(path.read_text() + "scale: 1e2\n")
    assert read_study(path).scale == 100.0


def test_direction_and_scale_follow_from_the_metric(tmp_path):
    for metric, higher, scale in [
        ("test/accuracy", True, 100.0),
        ("test/loss", False, 1.0),
        ("test/error", False, 100.0),
        ("test/unmatched_queries", False, 1.0),
        ("test/wear", True, 100.0),
    ]:
        study = read_study(write_study(tmp_path, metric=metric))
        assert (study.higher_is_better, study.scale) == (higher, scale), metric


def test_a_study_says_itself_what_its_metrics_name_does_not(tmp_path):
    study = read_study(write_study(tmp_path, metric="test/wear", higher_is_better=False, scale=1))
    assert (study.higher_is_better, study.scale) == (False, 1.0)
    study = read_study(write_study(tmp_path, metric="test/loss", higher_is_better=False, scale=1000))
    assert (study.higher_is_better, study.scale) == (False, 1000.0)


@pytest.mark.parametrize(
    ("metric", "said", "says"),
    [
        (
            "test/loss",
            True,
            "'higher_is_better' is true, but 'test/loss' is better when it is lower. Set it to false, ",
        ),
        ("val/map_50", False, "'higher_is_better' is false, but 'val/map_50' is better when it is higher. Set it to "),
    ],
)
def test_a_study_that_turns_a_known_metric_round_is_refused(tmp_path, metric, said, says):
    assert says in problems(write_study(tmp_path, metric=metric, higher_is_better=said))


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, 0, 0.0, -100, 10**400])
def test_a_scale_that_is_no_finite_number_above_0_is_refused(tmp_path, scale):
    says = f"'scale' must be a finite number above 0, not {scale!r}: with 100 a table shows shares as points, with 1 "
    assert says in problems(write_study(tmp_path, scale=scale))


def test_a_study_that_is_not_there_is_named_with_the_nearest_one():
    with pytest.raises(StudyError, match="Did you mean 'digits'"):
        find_study("digit")
    with pytest.raises(StudyError, match=r"study digit.yaml does not exist. Did you mean 'digits'"):
        find_study("digit.yaml")
