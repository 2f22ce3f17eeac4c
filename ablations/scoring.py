"""Scores stored weights: a fresh trainer tests them, so that nothing of the training is left over."""

import logging
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from safetensors.torch import load_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ablations.errors import RecipeError
from ablations.failures import NotFiniteError, ScoringError, failure_reason
from ablations.metric_kinds import why_no_score
from ablations.parsing import Parts, build_inference
from ablations.picture_files import MOST_PICTURES, save_pictures
from ablations.plan import Scoring, Training
from ablations.store import RunFolder
from lit_modules.inference import Inference
from lit_modules.models import ProbabilityEnsemble, fuse_branches
from lit_modules.pictures import ShowsPictures, TaskPicture

log = logging.getLogger(__name__)

SCORING_ARGUMENTS = ("accelerator", "precision", "limit_test_batches", "deterministic", "benchmark", "inference_mode")
"""Arguments of the training's trainer that the scoring's trainer keeps."""


@dataclass(frozen=True)
class Score:
    """What one inference setting got out of stored weights.

    Args:
        metrics: every logged metric by name.
        predictions: what the module predicted, arrays by name, in data-set order.
        costs: `flops_per_image`, a multiplication and an addition being two, and `seconds` of the whole test.
        pictures: of the task; none unless they were asked for and the module has some.
    """

    metrics: dict[str, float]
    predictions: dict[str, np.ndarray]
    costs: dict[str, float]
    pictures: tuple[TaskPicture, ...] = ()


def score_settings(training: Training, parts: Parts, folder: RunFolder, again: bool) -> None:
    """Score every inference setting that has no score yet; one that fails does not keep the others from theirs.

    Args:
        training: what is scored.
        parts: what its recipe built.
        folder: where its weights are, and its scores will be.
        again: whether scores that are there are made again, since they belong to an earlier fit.

    Raises:
        ScoringError: at the end, of the first that failed.
    """
    failures = []
    for name, scoring in training.scorings.items():
        if not again and folder.score(name) is not None:
            continue
        try:
            _score_setting(name, scoring, training, parts, folder)
        except Exception as error:  # of a module or metric of the user's own; the others may do without
            traceback.print_exc()
            failures.append(ScoringError(f"it is trained, but scoring it failed ({name}): {failure_reason(error)}"))
    if failures:
        raise failures[0]


def _score_setting(name: str, scoring: Scoring, training: Training, parts: Parts, folder: RunFolder) -> None:
    inference = build_inference(scoring.section)
    files = folder.weight_files(scoring.weights)
    if not files:
        raise RuntimeError(f"no weights {inference.weights!r} were kept: the run ended before there were any")
    if len(files) > 1:
        for member, path in enumerate(files, start=1):
            write_score(folder, f"{name}-member-{member}", score_weights(parts, [path], inference), scoring)
    score = score_weights(parts, files, inference, training.with_pictures)
    write_score(folder, name, score, scoring)


def score_weights(parts: Parts, weights: list[Path], inference: Inference, with_pictures: bool = False) -> Score:
    """Test stored weights; of several, the predictions are averaged.

    Args:
        parts: what the recipe built; the module's weights are replaced.
        weights: safetensors files of the module's state, one for each member.
        inference: how to score.
        with_pictures: whether the module is asked for pictures.

    Raises:
        RecipeError: the module is scored as it is, and more is asked for.
    """
    module: Any = parts.module
    part = scored_part(module)
    if part is None:
        if len(weights) > 1 or replace(inference, weights="last") != Inference():
            raise RecipeError(as_it_is(type(module)))
        module.load_state_dict(load_file(weights[0]))
        return test(parts, with_pictures)
    own = getattr(module, part)
    module.inference = inference
    try:
        setattr(module, part, stored_network(parts, weights))
        return test(parts, with_pictures)
    finally:
        setattr(module, part, own)


def scored_part(module: L.LightningModule | type[L.LightningModule]) -> str | None:
    """Return the name of the part whose stored weights are scored; `None` for a module that is scored as it is."""
    return getattr(module, "scored_part", None)


