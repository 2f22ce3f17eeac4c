"""What a finished training left in the run store, for those that build on it."""

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ablations.parsing import Parts, build, build_inference
from ablations.plan import Training
from ablations.recipe import SECTIONS
from ablations.references import TRAINING, Need, parse_reference, replace_references
from ablations.registry import load_plugin
from ablations.scoring import scoring_trainer, stored_network
from ablations.store import RunFolder
from ablations.yaml_file import read_mapping


def weights_behind(reference: str, training: Training) -> str:
    """Return the file of the weights that a reference names, of the same seed as the training that asks.

    Raises:
        RuntimeError: the weights are several, or are gone.
    """
    return str(_weights_behind(reference, training.store, training.seed))


class StoredMember:
    """A finished training as a member of an ensemble; see `lit_modules.inference.ensembles.Member`.

    Predictions for the test images are those that were stored with its score. What else is asked for is computed from
    its weights, and kept beside them.

    Args:
        store: the run store.
        need: which training, and which of its scores.
    """

    def __init__(self, store: Path, need: Need) -> None:
        self.store = store
        self.need = need
        self.folder = RunFolder(need.folder(store))

    def probabilities(self, part: str) -> NDArray[np.floating]:
        return self._stored(part)["probabilities"]

    def targets(self, part: str) -> NDArray[np.integer]:
        return self._stored(part)["targets"]

    def features(self, part: str) -> NDArray[np.floating]:
        path = self.folder.predictions(f"{self.need.inference}-{part}-features")
        if not path.exists():
            np.savez_compressed(path, features=self._predict(part)["features"])
        return _read_arrays(path)["features"]

    def embeddings(self) -> NDArray[np.floating]:
        """Return the features of the test images, as a module for retrieval stored them with its score, ``(N, D)``."""
        return self._stored("test")["features"]

    def _stored(self, part: str) -> dict[str, NDArray[Any]]:
        name = self.need.inference if part == "test" else f"{self.need.inference}-{part}"
        path = self.folder.predictions(name)
        if not path.exists():
            found = self._predict(part)
            np.savez_compressed(path, probabilities=found["probabilities"], targets=found["targets"])
        return _read_arrays(path)

    def _predict(self, part: str) -> dict[str, NDArray[Any]]:
        parts, inference = _build_stored(self.folder, self.store, self.need)
        weights, _ = _scored(self.folder, self.need.inference)
        module: Any = parts.module
        module.inference = inference
        module.network = stored_network(parts, self.folder.weight_files(weights))
        datamodule: Any = parts.datamodule
        datamodule.predict_dataloader = lambda: datamodule.eval_dataloader(part)
        outputs = _Outputs(module.network)
        scoring_trainer(parts, outputs).predict(module, datamodule=datamodule, return_predictions=False)
        return outputs.arrays()


class _Outputs(L.Callback):
    """Collects the predictions of a network, the targets, and what its last linear layer was given."""

    def __init__(self, network: nn.Module) -> None:
        self._collected: dict[str, list[Tensor]] = {"probabilities": [], "targets": [], "features": []}
        self._features: list[Tensor] = []
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(lambda _, inputs: self._features.append(inputs[0]))

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _, targets = batch
        self._collected["probabilities"].append(outputs.cpu())
        self._collected["targets"].append(targets.cpu())
        if self._features:
            self._collected["features"].append(self._features[-1].flatten(1).float().cpu())
        self._features.clear()

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: torch.cat(parts).numpy() for name, parts in self._collected.items() if parts}


def _build_stored(folder: RunFolder, store: Path, need: Need) -> tuple[Parts, Any]:
    """Build the parts of a stored recipe, and the inference with which it was scored."""
    recipe = read_mapping(folder.recipe, "recipe")
    for plugin in recipe.pop("plugins", None) or ():
        load_plugin(Path(plugin))
    located = replace_references(recipe, TRAINING, lambda text: str(_weights_behind(text, store, need.seed)))
    L.seed_everything(need.seed, workers=True, verbose=False)
    _, section = _scored(folder, need.inference)
    parts = build({**{name: located[name] for name in SECTIONS}, "inference": {}})
    return parts, build_inference(section)


def _weights_behind(reference: str, store: Path, seed: int) -> Path:
    key, inference = parse_reference(reference)
    folder = RunFolder(Need(key, seed, inference).folder(store))
    weights, _ = _scored(folder, inference)
    files = folder.weight_files(weights)
    if len(files) != 1:
        found = "are several" if files else "are gone"
        raise RuntimeError(f"the weights {weights!r} of {folder.path}, on which this training builds, {found}.")
    return files[0]


def _scored(folder: RunFolder, inference: str) -> tuple[str, dict[str, Any]]:
    found = folder.scored_weights(inference)
    if found is None:
        raise RuntimeError(f"{folder.path} holds no score {inference!r}; run its study again.")
    return found


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as file:
        return dict(file)
