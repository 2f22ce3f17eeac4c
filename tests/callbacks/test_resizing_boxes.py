"""Boxes follow the training images to their other sizes."""

import torch

from callbacks.resizing import resize_batch


def test_boxes_are_moved_with_their_images_and_nothing_else_is():
    images = torch.zeros(2, 3, 64, 96)
    images[:, :, 16:32, 24:60] = 1
    targets = {"boxes": torch.tensor([[[24.0, 16, 60, 32]]] * 2), "labels": torch.tensor([[1], [2]])}
    resized, moved = resize_batch((images, targets), 128, 32)
    assert resized.shape[-2:] == (128, 192)
    assert moved["boxes"].tolist() == [[[48, 32, 120, 64]]] * 2
    assert moved["labels"] is targets["labels"]
    assert targets["boxes"][0, 0].tolist() == [24, 16, 60, 32]
    assert resized[0, 0, 32:64, 48:120].mean() > 0.9


def test_sides_may_be_scaled_apart_where_the_divisor_asks_for_it():
    targets = {"boxes": torch.tensor([[[10.0, 10, 20, 20]]])}
    resized, moved = resize_batch((torch.zeros(1, 3, 60, 100), targets), 32, 32)
    assert resized.shape[-2:] == (32, 64)
    assert torch.allclose(moved["boxes"], torch.tensor([[[6.4, 16 / 3, 12.8, 32 / 3]]]))
