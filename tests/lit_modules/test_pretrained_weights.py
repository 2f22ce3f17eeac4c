"""Weights from files, against torchvision's own network, and everything that must not be loaded in silence."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet

from lit_modules import LitClassifier
from lit_modules.models import ResNet
from lit_modules.pretrained_weights import PretrainedWeights

WEIGHTS = "ResNet18_Weights.IMAGENET1K_V1"


def make_network(num_classes: int = 5) -> ResNet:
    torch.manual_seed(0)
    return ResNet(num_classes=num_classes, layers=[1, 1, 1, 1], block="basic")


def make_torchvision_s(num_classes: int = 5) -> resnet.ResNet:
    """Return torchvision's network of the same layers, in which normalization does something."""
    torch.manual_seed(1)
    network = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=num_classes)
    network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., str]:
    def write(state: Any, name: str = "weights.pth") -> str:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            save_file(state, path)
        else:
            torch.save(state, path)
        return str(path)

    return write


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_torchvision_s_weights_give_torchvision_s_scores(name: str, save: Callable[..., str]) -> None:
    theirs, ours = make_torchvision_s(), make_network()
    PretrainedWeights(save(theirs.state_dict(), name))(ours)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(images), theirs(images))
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


def test_a_name_of_torchvision_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    theirs, ours = resnet.resnet18(num_classes=1000), ResNet(num_classes=1000, layers=[2, 2, 2, 2], block="basic")
    torch.save(theirs.state_dict(), path)
    PretrainedWeights(WEIGHTS)(ours)
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())
    assert PretrainedWeights.source_files({"weights": WEIGHTS, "skip": []}) == [path]


def test_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("it downloads")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    message = (
        f"is not in torch hub's cache, .* Download https://.*/resnet18-f37072fd.pth to {tmp_path}/checkpoints/resn"
    )
    with pytest.raises(FileNotFoundError, match=message):
        PretrainedWeights(WEIGHTS)(make_network())
    with pytest.raises(FileNotFoundError, match=message):
        PretrainedWeights.source_files({"weights": WEIGHTS})


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("ResNet18_Weights.IMAGENET1K_V9", r" Did you mean 'ResNet18_Weights.IMAGENET1K_V1'\?"),
        ("Resnet18_Weights.IMAGENET1K_V1", r" Did you mean 'ResNet18_Weights.IMAGENET1K_V1'\?"),
        ("Zq_Weights.Q", ""),
    ],
)
def test_a_name_that_torchvision_lacks_is_refused_with_the_nearest(name: str, offer: str) -> None:
    with pytest.raises(ValueError, match=f"torchvision has no weights {name!r}\\.{offer}$"):
        PretrainedWeights(name)(make_network())


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file missing.pth. Give a state dict's file, or"):
        PretrainedWeights("missing.pth")(make_network())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        PretrainedWeights.source_files({"weights": "missing.pth"})


def test_the_files_of_a_recipe_are_listed(save: Callable[..., str]) -> None:
    path = save({})
    assert PretrainedWeights.source_files({"weights": path, "skip": ["fc"], "prefix": ""}) == [Path(path)]


@pytest.mark.parametrize("num_classes", [5, 7])
def test_a_skipped_head_keeps_its_own_weights_whatever_its_shape(num_classes: int, save: Callable[..., str]) -> None:
    theirs, ours = make_torchvision_s(num_classes), make_network()
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    PretrainedWeights(save(theirs.state_dict()), skip=["fc"])(ours)
    after = ours.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in ("fc.weight", "fc.bias"))
    others = [name for name in after if not name.startswith("fc.")]
    assert all(torch.equal(after[name], theirs.state_dict()[name]) for name in others)


def test_a_head_that_the_file_lacks_may_be_skipped(save: Callable[..., str]) -> None:
    state = {name: tensor for name, tensor in make_torchvision_s().state_dict().items() if not name.startswith("fc.")}
    PretrainedWeights(save(state), skip=["fc"])(make_network())
    with pytest.raises(ValueError, match=r"does not fit ResNet. The file lacks: fc.weight, fc.bias.$"):
        PretrainedWeights(save(state))(make_network())


def test_all_that_does_not_fit_is_named_at_once(save: Callable[..., str]) -> None:
    state: dict[str, Tensor] = make_torchvision_s(7).state_dict()
    del state["bn1.weight"]
    state["bn1.gamma"] = torch.zeros(64)
    network = make_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    message = (
        r"Nothing in the network is named as skip says: head. The file lacks: bn1.weight. The network lacks: "
        r"bn1.gamma. Other shapes: fc.weight \(7, 512\) for \(5, 512\), fc.bias \(7,\) for \(5,\); a head"
    )
    with pytest.raises(ValueError, match=message):
        PretrainedWeights(save(state), skip=["head"])(network)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_files_without_counters_of_batches_are_taken(save: Callable[..., str]) -> None:
    state = {name: t for name, t in make_torchvision_s().state_dict().items() if "num_batches" not in name}
    network = make_network()
    PretrainedWeights(save(state))(network)
    assert network.bn1.num_batches_tracked == 0
    assert torch.equal(network.bn1.running_mean, state["bn1.running_mean"])


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}])
def test_a_file_without_a_state_dict_is_refused(content: Any, save: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="holds no state dict, tensors by name, but a"):
        PretrainedWeights(save(content))(make_network())


class Evil:
    def __reduce__(self) -> Any:
        return print, ("code of the file has run",)


def test_a_file_cannot_run_code(save: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="Weights only load failed"):
        PretrainedWeights(save({"conv1.weight": Evil()}))(make_network())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("channels_last", [True, False])
def test_a_checkpoint_of_the_module_is_read_by_its_prefix(channels_last: bool, save: Callable[..., str]) -> None:
    make = partial(
        LitClassifier,
        loss=nn.CrossEntropyLoss(torch.ones(5)),
        optimizer=partial(torch.optim.SGD, lr=0.1),
        channels_last=channels_last,
    )
    trained = make(make_torchvision_s())
    path = save({"state_dict": trained.state_dict(), "epoch": 3}, "last.ckpt")
    module = make(make_network(), init=PretrainedWeights(path, prefix="network."))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(module.eval()(images), trained.eval()(images))


def test_loading_draws_no_random_numbers(save: Callable[..., str]) -> None:
    initialization, network = PretrainedWeights(save(make_torchvision_s().state_dict())), make_network()
    torch.manual_seed(3)
    initialization(network)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert drawn == torch.rand(1)
