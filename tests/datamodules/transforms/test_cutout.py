import pytest
import torch

from datamodules.transforms import BatchCutout


def test_a_square_around_a_random_pixel_is_overwritten_as_in_a_loop() -> None:
    images = torch.rand(200, 3, 9, 12)
    torch.manual_seed(0)
    cut = BatchCutout(size=4, value=0.5)(images)
    torch.manual_seed(0)
    rows, columns = torch.randint(9, (200,)).tolist(), torch.randint(12, (200,)).tolist()
    expected = images.clone()
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        expected[n, :, max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0.5
    assert torch.equal(cut, expected)


def test_every_pixel_is_a_centre_equally_often() -> None:
    torch.manual_seed(0)
    cut = BatchCutout(size=1)(torch.ones(12_000, 1, 3, 4))
    counts = (cut == 0.5).sum((0, 1))
    assert counts.sum() == 12_000
    assert (counts - 1000).abs().max() < 152  # five standard deviations


def test_the_share_of_area_is_what_is_left_of_the_square_inside_the_image() -> None:
    torch.manual_seed(0)
    shares = (BatchCutout(size=16)(torch.ones(4000, 1, 32, 32)) == 0.5).float().mean((1, 2, 3))
    # Along one side: 16 pixels where the centre is 8 or more from both ends, else less.
    sides = [min(centre + 8, 32) - max(centre - 8, 0) for centre in range(32)]
    expected = (sum(sides) / 32 / 32) ** 2
    assert shares.max() == 0.25 and shares.min() == (8 / 32) ** 2
    assert abs(shares.mean() - expected) < 5 * shares.std() / 4000**0.5


def test_a_square_larger_than_the_image_can_cover_it() -> None:
    assert (BatchCutout(size=40)(torch.ones(50, 1, 8, 8)) == 0.5).all()


def test_a_square_without_a_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"size=0\).*at least 1 pixel"):
        BatchCutout(size=0)
