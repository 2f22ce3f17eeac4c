"""Ensembles against naive loops and scikit-learn."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lit_modules.inference import FeatureFusion, HardVoting, SoftVoting, Stacking

CLASSES = 3
SIZES = {"train": 60, "val": 45, "test": 20}


class FakeMember:
    """Says whatever it drew at first."""

    def __init__(self, seed, width=4):
        generator = np.random.default_rng(seed)
        labels = {part: np.arange(size) % CLASSES for part, size in SIZES.items()}
        self._targets = labels
        self._features = {part: generator.normal(size=(size, width)) for part, size in SIZES.items()}
        scores = {
            part: generator.normal(size=(size, CLASSES)) + np.eye(CLASSES)[labels[part]] for part, size in SIZES.items()
        }
        self._probabilities = {part: np.exp(each) / np.exp(each).sum(1, keepdims=True) for part, each in scores.items()}

    def probabilities(self, part):
        return self._probabilities[part]

    def features(self, part):
        return self._features[part]

    def targets(self, part):
        return self._targets[part]


MEMBERS = [FakeMember(seed) for seed in range(4)]


def test_soft_voting_is_the_mean_of_the_probabilities():
    together = SoftVoting(members=["row:a"], seeds=2).combine(MEMBERS)
    for image in range(SIZES["test"]):
        mean = sum(member.probabilities("test")[image] for member in MEMBERS) / len(MEMBERS)
        np.testing.assert_allclose(together[image], mean)


def test_hard_voting_counts_votes_and_lets_the_mean_decide_between_equals():
    together = HardVoting(members=["row:a"], seeds=2).combine(MEMBERS)
    np.testing.assert_allclose(together.sum(1), 1)
    ties = 0
    for image in range(SIZES["test"]):
        votes = Counter(int(member.probabilities("test")[image].argmax()) for member in MEMBERS)
        most = max(votes.values())
        winners = [label for label, count in votes.items() if count == most]
        ties += len(winners) > 1
        mean = sum(member.probabilities("test")[image] for member in MEMBERS)
        assert together[image].argmax() == max(winners, key=lambda label: mean[label])
    assert ties > 0


def test_stacking_is_scikit_learn_s_regression_on_validation_images():
    together = Stacking(members=["row:a"], c=0.3).combine(MEMBERS[:2])
    val, test = (np.log(np.hstack([member.probabilities(part) for member in MEMBERS[:2]])) for part in ("val", "test"))
    learner = LogisticRegression(C=0.3, max_iter=5000).fit(val, MEMBERS[0].targets("val"))
    np.testing.assert_allclose(together, learner.predict_proba(test), rtol=1e-5)


def test_fused_features_have_unit_length_times_their_weight():
    fusion = FeatureFusion(members=["row:a"], weights=[1.0, 0.5])
    wide = FakeMember(9, width=7)
    fused = fusion.fuse([MEMBERS[0].features("test"), wide.features("test")])
    assert fused.shape == (SIZES["test"], 4 + 7)
    np.testing.assert_allclose(np.linalg.norm(fused[:, :4], axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(fused[:, 4:], axis=1), 0.5)
    np.testing.assert_allclose(
        fused[3, 4:] / np.linalg.norm(fused[3, 4:]), wide.features("test")[3] / np.linalg.norm(wide.features("test")[3])
    )


def test_feature_fusion_learns_from_the_training_images():
    together = FeatureFusion(members=["row:a"]).combine(MEMBERS[:2])
    train, test = (
        np.hstack([m.features(part) / np.linalg.norm(m.features(part), axis=1, keepdims=True) for m in MEMBERS[:2]])
        for part in ("train", "test")
    )
    learner = LogisticRegression(max_iter=5000).fit(train, MEMBERS[0].targets("train"))
    np.testing.assert_allclose(together, learner.predict_proba(test), rtol=1e-5)


def test_the_seeds_of_a_network_share_its_weight():
    fusion = FeatureFusion(members=["row:a"], seeds=2, weights=[2.0, 1.0])
    fused = fusion.fuse([member.features("test") for member in MEMBERS])
    lengths = [np.linalg.norm(part, axis=1)[0] for part in np.split(fused, 4, axis=1)]
    np.testing.assert_allclose(lengths, [2, 2, 1, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (SoftVoting, "needs more than one member"),
        (lambda: HardVoting(seeds=0), "seeds is 0"),
        (lambda: Stacking(members=["row:a"], c=0), "c is 0"),
        (lambda: FeatureFusion(members=["row:a"], c=-1), "c is -1"),
        (lambda: FeatureFusion(members=["row:a"], weights=[1.0]), "1 weights for 2 networks"),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_class_without_an_image_to_learn_from_is_named():
    member = FakeMember(0)
    member._targets = {**member._targets, "val": np.minimum(member._targets["val"], 1)}
    with pytest.raises(ValueError, match=r"no validation image has a class of \[2\]"):
        Stacking(members=["row:a"]).combine([member, MEMBERS[1]])


@pytest.mark.parametrize("ensemble", [HardVoting(["row:a"]), Stacking(["row:a"]), FeatureFusion(["row:a"])])
def test_images_of_several_labels_are_refused_where_one_is_needed(ensemble):
    member = FakeMember(0)
    member._targets = {part: np.eye(CLASSES)[labels] for part, labels in member._targets.items()}
    with pytest.raises(ValueError, match="needs one label an image"):
        ensemble.combine([member, MEMBERS[1]])
