"""Initial weights of a network that were trained before.

Files are read without running any code that they may hold, and nothing is ever downloaded.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lit_modules.initialization import Initialization

TORCHVISION_NAME = re.compile(r"\w+_Weights\.\w+")


class PretrainedWeights(Initialization):
    """Loads all weights of a network from a file, but for the parts that are to stay as they were drawn.

    Example::

        PretrainedWeights("resnet50.safetensors")(network)
        PretrainedWeights("ResNet50_Weights.IMAGENET1K_V2", skip=["fc"])(network)
        PretrainedWeights("last.ckpt", skip=["fc"], prefix="network.")(network)
        PretrainedWeights("darknet53.pt", part="network.backbone")(detector)

    Args:
        weights: A ``.safetensors`` file; a file of ``torch.save`` with a state dict, or a Lightning checkpoint; or a
            torchvision name such as ``ResNet50_Weights.IMAGENET1K_V2``, which is looked up in torch hub's local cache.
        skip: Parts of the network that keep their weights, whatever the file has for them, such as a head for other
            classes: names of submodules and parameters, with ``*`` for any characters. What only the file has is
            skipped as well.
        prefix: Read only what begins with this, and take it off: ``"network."`` for a checkpoint of `LitClassifier`.
        part: Name of the submodule that is filled, such as a detector's backbone; names in the file and in ``skip`` are
            names within it. By default it is the whole network.

    Raises:
        FileNotFoundError: If there is no such file; for a torchvision name, how to get it.
        ValueError: If torchvision knows no such weights, the file holds no state dict, there is no such part, a part to
            skip is neither in the network nor in the file, or weights are missing, unexpected or of another shape; all
            of them are named.
    """

    def __init__(self, weights: str, skip: Sequence[str] = (), prefix: str = "", part: str = "") -> None:
        self.weights = weights
        self.skip = list(skip)
        self.prefix = prefix
        self.part = part

    @staticmethod
    def source_files(init_args: Mapping[str, Any]) -> list[Path]:
        """Return the files that decide the weights, given the arguments of the class.

        Raises:
            FileNotFoundError, ValueError: As the class.
        """
        return [_find_file(init_args["weights"])]

    def __call__(self, network: nn.Module) -> None:
        """Fill the network's weights and buffers, in place."""
        path = _find_file(self.weights)
        network = self._find_part(network)
        state = {
            name.removeprefix(self.prefix): tensor
            for name, tensor in _read_state(path).items()
            if name.startswith(self.prefix)
        }
        wanted = network.state_dict()
        if problems := _find_problems(wanted, state, self.skip):
            raise ValueError(f"PretrainedWeights: {path} does not fit {type(network).__name__}. {' '.join(problems)}")
        loaded = {name: tensor for name, tensor in state.items() if not _is_skipped(name, self.skip)}
        network.load_state_dict(loaded, strict=False)

    def _find_part(self, network: nn.Module) -> nn.Module:
        names = [name for name, _ in network.named_modules()]
        if self.part not in names:
            near = difflib.get_close_matches(self.part, names, n=1) or [name for name, _ in network.named_children()]
            raise ValueError(
                f"PretrainedWeights: {type(network).__name__} has no part {self.part!r}. It has: {', '.join(near)}."
            )
        return network.get_submodule(self.part)


def _find_file(weights: str) -> Path:
    if not TORCHVISION_NAME.fullmatch(weights):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"PretrainedWeights: there is no file {weights}. Give a state dict's file, or a torchvision name such "
                "as 'ResNet50_Weights.IMAGENET1K_V2'."
            )
        return path
    from torchvision.models import get_weight  # takes a second, which a file does not need

    try:
        url = get_weight(weights).url
    except (ValueError, KeyError):
        raise ValueError(f"PretrainedWeights: torchvision has no weights {weights!r}.{_offer(weights)}") from None
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise FileNotFoundError(
            f"PretrainedWeights: {weights} is not in torch hub's cache, and nothing is downloaded by itself. "
            f"Download {url} to {path}."
        )
    return path


def _offer(name: str) -> str:
    """Return the nearest name that torchvision has, as a sentence."""
    from torchvision.models import get_model_weights, list_models

    kinds = {get_model_weights(model) for model in list_models()}
    known = [f"{kind.__name__}.{weights.name}" for kind in kinds for weights in kind]
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"PretrainedWeights: {path} holds no state dict, tensors by name, but a {type(state).__name__}."
        )
    return dict(state)


def _is_skipped(name: str, skip: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in skip)


def _find_problems(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], skip: Sequence[str]) -> list[str]:
    """Say what keeps a state dict from being loaded, one sentence a problem."""
    wrong = [pattern for pattern in skip if not any(_is_skipped(name, [pattern]) for name in (*wanted, *given))]
    needed = [name for name in wanted if not _is_skipped(name, skip)]
    # Files from before PyTorch 0.4.1 lack the counters, which only a normalization without momentum reads.
    missing = [name for name in needed if name not in given and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in given if name not in wanted and not _is_skipped(name, skip)]
    shapes = [
        f"{name} {tuple(given[name].shape)} for {tuple(wanted[name].shape)}"
        for name in needed
        if name in given and given[name].shape != wanted[name].shape
    ]
    problems = []
    if wrong:
        problems.append(f"Nothing in the network is named as skip says: {', '.join(wrong)}.")
    if missing:
        problems.append(f"The file lacks: {', '.join(missing)}.")
    if unexpected:
        problems.append(f"The network lacks: {', '.join(unexpected)}.")
    if shapes:
        problems.append(f"Other shapes: {', '.join(shapes)}; a head for other classes belongs into skip.")
    return problems
