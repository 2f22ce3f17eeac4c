import numpy as np
import pytest
import torch

from datamodules.transforms import BatchPCALighting, principal_colors
from datamodules.transforms.lighting import IMAGENET_EIGENVALUES, IMAGENET_EIGENVECTORS


def grey_in_the_middle(count: int, channels: int = 3) -> torch.Tensor:
    return torch.full((count, channels, 2, 2), 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_principal_colors_are_those_of_the_covariance(channels: int) -> None:
    torch.manual_seed(0)
    images = (torch.rand(1500, channels, 3, 4).cumsum(1) * 80).to(torch.uint8)
    values, vectors = principal_colors(images)
    pixels = images.transpose(0, 1).flatten(1).double().numpy() / 255
    expected = np.atleast_2d(np.cov(pixels, ddof=0))
    assert np.allclose(vectors * values @ vectors.T, expected)
    assert np.allclose(vectors.T @ vectors, np.eye(channels))
    assert (values.diff() <= 0).all()


def test_imagenets_eigenvectors_are_orthonormal() -> None:
    vectors = torch.tensor(IMAGENET_EIGENVECTORS)
    assert torch.allclose(vectors.T @ vectors, torch.eye(3), atol=1e-3)


def test_shifts_have_the_covariance_that_the_eigenvectors_say() -> None:
    torch.manual_seed(0)
    images = grey_in_the_middle(40_000)
    shifts = (BatchPCALighting(sd=0.1)(images) - images)[:, :, 0, 0]
    vectors, values = torch.tensor(IMAGENET_EIGENVECTORS), torch.tensor(IMAGENET_EIGENVALUES)
    expected = vectors @ torch.diag((0.1 * values) ** 2) @ vectors.T
    assert shifts.mean(0).abs().max() < 5 * 0.013 / 200  # five standard errors; 0.013 is the sd of a channel
    assert torch.allclose(shifts.T.cov(), expected, atol=5 * expected.max().item() * (2 / 40_000) ** 0.5)


def test_each_image_is_shifted_as_in_a_loop() -> None:
    values, vectors = [0.2, 0.05], [[0.6, 0.8], [0.8, -0.6]]
    images = 0.4 + 0.2 * torch.rand(5, 2, 3, 3)
    torch.manual_seed(0)
    lit = BatchPCALighting(0.1, values, vectors)(images)
    torch.manual_seed(0)
    draws = (torch.randn(5, 2) * 0.1).tolist()
    for n in range(5):
        for c in range(2):
            shift = sum(vectors[c][k] * values[k] * draws[n][k] for k in range(2))
            assert torch.allclose(lit[n, c], images[n, c] + shift)


def test_all_pixels_of_an_image_move_alike() -> None:
    images = grey_in_the_middle(4)
    shifts = BatchPCALighting()(images) - images
    assert torch.equal(shifts, shifts[:, :, :1, :1].expand_as(shifts))


def test_fit_finds_what_was_not_given_and_keeps_what_was() -> None:
    images = torch.randint(0, 256, (50, 1, 4, 4), dtype=torch.uint8)
    found, given = BatchPCALighting(0.1, None, None), BatchPCALighting(0.1, [1.0], [[0.5]])
    for lighting in (found, given):
        lighting.fit(images)
    assert found.shifts is not None and given.shifts is not None
    assert found.shifts.abs().item() == pytest.approx(np.var(images.numpy() / 255))
    assert given.shifts.item() == 0.5


def test_a_lighting_without_eigenvalues_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no eigenvalues: give them, or call fit"):
        BatchPCALighting(0.1, None, None)(grey_in_the_middle(2))


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"eigenvectors for 3 channels, but the images have 1\. Give those of the data"
    ):
        BatchPCALighting()(grey_in_the_middle(2, channels=1))


def test_all_wrong_arguments_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"sd=-1 .*give both or neither"):
        BatchPCALighting(-1, None, [[1.0]])
    with pytest.raises(ValueError, match=r"2 eigenvalues need 2 eigenvectors of 2 numbers, got \[\[1\.0\]\]"):
        BatchPCALighting(0.1, [1.0, 2.0], [[1.0]])
