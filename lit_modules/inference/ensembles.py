"""Combining what several trained networks say; nothing is trained but a second-level learner.

A member's outputs are arrays that are there already, or that its stored weights give: an ensemble costs no training of
a network. Second-level learners never see an image that is scored: stacking learns from the validation images, which no
member was trained on, and feature fusion from the training images.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
SMALLEST = 1e-12
"""Probabilities below are raised to this before their logarithm is taken."""


class Member(Protocol):
    """A trained network, by what it says of the ``"train"``, ``"val"`` and ``"test"`` images, without augmentation."""

    def probabilities(self, part: str) -> Array:
        """Return class probabilities ``(N, K)``."""

    def features(self, part: str) -> Array:
        """Return what the last linear layer is given, ``(N, D)``."""

    def targets(self, part: str) -> NDArray[np.integer]:
        """Return class labels ``(N,)``."""


class Ensemble(ABC):
    """Base of the ways to combine networks that were trained apart.

    Args:
        members: Further networks beside the one that is trained here, by reference: ``row:NAME`` in a study, a trick
            or a row of it.
        seeds: Take each of them from so many consecutive seeds.

    Raises:
        ValueError: If it is an ensemble of one, or the seeds are below 1.
    """

    def __init__(self, members: list[str] | None = None, seeds: int = 1) -> None:
        name = type(self).__name__
        if seeds < 1:
            raise ValueError(f"{name}: seeds is {seeds}; it must be at least 1.")
        if not members and seeds == 1:
            raise ValueError(f"{name}: an ensemble needs more than one member: name members, or more than one seed.")
        self.members = list(members or ())
        self.seeds = seeds

    @abstractmethod
    def combine(self, members: Sequence[Member]) -> Array:
        """Return the probabilities ``(N, K)`` that the members together give to the test images."""


class SoftVoting(Ensemble):
    """The mean of the members' probabilities.

    Args:
        members: As in `Ensemble`.
        seeds: As in `Ensemble`.
    """

    def combine(self, members: Sequence[Member]) -> Array:
        return np.mean([member.probabilities("test") for member in members], axis=0)


class HardVoting(Ensemble):
    """Each member votes for one class; the mean of the probabilities decides between classes with as many votes.

    Args:
        members: As in `Ensemble`.
        seeds: As in `Ensemble`.
    """

    def combine(self, members: Sequence[Member]) -> Array:
        """Return the shares of the votes, moved by less than any share towards the mean of the probabilities."""
        _check_single_label(self, members)
        probabilities = np.stack([member.probabilities("test") for member in members])
        shares = np.eye(probabilities.shape[2])[probabilities.argmax(2)].mean(0)
        tie_break = 0.5 / len(members)
        return (1 - tie_break) * shares + tie_break * probabilities.mean(0)


class Stacking(Ensemble):
    """A logistic regression on the members' log-probabilities (Wolpert 1992, Stacked generalization).

    It learns from the validation images: no member has seen them, so their predictions are out of fold.

    Args:
        members: As in `Ensemble`.
        seeds: As in `Ensemble`.
        c: Inverse strength of the regression's L2 penalty, as scikit-learn has it.

    Raises:
        ValueError: If some class has no validation image, or ``c`` is not above 0.
    """

    def __init__(self, members: list[str] | None = None, seeds: int = 1, c: float = 1.0) -> None:
        super().__init__(members, seeds)
        _check_strength("Stacking", c)
        self.c = c

    def combine(self, members: Sequence[Member]) -> Array:
        _check_single_label(self, members)
        inputs = {part: _side_by_side([_log(member.probabilities(part)) for member in members]) for part in PARTS}
        classes = members[0].probabilities("test").shape[1]
        return _learn(inputs["val"], members[0].targets("val"), inputs["test"], classes, self.c, "validation")


PARTS = ("val", "test")


class FeatureFusion(Ensemble):
    """A logistic regression on the members' features, each of unit length times a weight, side by side.

    It learns from the training images, without augmentation.

    Args:
        members: As in `Ensemble`.
        seeds: As in `Ensemble`.
        weights: One for each network, the one that is trained here first; all 1 by default. The seeds of a network
            share its weight.
        c: Inverse strength of the regression's L2 penalty, as scikit-learn has it.

    Raises:
        ValueError: If the weights are not as many as the networks, some class has no training image, or ``c`` is not
            above 0.
    """

    def __init__(
        self,
        members: list[str] | None = None,
        seeds: int = 1,
        weights: list[float] | None = None,
        c: float = 1.0,
    ) -> None:
        super().__init__(members, seeds)
        _check_strength("FeatureFusion", c)
        networks = 1 + len(self.members)
        if weights is not None and len(weights) != networks:
            raise ValueError(f"FeatureFusion: {len(weights)} weights for {networks} networks; give one for each.")
        self.weights = [1.0] * networks if weights is None else list(weights)
        self.c = c

    def combine(self, members: Sequence[Member]) -> Array:
        _check_single_label(self, members)
        inputs = {part: self.fuse([member.features(part) for member in members]) for part in ("train", "test")}
        classes = members[0].probabilities("test").shape[1]
        return _learn(inputs["train"], members[0].targets("train"), inputs["test"], classes, self.c, "training")

    def fuse(self, features: Sequence[Array]) -> Array:
        """Put the features of all members, ``(N, D)`` each, side by side as ``(N, D1 + D2 + ...)``."""
        weights = [weight for weight in self.weights for _ in range(self.seeds)]
        return _side_by_side([weight * _unit_length(each) for weight, each in zip(weights, features, strict=True)])


def _check_single_label(ensemble: Ensemble, members: Sequence[Member]) -> None:
    if members[0].targets("test").ndim != 1:
        raise ValueError(f"{type(ensemble).__name__} needs one label an image; of several labels, take SoftVoting.")


def _check_strength(name: str, c: float) -> None:
    if not c > 0:
        raise ValueError(f"{name}: c is {c}; it must be above 0.")


def _log(probabilities: Array) -> Array:
    return np.log(np.maximum(probabilities, SMALLEST))


def _side_by_side(parts: Sequence[Array]) -> Array:
    return np.concatenate(parts, axis=1)


def _unit_length(features: Array) -> Array:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), SMALLEST)


def _learn(inputs: Array, targets: NDArray[np.integer], test: Array, classes: int, c: float, part: str) -> Array:
    """Fit a logistic regression and return its probabilities ``(N, classes)`` for the test inputs."""
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and only ensembles need it

    missing = sorted(set(range(classes)) - set(targets.tolist()))
    if missing:
        raise ValueError(f"no {part} image has a class of {missing}, so the second-level learner cannot learn it.")
    learner = LogisticRegression(C=c, max_iter=5000).fit(inputs.astype(np.float64), targets)
    return learner.predict_proba(test.astype(np.float64)).astype(np.float32)
