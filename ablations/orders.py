"""The orders in which a Shapley study lets its tricks join, and the sets of tricks that these orders visit."""

import itertools
import math
import random
from collections.abc import Sequence

Order = tuple[str, ...]


def trick_orders(names: Sequence[str], count: int) -> list[Order]:
    """Return `count` different orders of the names, drawn at random; all of them if there are no more.

    The draw is always the same, and fewer orders are the first of more: a study that asks for more keeps its trainings.

    Args:
        names: the tricks, in the study's order.
        count: how many orders, at least 1.
    """
    if math.factorial(len(names)) <= count:
        return list(itertools.permutations(names))
    generator, drawn = random.Random(0), dict[Order, None]()
    while len(drawn) < count:
        drawn[tuple(generator.sample(names, len(names)))] = None
    return list(drawn)


def visited_sets(names: Sequence[str], orders: Sequence[Order]) -> list[Order]:
    """Return the sets of tricks that the orders pass through, each in the study's order: small sets first."""
    place = {name: position for position, name in enumerate(names)}
    visited = {frozenset(order[:length]) for order in orders for length in range(len(names) + 1)}
    positions = sorted(
        (sorted(place[name] for name in subset) for subset in visited), key=lambda item: (len(item), item)
    )
    return [tuple(names[position] for position in item) for item in positions]
