"""Scenes of handwritten digits, made from what scikit-learn ships: a detection data set without any download."""

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from datamodules.detection.annotations import AnnotatedImages
from datamodules.detection.detection_data import DetectionDataModule

_ATTEMPTS = 20  # to find a free place for a digit
_SHARES = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}  # of the 1,797 digits: no part shares one


class DigitScenes(DetectionDataModule):
    """Several digits each at random scales and places on a cluttered canvas, with exact boxes.

    A scene holds any number of digits up to ``most_digits``, none included. Digits have random colours and never
    overlap; a box holds exactly the pixels with ink. The clutter is made of smooth blotches and strokes. No handwritten
    digit of one part occurs in another.

    Args:
        train_scenes: Number of training images.
        val_scenes: Number of validation images.
        test_scenes: Number of test images.
        most_digits: The most digits of a scene.
        smallest_digit: Smallest side of a digit's square, in pixels.
        largest_digit: Largest side, in pixels.
        scene_seed: Of the scenes.
        input_size: Side of the scenes in pixels, a multiple of 32.

    All others are those of `DetectionDataModule`.

    Raises:
        ValueError: If an argument is out of range.
    """

    class_names = tuple("0123456789")

    def __init__(
        self,
        train_scenes: int = 400,
        val_scenes: int = 100,
        test_scenes: int = 200,
        most_digits: int = 5,
        smallest_digit: int = 12,
        largest_digit: int = 36,
        scene_seed: int = 0,
        input_size: int = 96,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        transforms: Sequence[nn.Module] = (),
        num_workers: int = 0,
        mixes: Sequence[nn.Module] = (),
        mix_off_epochs: int = 0,
        normalize: bool = False,
    ) -> None:
        super().__init__(
            input_size,
            False,
            batch_size,
            eval_batch_size,
            transforms,
            True,
            num_workers,
            0.0,
            0,
            mixes,
            mix_off_epochs,
            normalize,
        )
        self.scenes = {"train": train_scenes, "val": val_scenes, "test": test_scenes}
        problems = [f"{name}_scenes={count} must be at least 1" for name, count in self.scenes.items() if count < 1]
        if most_digits < 1:
            problems.append(f"most_digits={most_digits} must be at least 1")
        if not 8 <= smallest_digit <= largest_digit <= input_size:
            problems.append(
                f"smallest_digit={smallest_digit} and largest_digit={largest_digit} must be in order, and from 8 to "
                f"input_size={input_size}"
            )
        if not 0 <= scene_seed < 2**32:
            problems.append(f"scene_seed={scene_seed} must be from 0 to {2**32 - 1}")
        if problems:
            raise ValueError(f"DigitScenes: {'; '.join(problems)}.")
        self.most_digits = most_digits
        self.smallest_digit = smallest_digit
        self.largest_digit = largest_digit
        self.scene_seed = scene_seed

    def read_parts(self) -> dict[str, AnnotatedImages]:
        # RandomState, because numpy promises that its numbers will never change.
        random = np.random.RandomState(self.scene_seed)
        ink, labels = load_digits(return_X_y=True)
        order = random.permutation(len(labels))
        parts = {}
        for name, count in self.scenes.items():
            first, last = (round(share * len(order)) for share in _SHARES[name])
            chosen = order[first:last]
            parts[name] = self._make_part(random, count, ink[chosen].reshape(-1, 8, 8) / 16, labels[chosen])
        return parts

    def _make_part(
        self, random: np.random.RandomState, count: int, ink: np.ndarray, labels: np.ndarray
    ) -> AnnotatedImages:
        images = torch.empty(count, 3, self.input_size, self.input_size, dtype=torch.uint8)
        boxes: list[list[int]] = []
        classes: list[int] = []
        starts = [0]
        for index in range(count):
            canvas = _draw_clutter(random, self.input_size)
            taken: list[list[int]] = []
            for _ in range(random.randint(self.most_digits + 1)):
                digit = random.randint(len(labels))
                side = random.randint(self.smallest_digit, self.largest_digit + 1)
                box = self._place(random, canvas, _enlarge(ink[digit], side), taken)
                if box is not None:
                    taken.append(box)
                    classes.append(int(labels[digit]))
            boxes += taken
            starts.append(len(boxes))
            images[index] = torch.from_numpy(np.rint(canvas * 255).astype(np.uint8))
        flags = torch.zeros(len(boxes), dtype=torch.bool)
        corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        return AnnotatedImages(
            images, corners, torch.tensor(classes, dtype=torch.int64), flags, flags.clone(), torch.tensor(starts)
        )

    def _place(
        self, random: np.random.RandomState, canvas: np.ndarray, ink: np.ndarray, taken: list[list[int]]
    ) -> list[int] | None:
        """Draw a digit where it overlaps none, and return its box; None if no such place was found."""
        rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        height, width = ink.shape
        for _ in range(_ATTEMPTS):
            left, top = random.randint(self.input_size - width + 1), random.randint(self.input_size - height + 1)
            right, bottom = left + width, top + height
            if all(right <= x0 or x1 <= left or bottom <= y0 or y1 <= top for x0, y0, x1, y1 in taken):
                place = canvas[:, top:bottom, left:right]
                place += ink * (random.uniform(0.75, 1, (3, 1, 1)) - place)
                return [left, top, right, bottom]
        return None


def _enlarge(ink: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a square by repeating its pixels."""
    nearest = np.arange(side) * len(ink) // side
    return ink[nearest][:, nearest]


def _draw_clutter(random: np.random.RandomState, size: int) -> np.ndarray:
    """Make a dark canvas ``(3, size, size)`` in [0, 0.6] of blotches, strokes and grain."""
    blotches = random.uniform(0, 0.35, (3, size // 16, size // 16)).repeat(16, 1).repeat(16, 2)
    canvas = blotches + random.uniform(0, 0.05, (3, size, size))
    for _ in range(random.randint(3, 8)):
        start, end = random.uniform(0, size, 2), random.uniform(0, size, 2)
        steps = np.linspace(0, 1, 2 * size)[:, None]
        columns, rows = np.minimum(start + steps * (end - start), size - 1).astype(int).T
        canvas[:, rows, columns] = random.uniform(0, 0.6, (3, 1))
    return canvas
