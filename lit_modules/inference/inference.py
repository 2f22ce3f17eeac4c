"""How a trained network is scored: which weights, over which views. Never part of what is trained."""

from dataclasses import dataclass
from typing import Literal

from lit_modules.inference.crop_classifier import CropClassifier
from lit_modules.inference.ensembles import Ensemble
from lit_modules.inference.merging import BoxMerging
from lit_modules.inference.ranking import QueryExpansion, ReRanking
from lit_modules.inference.views import Views
from lit_modules.metrics.retrieval import Distance


@dataclass(frozen=True)
class Inference:
    """One way of scoring a trained network.

    Example::

        module.inference = Inference(views=HorizontalFlipViews())
        trainer.test(module, datamodule=data)

    Args:
        weights: Which weights to score: ``"last"`` are those at the end of the training; others, such as ``"ema"``,
            are those that a callback kept. Whoever loads the weights reads this; a module scores those that it holds.
        views: The views whose predictions are averaged. None is one plain pass.
        ensemble: How the network is combined with others. Whoever has their outputs reads this; a module alone does
            not. None scores the network by itself.
        merging: How the boxes that a detector finds in several views become one list. None is `FusedBoxes` as it
            stands.
        classifier: What classifies the boxes of a detector again. None leaves its classes as they are.
    """

    weights: str = "last"
    views: Views | None = None
    ensemble: Ensemble | None = None
    merging: BoxMerging | None = None
    classifier: CropClassifier | None = None
    feature: Literal["before", "after"] | None = None
    distance: Distance | None = None
    re_ranking: ReRanking | None = None
    query_expansion: QueryExpansion | None = None
