import pytest
import torch

from ablations.failures import failure_reason
from lit_modules import DivergedError


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried ..."), "out of memory"),
        (MemoryError(), "out of memory"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (RuntimeError("\nfirst\nsecond"), "RuntimeError: first"),
        (KeyError(), "KeyError"),
        (DivergedError(3, float("nan")), "diverged"),
    ],
)
def test_a_failure_is_told_in_one_line(error, says):
    assert says in failure_reason(error)
    assert "\n" not in failure_reason(error)


def raised(first, second, cause=False):
    """Return an error that was raised while another one was handled."""
    try:
        try:
            raise first
        except type(first) as error:
            if cause:
                raise second from error
            raise second  # noqa: B904 (as libraries do)
    except type(second) as error:
        return error


def test_what_goes_wrong_while_a_trainer_is_taken_down_does_not_hide_why():
    error = raised(AssertionError("no children"), RuntimeError("Please call `iter(combined_loader)` first."))
    assert failure_reason(error) == (
        "AssertionError: no children (then RuntimeError: Please call `iter(combined_loader)` first.)"
    )
    assert failure_reason(raised(DivergedError(3, float("nan")), OSError("closed"))).startswith("The training diverged")


def test_an_error_that_tells_of_another_is_the_reason_itself():
    error = raised(KeyError("x"), ValueError("the column 'x' is missing"), cause=True)
    assert failure_reason(error) == "ValueError: the column 'x' is missing"


class Unreadable(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise ValueError("image 3 cannot be read")


def test_an_error_of_a_process_of_a_data_loader_is_told_by_its_own_words():
    with pytest.raises(ValueError, match="Caught ValueError in DataLoader worker") as error:
        list(torch.utils.data.DataLoader(Unreadable(), num_workers=1))
    assert failure_reason(error.value) == "ValueError: image 3 cannot be read"
