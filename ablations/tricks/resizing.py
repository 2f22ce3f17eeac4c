"""Tricks on the size of the training images."""

from collections.abc import Sequence

from ablations.errors import RecipeError
from ablations.recipe import Recipe, class_name
from ablations.registry import trick


@trick(tasks={"classification", "detection", "retrieval"}, source="arXiv:1612.08242, section 2; arXiv:1902.04103")
def multi_scale_training(
    recipe: Recipe,
    smallest: int = 320,
    largest: int = 608,
    divisor: int = 32,
    every_n_batches: int = 10,
    sizes: Sequence[int] | None = None,
) -> None:
    """Resize the training images to another size every few batches, a multiple of `divisor`.

    All multiples from `smallest` to `largest` come up; or `sizes` alone, if they are given.
    """
    chosen = {"smallest": smallest, "largest": largest} if sizes is None else {"sizes": list(sizes)}
    check_is_only_one("multi_scale_training", recipe)
    check_sizes("multi_scale_training", [smallest, largest] if sizes is None else sizes, divisor)
    recipe.add("trainer.callbacks", "callbacks.MultiScale", **chosen, divisor=divisor, every_n_batches=every_n_batches)


@trick(tasks={"classification"}, source="Howard, 2018, fast.ai's DAWNBench entry; arXiv:2104.00298, section 4")
def progressive_resizing(
    recipe: Recipe, sizes: Sequence[int] = (128, 160, 192), full_size_fraction: float | None = None, divisor: int = 32
) -> None:
    """Train on small images first, on larger ones stage by stage, and on full size at the end."""
    check_is_only_one("progressive_resizing", recipe)
    check_sizes("progressive_resizing", sizes, divisor)
    recipe.add(
        "trainer.callbacks",
        "callbacks.ProgressiveResizing",
        sizes=list(sizes),
        full_size_fraction=full_size_fraction,
        divisor=divisor,
    )


def check_is_only_one(name: str, recipe: Recipe) -> None:
    """Refuse a second callback that chooses the size of the training images.

    Raises:
        RecipeError: the recipe has one.
    """
    there = [class_name(callback) for callback in recipe.get("trainer.callbacks") or []]
    if found := [kind for kind in there if kind in ("MultiScale", "ProgressiveResizing")]:
        raise RecipeError(f"{name}: {found[0]} chooses the size of the training images already. Keep one of them.")


def check_sizes(name: str, sizes: Sequence[int], divisor: int) -> None:
    """Refuse sizes that the callbacks would refuse.

    Raises:
        RecipeError: the sizes are none, do not rise, or are not positive multiples of `divisor`.
    """
    is_rising = list(sizes) == sorted(set(sizes))
    if divisor < 1 or not sizes or not is_rising or any(size < 1 or size % divisor for size in sizes):
        raise RecipeError(
            f"{name}: the sizes are {list(sizes)} and divisor is {divisor}; sizes are positive multiples of the "
            "divisor, in rising order."
        )