def as_it_is(module: type[L.LightningModule]) -> str:
    """Return why views, ensembles and several weights cannot be had with a module that is scored as it is."""
    return (
        f"{module.__qualname__} is scored as it is, with its own test_step, so `inference` can say no more than which "
        f"weights. For views and ensembles, name the part that is scored in a class attribute `scored_part`, and let "
        f"the module read its attribute `inference`, as LitClassifier does."
    )


def stored_network(parts: Parts, weights: list[Path]) -> nn.Module:
    """Return the scored part with stored weights, branches fused; of several, one that averages their predictions."""
    module: Any = parts.module
    members = []
    for path in weights:
        module.load_state_dict(load_file(path))
        members.append(fuse_branches(getattr(module, scored_part(module) or "")))  # a copy
    if len(members) == 1:
        return members[0]
    return module.combine(members) if hasattr(module, "combine") else ProbabilityEnsemble(members, module.outputs)


def test(parts: Parts, with_pictures: bool = False) -> Score:
    """Test the module as it is."""
    counter = _FlopsOfFirstBatch()
    trainer = scoring_trainer(parts, counter)
    started = time.perf_counter()
    (metrics,) = trainer.test(parts.module, datamodule=parts.datamodule, verbose=False)
    costs = {"flops_per_image": counter.flops_per_image, "seconds": time.perf_counter() - started}
    predictions = getattr(parts.module, "predictions", {})
    pictures = _take_pictures(parts) if with_pictures else ()
    return Score(dict(metrics), {name: tensor.numpy() for name, tensor in predictions.items()}, costs, pictures)


def _take_pictures(parts: Parts) -> tuple[TaskPicture, ...]:
    """Ask the module for pictures of its last test; a score is worth more, so it does not fail by them."""
    if not isinstance(parts.module, ShowsPictures):
        return ()
    try:
        with isolate_rng():
            return tuple(parts.module.pictures(parts.datamodule, MOST_PICTURES))
    except Exception as error:  # of a data set or a module of the user's own
        log.warning("There are no pictures of the task (%s: %s).", type(error).__name__, error)
        return ()


def scoring_trainer(parts: Parts, *callbacks: L.Callback) -> L.Trainer:
    """Return a fresh, quiet trainer for one process that evaluates as the recipe's trainer would."""
    arguments: dict[str, Any] = {name: parts.trainer_arguments[name] for name in SCORING_ARGUMENTS}
    arguments |= {"devices": 1, "callbacks": list(callbacks), "logger": False, "enable_checkpointing": False}
    arguments["plugins"] = [LightningEnvironment()]  # it stands alone, whatever this process was started by
    return L.Trainer(**arguments, enable_progress_bar=False, enable_model_summary=False)


def write_score(folder: RunFolder, name: str, score: Score, scoring: Scoring) -> None:
    """Store a score, the predictions behind it, and its pictures.

    Raises:
        NotFiniteError: a loss or predictions are not finite.
    """
    if reason := why_no_score(score.metrics):
        raise NotFiniteError(reason)
    for kind, values in score.predictions.items():
        if not np.isfinite(values).all():  # an argmax takes NaN for the largest: every image would be of class 0
            raise NotFiniteError(f"the {kind} that it predicts are not all finite")
    save_pictures(folder.pictures(name), score.pictures)
    folder.predictions(name).parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = dict(score.predictions)
    np.savez_compressed(folder.predictions(name), **arrays)
    folder.write_score(name, score.metrics, score.costs, scoring.weights, scoring.section)


class _FlopsOfFirstBatch(L.Callback):
    """Counts the floating-point operations of the first test batch; a multiplication and an addition are two."""

    def __init__(self) -> None:
        self.flops_per_image = 0
        self._mode: FlopCounterMode | None = None

    def on_test_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if batch_idx == 0:
            self._mode = FlopCounterMode(display=False)
            self._mode.__enter__()

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self.flops_per_image = round(self._mode.get_total_flops() / max(1, len(batch[0])))
            self._mode = None
