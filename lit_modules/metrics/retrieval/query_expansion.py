"""Query expansion."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_modules.metrics.retrieval.distances import nearest, squared_distances, to_whole_numbers


def expand_queries(
    query: Tensor,
    gallery: Tensor,
    neighbours: int = 10,
    alpha: float = 0.0,
    own_places: Tensor | None = None,
    chunk_size: int = 256,
) -> Tensor:
    """Replace each query by the mean of itself and its nearest gallery entries.

    All are divided by their norms first. With ``alpha`` 0 it is average query expansion (Chum et al. 2007); above,
    an entry counts as its cosine with the query to the power of ``alpha`` (Radenovic et al. 2018, arXiv:1711.02512,
    section 3.3).

    Args:
        query: Features ``(Q, D)``.
        gallery: Features ``(G, D)``.
        neighbours: How many entries; 0 leaves the query alone. More than G are all.
        alpha: Power of the cosine; what points away from the query counts nothing if it is above 0.
        own_places: Place of each query in the gallery, ``(Q,)``; -1 or None if it is not there. No query is a
            neighbour of its own.
        chunk_size: Queries at a time; it does not change the result.

    Returns:
        Features ``(Q, D)`` of norm 1, in the type of the query's.

    Raises:
        ValueError: If ``neighbours`` or ``alpha`` is negative.
    """
    if neighbours < 0 or alpha < 0:
        raise ValueError(f"neighbours={neighbours} and alpha={alpha} must be at least 0.")
    others = len(gallery) - (own_places is not None)
    count = min(neighbours, others)
    if count == 0:
        return F.normalize(query)
    whole_query, whole_gallery = to_whole_numbers(query, gallery, "cosine")
    directions = F.normalize(gallery.double())
    expanded = []
    for start in range(0, len(query), chunk_size):
        rows = slice(start, start + chunk_size)
        own, distances = F.normalize(query[rows].double()), squared_distances(whole_query[rows], whole_gallery)
        if own_places is not None:
            itself = own_places[rows, None] == torch.arange(len(gallery), device=query.device)
            distances = distances.masked_fill(itself, torch.inf)
        near = directions[nearest(distances, count)]
        weights = (near * own[:, None]).sum(2).clamp(0, 1) ** alpha
        expanded.append(F.normalize(own + (weights[..., None] * near).sum(1)))
    return torch.cat(expanded).to(query.dtype)
