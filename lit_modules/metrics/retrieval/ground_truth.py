"""Which gallery entries are right for a query, and which do not take part in its ranking."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

JUNK = -1
"""Identity of gallery entries that no ranking holds: in Market-1501, detections that show a part of a person."""

UNKNOWN_CAMERA = -1


@dataclass(frozen=True)
class GroundTruth:
    """Identities and cameras of queries and gallery, with the rules of Market-1501 (Zheng et al. 2015, section 3.2).

    An entry of the query's identity is right, any other is wrong, distractors (identity 0) included. What is left out
    of a query's ranking, neither right nor wrong: junk (identity -1); entries of the query's own identity from the
    query's own camera, if cameras are known; and the query itself, if it is in the gallery.

    Args:
        query_identities: ``(Q,)``.
        gallery_identities: ``(G,)``.
        query_cameras: ``(Q,)``; None or -1 is unknown.
        gallery_cameras: ``(G,)``, likewise.
        own_places: Place of each query in the gallery, ``(Q,)``; -1 or None if it is not there.

    Raises:
        ValueError: If lengths differ, or only one side has cameras.
    """

    query_identities: Tensor
    gallery_identities: Tensor
    query_cameras: Tensor | None = None
    gallery_cameras: Tensor | None = None
    own_places: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.query_cameras is None) != (self.gallery_cameras is None):
            raise ValueError("cameras of queries and of the gallery must both be given, or neither.")
        queries, entries = len(self.query_identities), len(self.gallery_identities)
        for name, values, count in (
            ("query_cameras", self.query_cameras, queries),
            ("gallery_cameras", self.gallery_cameras, entries),
            ("own_places", self.own_places, queries),
        ):
            if values is not None and values.shape != (count,):
                raise ValueError(f"{name} has the shape {tuple(values.shape)}, but there are {count} identities.")

    def of_queries(self, queries: Tensor) -> "GroundTruth":
        """Return the same for some of the queries, ``(q,)``."""

        def take(values: Tensor | None) -> Tensor | None:
            return None if values is None else values[queries]

        return replace(
            self,
            query_identities=self.query_identities[queries],
            query_cameras=take(self.query_cameras),
            own_places=take(self.own_places),
        )

    def judge(self, rows: slice) -> tuple[Tensor, Tensor]:
        """Judge the gallery for some queries.

        Args:
            rows: Which queries, q in number.

        Returns:
            Which entries are right and which are left out, each ``(q, G)`` bool. None is both.
        """
        identities = self.query_identities[rows, None]
        same = identities == self.gallery_identities
        left_out = (self.gallery_identities == JUNK).expand_as(same).clone()
        if self.query_cameras is not None and self.gallery_cameras is not None:
            cameras = self.query_cameras[rows, None]
            left_out |= same & (cameras == self.gallery_cameras) & (cameras != UNKNOWN_CAMERA)
        if self.own_places is not None:
            left_out |= self.own_places[rows, None] == torch.arange(same.shape[1], device=same.device)
        return same & ~left_out, left_out
