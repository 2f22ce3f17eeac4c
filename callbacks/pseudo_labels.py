"""Pseudo-labels: unlabeled images of which the network is sure are trained on as if they were labeled."""

import itertools
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor

from callbacks.stored_weights import is_trial
from callbacks.trained_tensors import batch_statistics, follow_first_rank
from callbacks.training_step_wrapper import Step, TrainingStepWrapper
from callbacks.unlabeled_images import UnlabeledImages, class_probabilities, find_unlabeled


class PseudoLabels(L.Callback):
    """Let confident predictions join the training set, again and again.

    Lee, 2013, Pseudo-Label. At the start of an epoch, every so often, the present network predicts all unlabeled images
    in evaluation mode and without random transforms. Those whose largest probability is above the threshold are trained
    on with that label until the next time, when all are chosen anew. A step gets a batch of them beside its labeled
    ones, transformed and mixed like those; the module's training step sees both as one batch, so that an image counts
    as much with a label as with a pseudo-label, and the numbers of steps and epochs stay what they were.

    The images come from the datamodule's ``unlabeled_dataloader``, which loads batches of images alone from a data set
    with a length; their labels are never read. A training batch is a pair of images and targets. Logs the number of
    images taken, over all processes, as ``train/pseudo_labels``.

    Example::

        trainer = Trainer(callbacks=[PseudoLabels(threshold=0.9, start_epoch=10, every_n_epochs=5)])
        trainer.fit(module, datamodule)

    Args:
        threshold: the largest probability must be above it; from 0 to below 1.
        start_epoch: number of epochs before the first choice.
        every_n_epochs: number of epochs from one choice to the next.
        batch_size: pseudo-labeled images a step in each process, or as many as there are, if fewer; by default as many
            as the loader gives.

    Raises:
        ValueError: an argument is out of its range, the datamodule has no unlabeled images, or the run ends before the
            first choice.
    """

    def __init__(
        self,
        threshold: float = 0.9,
        start_epoch: int = 10,
        every_n_epochs: int = 5,
        batch_size: int | None = None,
    ) -> None:
        problems = []
        if not 0 <= threshold < 1:
            problems.append(f"threshold must be from 0 to below 1, not {threshold}")
        if start_epoch < 0:
            problems.append(f"start_epoch must be at least 0, not {start_epoch}")
        if every_n_epochs < 1:
            problems.append(f"every_n_epochs must be at least 1, not {every_n_epochs}")
        if batch_size is not None and batch_size < 1:
            problems.append(f"batch_size must be at least 1, not {batch_size}")
        if problems:
            raise ValueError(f"PseudoLabels: {'; '.join(problems)}.")
        self.threshold = threshold
        self.start_epoch = start_epoch
        self.every_n_epochs = every_n_epochs
        self.batch_size = batch_size
        self.labels = torch.empty(0, dtype=torch.int64)
        """Of each unlabeled image, in the order of the data set; -1 if it was not taken."""
        self._wrapper: TrainingStepWrapper | None = None
        self._unlabeled: UnlabeledImages | None = None
        self._batches: Iterator[Any] = iter(())
        self._batches_epoch = -1
        self._batch: Any = None  # of the present step

    @property
    def state_key(self) -> str:
        return self._generate_state_key(
            threshold=self.threshold, start_epoch=self.start_epoch, every_n_epochs=self.every_n_epochs
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":  # a run that resumes loads its labels after this
            self.labels = torch.empty(0, dtype=torch.int64)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave()
        self._check_run(trainer)
        self._unlabeled = find_unlabeled(trainer)
        if self._unlabeled is None:
            raise ValueError(
                f"PseudoLabels: there are no unlabeled images. Fit with a datamodule whose unlabeled_dataloader loads "
                f"some; here it is {type(trainer.datamodule).__name__}."  # type: ignore[attr-defined]
            )
        # Not in `setup`: this wrapper lies around all that are made there and may resize the batch.
        self._wrapper = TrainingStepWrapper(pl_module, self._train_with_pseudo_labels)

    def _check_run(self, trainer: L.Trainer) -> None:
        epochs = trainer.max_epochs
        if not is_trial(trainer) and epochs is not None and 0 <= epochs <= self.start_epoch:
            raise ValueError(
                f"PseudoLabels: start_epoch={self.start_epoch}, but the run has only {epochs} epochs. "
                f"Set start_epoch to at most {max(epochs - 1, 0)}."
            )

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        past = trainer.current_epoch - self.start_epoch
        if past >= 0 and past % self.every_n_epochs == 0:
            self.labels = self.choose(trainer, pl_module)
        pl_module.log("train/pseudo_labels", float((self.labels >= 0).sum()))

    def choose(self, trainer: L.Trainer, pl_module: L.LightningModule) -> Tensor:
        """Predict all unlabeled images, shared out among the processes, and return their `labels`."""
        assert self._unlabeled is not None
        follow_first_rank(trainer, batch_statistics(pl_module).values())
        share = range(trainer.global_rank, len(self._unlabeled), trainer.world_size)
        batches = _cut(list(share), self._unlabeled.loader.batch_size or 1)
        found = torch.zeros(len(self._unlabeled), dtype=torch.int64, device=pl_module.device)
        modes = {part: part.training for part in pl_module.modules()}
        stage = trainer.state.stage
        trainer.validating = True  # datamodules look there to know how to transform a batch
        pl_module.eval()
        try:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                for indices, loaded in zip(batches, self._unlabeled.read(batches), strict=True):
                    scores = pl_module(self._unlabeled.transform(loaded))
                    found[indices] = confident_labels(class_probabilities(pl_module, scores), self.threshold) + 1
        finally:
            trainer.state.stage = stage
            for part, training in modes.items():
                part.training = training
        return trainer.strategy.reduce(found, reduce_op="sum").cpu() - 1  # every process has filled in its share

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._batches_epoch != trainer.current_epoch:
            self._batches_epoch = trainer.current_epoch
            self._batches = self._read(self._batches_epoch)
        self._batch = next(self._batches, None)

    def _read(self, epoch: int) -> Iterator[Any]:
        """Yield batches of pseudo-labeled images as the model sees them, without end; None where there are none."""
        assert self._unlabeled is not None
        if not (self.labels >= 0).any():
            return
        wanted = self.batch_size or self._unlabeled.loader.batch_size or 1
        for number in itertools.count():
            order = [item for item in self._unlabeled.order(epoch, number) if self.labels[_index(item)] >= 0]
            if not order:
                yield None  # all that were taken are other processes' in this pass
                continue
            size = min(wanted, len(order))
            batches = _cut(order[: len(order) // size * size], size)
            for items, images in zip(batches, self._unlabeled.read(batches), strict=True):
                labels = self.labels[[_index(item) for item in items]].to(images.device)
                yield self._unlabeled.transform((images, labels))

    def _train_with_pseudo_labels(self, training_step: Step, batch: Any, *rest: Any, **named: Any) -> Any:
        return training_step(batch if self._batch is None else join(batch, self._batch), *rest, **named)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._leave()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._leave()

    def state_dict(self) -> dict[str, Any]:
        return {"labels": self.labels}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.labels = state_dict["labels"]

    def _leave(self) -> None:
        if self._wrapper is not None:
            self._wrapper.remove()
        self._wrapper, self._unlabeled = None, None
        self._batches, self._batches_epoch = iter(()), -1
        self._batch = None


def confident_labels(probabilities: Tensor, threshold: float) -> Tensor:
    """Return the likeliest class of each row of ``(N, K)``, or -1 where its probability is not above the threshold."""
    highest, labels = probabilities.max(-1)
    return torch.where(highest > threshold, labels, -1)


def join(batch: Any, other: Any) -> tuple[Tensor, Tensor]:
    """Return one batch of the images and targets of two, both pairs of the same form."""
    (images, targets), (more_images, more_targets) = batch, other
    return torch.cat([images, more_images]), torch.cat([targets, more_targets])


def _cut(items: list[Any], size: int) -> list[list[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _index(item: Any) -> int:
    """Return the index of the image that a sampler draws: the number itself, or the ``image`` of a draw."""
    return int(getattr(item, "image", item))
