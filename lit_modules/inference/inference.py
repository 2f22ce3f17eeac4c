"""How a trained network is scored: which weights, over which views. Never part of what is trained."""

from dataclasses import dataclass

from lit_modules.inference.ensembles import Ensemble
from lit_modules.inference.views import Views


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
    """

    weights: str = "last"
    views: Views | None = None
    ensemble: Ensemble | None = None
