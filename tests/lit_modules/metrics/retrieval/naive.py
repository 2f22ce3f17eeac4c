"""Rankings by loops over Python numbers."""

import math


def rank_gallery(distances: list[float], right: list[bool], left_out: list[bool]) -> list[bool]:
    """Return whether each ranked entry is right, nearest first; a wrong one before a right one at the same distance."""
    entries = [
        (distance, is_right) for distance, is_right, out in zip(distances, right, left_out, strict=True) if not out
    ]
    return [is_right for _, is_right in sorted(entries)]  # False is before True


def score(rankings: list[list[bool]], max_rank: int) -> dict[str, object]:
    """Score what `rank_gallery` returned for each query."""
    matched = [ranking for ranking in rankings if any(ranking)]
    precisions, penalties, hits = [], [], [0] * max_rank
    for ranking in matched:
        found, seen = 0, []
        for place, is_right in enumerate(ranking, 1):
            if is_right:
                found += 1
                seen.append(found / place)
                last = place
        precisions.append(sum(seen) / len(seen))
        penalties.append(found / last)
        for k in range(max_rank):
            hits[k] += any(ranking[: k + 1])
    return {
        "cmc": [count / len(matched) for count in hits],
        "map": sum(precisions) / len(matched),
        "minp": sum(penalties) / len(matched),
        "queries": len(matched),
        "unmatched": len(rankings) - len(matched),
    }


def squared(one: list[float], other: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def re_rank(images: list[list[float]], queries: int, k1: int, k2: int, weight: float) -> list[list[float]]:
    """Re-rank step by step as in arXiv:1701.08398, with sets; the queries come first."""
    whole = re_rank_all(images, k1, k2, weight)
    return [row[queries:] for row in whole[:queries]]


def re_rank_all(images: list[list[float]], k1: int, k2: int, weight: float) -> list[list[float]]:
    """Re-rank all images for each."""
    count = len(images)
    distances = [[squared(one, other) for other in images] for one in images]
    scaled = [[distance / (max(row) or 1) for distance in row] for row in distances]
    order = [sorted(range(count), key=lambda j, i=i: (j != i, distances[i][j], j)) for i in range(count)]

    def near(i: int, k: int) -> list[int]:  # N(i, k), and the image itself
        return order[i][: k + 1]

    def reciprocal(i: int, k: int) -> set[int]:  # R(i, k), equation 3
        return {j for j in near(i, k) if i in near(j, k)}

    sets = []
    for i in range(count):  # equation 5
        expanded = set(reciprocal(i, k1))
        for j in reciprocal(i, k1):
            others = reciprocal(j, round(k1 / 2))
            if 3 * len(reciprocal(i, k1) & others) > 2 * len(others):
                expanded |= others
        sets.append(expanded)
    vectors = []
    for i in range(count):  # equation 7, made to add up to 1
        weights = [math.exp(-scaled[i][j]) if j in sets[i] else 0.0 for j in range(count)]
        vectors.append([value / sum(weights) for value in weights])
    means = [
        [sum(vectors[j][m] for j in order[i][:k2]) / k2 for m in range(count)] for i in range(count)
    ]  # equation 11
    final = []
    for i in range(count):
        row = []
        for j in range(count):  # equations 10 and 12
            both = sum(min(a, b) for a, b in zip(means[i], means[j], strict=True))
            either = sum(max(a, b) for a, b in zip(means[i], means[j], strict=True))
            row.append((1 - weight) * (1 - both / either) + weight * scaled[i][j])
        final.append(row)
    return final
