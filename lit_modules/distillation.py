"""Knowledge distillation: a trained network, the teacher, shows its class probabilities.

The teacher is no part of the module that is trained: it is neither among its parameters nor in its state dict, so it is
not averaged, counted, stored or put into checkpoints. It is built from its file when training begins, and let go of
when it ends; evaluation needs no file.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from lit_modules.channels_last import to_channels_last

NetworkCallable = Callable[[], nn.Module]
PREFIX = "network."


class Distillation:
    """Adds T² · cross entropy(softmax(r / T), softmax(z / T)) for scores z and teacher's scores r (Hinton et al. 2015,
    arXiv:1503.02531; He et al. 2018, arXiv:1812.01187, section 5.2).

    The teacher sees the very images that the student sees, augmented and mixed, in evaluation mode and without
    gradient. Its part of the loss knows no targets, so it goes with soft ones too.

    Example::

        LitClassifier(
            network,
            nn.CrossEntropyLoss(),
            optimizer,
            distillation=Distillation(network=partial(ResNet, num_classes=10, layers=[3, 3, 3], block="basic"),
                                      teacher_weights="weights/last.safetensors"),
        )

    Args:
        network: Makes the teacher's network, from images to class scores ``(N, K)``.
        teacher_weights: File of its weights: safetensors, or a state dict that torch saved. Names are the network's own
            or, in the state of a module with a ``network``, those after ``network.``; the rest of it is not looked at.
        temperature: T. The higher, the more the classes count that the teacher finds unlikely.

    Raises:
        ValueError: If ``temperature`` is not above 0, or the weights are not those of the network.
        FileNotFoundError: When training begins, if there is no file.
    """

    def __init__(self, network: NetworkCallable, teacher_weights: str, temperature: float = 20.0) -> None:
        if not temperature > 0:
            raise ValueError(f"Distillation: temperature is {temperature}; it must be above 0.")
        self.network = network
        self.teacher_weights = teacher_weights
        self.temperature = temperature
        self.teacher: nn.Module | None = None

    @staticmethod
    def source_files(init_args: Mapping[str, Any]) -> list[Path]:
        """Return the files whose content decides what is trained."""
        return [Path(init_args["teacher_weights"])]

    def load_teacher(self, device: torch.device, convert: Callable[[nn.Module], nn.Module]) -> None:
        """Build the teacher, without moving the global random generators.

        Args:
            device: Where it computes.
            convert: Gives a network the precision of the run.
        """
        weights = _read_weights(Path(self.teacher_weights))
        with torch.random.fork_rng():
            teacher = self.network()
        _load_weights(teacher, weights, self.teacher_weights)
        teacher = to_channels_last(teacher).requires_grad_(False).eval()
        self.teacher = convert(teacher.to(device))

    def release_teacher(self) -> None:
        """Let go of the teacher and its memory."""
        self.teacher = None

    def __call__(self, images: Tensor, scores: Tensor) -> Tensor:
        """Return what the teacher adds to the loss.

        Args:
            images: What the student saw, ``(N, C, H, W)``.
            scores: The student's scores for them, ``(N, K)``.

        Raises:
            RuntimeError: If no teacher has been loaded.
            ValueError: If the teacher has another number of classes.
        """
        if self.teacher is None:
            raise RuntimeError("Distillation: there is no teacher; call load_teacher before training.")
        with torch.no_grad():
            guidance = self.teacher(images.contiguous(memory_format=torch.channels_last)).float()
        if guidance.shape != scores.shape:
            raise ValueError(
                f"Distillation: the teacher has {guidance.shape[1]} outputs and the student {scores.shape[1]}. "
                f"They must tell the same classes apart."
            )
        return distillation_loss(scores, guidance, self.temperature)


def distillation_loss(scores: Tensor, guidance: Tensor, temperature: float) -> Tensor:
    """Return T² · cross entropy of the softened scores against the teacher's, the mean over samples.

    Args:
        scores: The student's scores ``(N, K)``.
        guidance: The teacher's ``(N, K)``.
        temperature: What both are divided by. Its square keeps the gradient about as large as that of the labels.
    """
    return temperature**2 * F.cross_entropy(scores / temperature, (guidance / temperature).softmax(1))


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read the weights of a network from a file, on the CPU."""
    if not path.is_file():
        raise FileNotFoundError(
            f"Distillation: there is no file {path} with the teacher's weights. Train the teacher first, or correct "
            f"teacher_weights."
        )
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    return own or state


def _load_weights(network: nn.Module, weights: Mapping[str, Tensor], path: str) -> None:
    """Give a network its weights, every single one."""
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        raise ValueError(
            f"Distillation: the weights in {path} are not those of the teacher's network, {type(network).__name__}: "
            f"{' '.join(lines)} Give the network that was trained."
        ) from error
