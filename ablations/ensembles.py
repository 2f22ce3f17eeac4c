"""Scores ensembles: combines what finished trainings left in the run store, and tests the result as any network is."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ablations.errors import RecipeError
from ablations.parsing import build, build_inference
from ablations.plan import Scoring, Training
from ablations.scoring import Score, test, write_score
from ablations.store import RunFolder
from ablations.stored_training import StoredMember
from lit_modules import LitRetriever
from lit_modules.inference import Ensemble, FeatureFusion
from lit_modules.models.branch import Branch


def score_ensembles(training: Training) -> None:
    """Score every ensemble of a training that has no score yet."""
    folder = RunFolder(training.folder)
    for name in folder.missing(training.scorings):
        write_score(folder, name, _score(training, training.scorings[name]), training.scorings[name])


def _score(training: Training, scoring: Scoring) -> Score:
    ensemble = build_inference(scoring.section).ensemble
    assert ensemble is not None  # else it would have no members
    members = [StoredMember(training.store, need) for need in scoring.needs(training.seed)]
    parts = build({**training.config(), "inference": {}})
    module: Any = parts.module
    if isinstance(module, LitRetriever):
        module.inference = replace(build_inference(scoring.section), weights="last", views=None, ensemble=None)
        module.network = _RecordedFeatures(_fuse(ensemble, members))
    else:
        module.network = _Recorded(module.outputs.scores(torch.from_numpy(ensemble.combine(members))))
    return replace(test(parts, training.with_pictures), costs=_sum_costs(training, scoring))


class _Recorded(nn.Module):
    """A network that has said already what it says of each test image, in their order."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self._seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self._seen += len(images)
        return self.scores[self._seen - len(images) : self._seen].to(images.device)


class _RecordedFeatures(_Recorded):
    """The same of a network for retrieval, which has said its features."""

    def embed(self, images: Tensor) -> list[Branch]:
        features = self(images)
        return [Branch(features, features, features)]


def _fuse(ensemble: Ensemble, members: list[StoredMember]) -> Tensor:
    """Return the features ``(N, D1 + D2 + ...)`` of all members side by side.

    Raises:
        RecipeError: the ensemble combines something else.
    """
    if not isinstance(ensemble, FeatureFusion):
        raise RecipeError(
            f"inference.ensemble is {type(ensemble).__name__}, which combines probabilities, but a retriever has "
            f"features alone. Use FeatureFusion."
        )
    return torch.from_numpy(ensemble.fuse([member.embeddings() for member in members]))


def _sum_costs(training: Training, scoring: Scoring) -> dict[str, float]:
    """Add up what the members' scores cost: each of them looks at every image."""
    total = {"flops_per_image": 0.0, "seconds": 0.0}
    for need in scoring.needs(training.seed):
        costs = RunFolder(need.folder(training.store)).score_costs(need.inference)
        total = {name: total[name] + costs.get(name, 0.0) for name in total}
    return total
