"""The tricks on fine-tuning: what each must change, and what row 0 has in its place."""

import atexit
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from lit_modules.models import ResNet
from tests.ablations.tricks.case import Case


def write_weights() -> str:
    """Write weights for the quick digits base, with a head for four classes, into a file that goes with the process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    path = Path(folder.name) / "pretrained.safetensors"
    network = ResNet(num_classes=4, in_channels=1, layers=[1, 1, 1], block="basic", width=4, stem="small")
    save_file(network.state_dict(), path)
    return str(path)


FREEZES = {"trainer.callbacks.FreezeBackbone": "FreezeBackbone"}
LAYERS = [["network.conv1", "network.bn1"], ["network.layer1"], ["network.layer2"], ["network.layer3"]]

CASES = [
    Case("pretrained_backbone", {"model.init": "PretrainedWeights"}, {"weights": write_weights()}),
    Case("freeze_backbone_then_unfreeze", FREEZES),
    Case("freeze_shallow", FREEZES),
    Case("replace_head", FREEZES),
    Case(
        "discriminative_lr",
        {"model.parameter_groups.lr_layers": LAYERS, "model.parameter_groups.lr_divisor": 3.0},
        {"divisor": 3.0},
        before={"model.parameter_groups.lr_divisor": 2.6},
    ),
]

OFF = {"model.parameter_groups.lr_layers": []}
