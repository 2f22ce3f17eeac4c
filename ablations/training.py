"""One training, from its recipe to its scores, in the process that calls.

The only place where a recipe is trained: a study's worker processes and `ablate fit` both come here.
"""

import contextlib
import logging
import math
import os
import platform
import shutil
import traceback
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ablations.ensembles import score_ensembles
from ablations.environment import library_versions, processor_name
from ablations.failures import InterruptedTrainingError, MissingNeedError, NotFiniteError, failure_reason
from ablations.keys import weights_name
from ablations.leases import BUSY, BusyError
from ablations.lr_search import search
from ablations.parsing import Parts, build
from ablations.plan import Training, is_search
from ablations.process_group import Ranks, joined, started_as
from ablations.references import TRAINING, replace_references
from ablations.registry import load_plugin
from ablations.scoring import score_settings
from ablations.store import RunFolder, write_text
from ablations.stored_training import weights_behind
from ablations.tracking.runs import TrainingLogger, track, with_own_loggers
from ablations.yaml_file import dump_yaml
from callbacks import CostMonitor, EpochCheckpoint, KeepSignalHandlers, MetricHistory, ReseedEachEpoch, StoredWeights

log = logging.getLogger(__name__)


def run_training(training: Training, wait: bool = True) -> None:
    """Train, unless that is done already, and score what is not scored yet; everything lands in the folder.

    Of several processes of one training, each calls this: the first reads and writes, the others take part in the fit.

    Args:
        training: what to do.
        wait: for another process that is at the same training.

    Raises:
        BusyError: another process is, and `wait` is off.
        RecipeError, DivergedError, InterruptedTrainingError: as the recipe or the training goes wrong.
        MixedVersionsError: the processes of the training run different versions of a library.
    """
    for plugin in training.plugins:
        load_plugin(plugin)
    if training.is_ensemble:
        if (started_as() or Ranks()).is_first:
            _lead(training, Ranks(), wait)
        return
    with joined(training.processes, training.recipe["trainer"]["accelerator"]) as ranks:
        if ranks.is_first:
            _lead(training, ranks, wait)
        else:
            _follow(training, ranks)


def _lead(training: Training, ranks: Ranks, wait: bool) -> None:
    folder = RunFolder(training.folder)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(folder.lock(wait))
        except BusyError:
            ranks.share(False)  # or the others would take the end of this process for a failure
            raise
        _discard_corrupt(folder, training.scorings)
        if training.is_done():
            ranks.share(False)
            return
        _check_needs(training)
        folder.write_status("running")
        with track(training) as logger:
            _train_and_score(training, folder, logger, ranks)
        folder.write_status("done")


def _follow(training: Training, ranks: Ranks) -> None:
    """Take part in the fit, if there is one, and write nothing."""
    folder = RunFolder(training.folder)
    if not ranks.share(False):
        return
    parts = _build(training)
    if is_search(training.recipe):
        search(parts, folder, ranks)
        ranks.share(None)
    else:
        _fit(training, parts, folder, None, ranks)


def _train_and_score(training: Training, folder: RunFolder, logger: TrainingLogger | None, ranks: Ranks) -> None:
    if training.is_ensemble:
        score_ensembles(training)
        return
    write_text(folder.recipe, recipe_text(training.config(), training.plugins))
    parts = _build(training)
    if is_search(training.recipe):
        ranks.share(True)
        search(parts, folder, ranks)
        folder.write_result({"key": training.key, "seed": training.seed, "seconds": 0.0})
        ranks.share(None)  # the others read what was found
        return
    trained = folder.result() is not None and _has_weights(training, folder)
    if ranks.share(not trained):
        costs = _fit(training, parts, folder, logger, ranks)
        _store_weights(training, parts, folder)
        folder.write_result(_result(training, parts, costs, ranks))  # whatever becomes of the scores
        shutil.rmtree(folder.checkpoint.parent, ignore_errors=True)
    ranks.leave()  # a test by all would wait for those that have gone
    score_settings(training, parts, folder, again=not trained)


