import pytest
import torch
from torch import nn

from lit_modules.models import ProbabilityEnsemble


def test_the_probabilities_are_the_mean_of_the_members():
    members = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(3)]
    images = torch.randn(5, 1, 2, 2)
    mean = sum(member(images).softmax(1) for member in members) / 3
    torch.testing.assert_close(ProbabilityEnsemble(members)(images).softmax(1), mean)


def test_one_member_predicts_as_it_does_alone():
    member = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    images = torch.randn(5, 1, 2, 2)
    torch.testing.assert_close(ProbabilityEnsemble([member])(images).softmax(1), member(images).softmax(1))


def test_an_ensemble_needs_members():
    with pytest.raises(ValueError, match="no members"):
        ProbabilityEnsemble([])
