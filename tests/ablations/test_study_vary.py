"""The key `vary` of a study file."""

import pytest

from ablations.errors import StudyError
from ablations.study_file import read_study
from tests.helpers.recipes import write_study


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({}, ("init", "order")),
        ({"vary": ["order", "init"]}, ("init", "order")),
        ({"vary": ["init", "order", "split"]}, ("init", "order", "split")),
    ],
)
def test_a_study_says_what_differs_from_seed_to_seed(tmp_path, written, read):
    assert read_study(write_study(tmp_path, **written)).vary == read


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        (["init", "order", "splits"], "'vary' holds 'splits'; it can name init, order, split. Did you mean 'split'?"),
        (["split"], "'vary' must name init and order, which differ from seed to seed anyway, not ['split']"),
        ([["init"], "order"], "'vary' holds ['init']; it can name init, order, split."),
        ("split", "'vary' must be a list, not 'split'"),
    ],
)
def test_what_cannot_vary_is_refused(tmp_path, vary, says):
    with pytest.raises(StudyError) as error:
        read_study(write_study(tmp_path, vary=vary))
    assert says in str(error.value)