def run_and_record(training: Training, threads: int | None = None, wait: bool = True) -> None:
    """Run a training; a failure ends up, with its reason, in the folder's status.

    Args:
        training: what to do.
        threads: processor threads that it may use; by default as many as torch chooses.
        wait: for another process that is at the same training.

    Raises:
        SystemExit: with 1, if the training failed; with `BUSY`, if another process is at it and `wait` is off.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its hints about devices and other products
    warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.`", category=FutureWarning)
    if threads is not None:
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # or Lightning takes all cores where there are several nodes
    folder, ranks = RunFolder(training.folder), started_as() or Ranks()
    try:
        if ranks.is_first and ranks.count > 1 and not training.is_done():
            folder.write_status("running")  # before another one of the processes could fail
        run_training(training, wait)
    except BusyError:
        raise SystemExit(BUSY) from None
    except Exception as error:  # whatever went wrong belongs into the record, and the study goes on
        traceback.print_exc()
        with contextlib.suppress(OSError):  # a full disk may be what went wrong
            if ranks.count == 1 or folder.status().get("state") != "failed":  # the first to fail took the others along
                folder.write_status("failed", failure_reason(error))
        raise SystemExit(1) from None


def recipe_text(config: dict[str, Any], plugins: Iterable[Path] = ()) -> str:
    """Return a recipe as the YAML file that `ablate fit` takes."""
    named = [str(plugin) for plugin in plugins]
    return dump_yaml({"plugins": named, **config} if named else config)


def _check_needs(training: Training) -> None:
    """See that all that other trainings must leave behind is there."""
    for need in training.needs:
        if RunFolder(need.folder(training.store)).score(need.inference) is None:
            raise MissingNeedError(
                f"it needs the score {need.inference!r} of the training {need.key} with seed {need.seed}, which "
                f"{training.store} does not hold. Run the study that it comes from, or the recipe of that row, first."
            )


def _build(training: Training) -> Parts:
    config = training.config()
    trained = {name: value for name, value in config.items() if name != "inference"}
    located = replace_references(trained, TRAINING, lambda text: weights_behind(text, training))
    L.seed_everything(training.seed, workers=True, verbose=False)
    return build({**config, **located})


def _fit(
    training: Training, parts: Parts, folder: RunFolder, logger: TrainingLogger | None, ranks: Ranks
) -> CostMonitor:
    """Train to the last epoch, from the last checkpoint if there is one that can be read."""
    checkpoint = ranks.share(_usable_checkpoint(folder) if ranks.is_first else None)
    costs = CostMonitor()
    arguments = ranks.trainer_arguments(parts.trainer_arguments)
    arguments["callbacks"] = [
        *(arguments.get("callbacks") or []),
        ReseedEachEpoch(training.seed),
        KeepSignalHandlers(),
        costs,
        MetricHistory(folder.metrics),
        EpochCheckpoint(folder.checkpoint, training.checkpoint_seconds),
    ]
    arguments["default_root_dir"] = str(folder.path)
    if logger is not None:
        arguments["logger"] = with_own_loggers(logger, arguments.get("logger"))
    shows = training.show_progress and ranks.is_first
    shown = {"logger": False, "enable_progress_bar": shows, "enable_model_summary": False}
    arguments |= {name: value for name, value in shown.items() if arguments.get(name) is None}
    trainer = L.Trainer(**arguments)
    trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted or trainer.received_sigterm:
        raise InterruptedTrainingError(f"the training was stopped in epoch {trainer.current_epoch}")
    return costs


def _store_weights(training: Training, parts: Parts, folder: RunFolder) -> None:
    """Store the weights of the last step and those that callbacks kept.

    Raises:
        NotFiniteError: the last step left some that are NaN or infinite; a test would take them for class 0.
    """
    for name, parameter in parts.module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise NotFiniteError(f"the training diverged: at its end {name} is not finite")
    _save_weights(parts.module.state_dict(), folder.weights("last"))
    sections, callbacks = training.recipe["trainer"]["callbacks"], parts.trainer_arguments.get("callbacks")
    for section, callback in zip(sections or [], callbacks or [], strict=True):
        if isinstance(callback, StoredWeights):
            states = list(callback.stored_weights(parts.module).values())
            for member, state in enumerate(states, start=1):
                _save_weights(state, folder.weights(weights_name(section), member if len(states) > 1 else None))


def _usable_checkpoint(folder: RunFolder) -> Path | None:
    """Return the checkpoint to resume from; one that cannot be read is removed, and that is said."""
    path = folder.checkpoint
    if not path.exists():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the bytes lead it to
        log.warning("%s cannot be read (%s); the training starts anew.", path, error)
        path.unlink()
        return None
    log.warning("going on from %s", path)
    return path


def _discard_corrupt(folder: RunFolder, names: Iterable[str]) -> None:
    for path in folder.corrupt(names):
        log.warning("%s cannot be read; it is made again.", path)
        path.unlink()


def _save_weights(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors, in one step; those that share memory are stored one by one."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    save_file(tensors, temporary)
    temporary.replace(path)


def _has_weights(training: Training, folder: RunFolder) -> bool:
    """Return whether the weights that are yet to be scored are stored; if not, say so."""
    for name in {training.scorings[missing].weights for missing in folder.missing(training.scorings)}:
        files = folder.weight_files(name)
        if not files:
            log.warning("The training was done without keeping the weights %r; it is done again.", name)
            return False
        for path in files:
            try:
                load_file(path)
            except (OSError, SafetensorError) as error:
                log.warning("%s cannot be read (%s); the training is done again.", path, error)
                return False
    return True


def _result(training: Training, parts: Parts, costs: CostMonitor, ranks: Ranks) -> dict[str, Any]:
    device = parts.module.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    summary = {name: None if math.isnan(value) else value for name, value in costs.summary().items()}
    if summary["images_per_second"] is not None:
        summary["images_per_second"] *= ranks.count
    return {
        "key": training.key,
        "seed": training.seed,
        **summary,
        "device": name,
        "accelerator": device.type,
        "threads": torch.get_num_threads(),
        "nodes": training.processes.nodes,
        "devices": training.processes.devices,
        "host": platform.node(),
        "pid": os.getpid(),
        "code": training.code,
        "versions": library_versions(),
    }
