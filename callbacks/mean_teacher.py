"""Mean teacher: the average of the weights teaches the network what an unlabeled image should give.

The teacher predicts by `torch.func.functional_call`, which puts its tensors in place of the module's for one call. So
nothing is copied into the module, whose graph for the backward pass stays whole, and nothing is left there.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks.ema import EMA
from callbacks.trained_tensors import named_tensors
from callbacks.training_step_wrapper import Step, TrainingStepWrapper
from callbacks.unlabeled_images import UnlabeledImages, class_probabilities, find_unlabeled


class MeanTeacher(EMA):
    """Draw the predictions for unlabeled images towards those of the averaged weights.

    Published in Tarvainen and Valpola, 2017, arXiv:1703.01780. The teacher is the `EMA` of the weights. In each step it
    predicts a batch of unlabeled images, and so does the module, each under random transforms, noise and dropout of its
    own; ``weight`` times the mean squared difference of their probabilities is added to the loss of the labeled batch.
    Both normalize by the statistics of their batch. Logged as ``train/consistency``, without its weight.

    The images come from the datamodule's ``unlabeled_dataloader``, which loads batches without labels, and pass through
    its ``on_after_batch_transfer`` twice. Where there are none, the images of the labeled batch are taken as they are;
    teacher and module then see the same transforms, and noise and dropout of their own. Labeled batches are the same
    as without, and come in the same order; their random transforms are others.

    Example::

        teacher = MeanTeacher(decay=0.999, weight=10.0)
        trainer = Trainer(callbacks=[teacher])
        trainer.fit(module, datamodule)  # whose `unlabeled_dataloader` gives batches of images
        trainer.test(module, datamodule)  # the teacher

    Args:
        decay: weight of the average in its update, between 0 and 1; it rises to that value, as in `EMA`.
        weight: of the consistency in the loss, once it has risen; the mean is over images and classes.
        ramp_up_epochs: number of epochs in which it rises, as exp(-5 (1 - t)²).
        noise_sd: standard deviation of the Gaussian noise on the images, in units of what the module sees.
        validate_with_teacher: validate with the teacher during the fit, once it has been updated.

    Raises:
        ValueError: an argument is out of its range, or what `StoredWeights` refuses.
    """

    observes_only = False
    provides = "teacher"

    def __init__(
        self,
        decay: float = 0.999,
        weight: float = 10.0,
        ramp_up_epochs: float = 5.0,
        noise_sd: float = 0.15,
        validate_with_teacher: bool = False,
    ) -> None:
        problems = []
        if not 0 < decay < 1:
            problems.append(f"decay must be between 0 and 1, not {decay}")
        if not 0 < weight < math.inf:
            problems.append(f"weight must be positive, not {weight}")
        if not 0 <= ramp_up_epochs < math.inf:
            problems.append(f"ramp_up_epochs must be at least 0, not {ramp_up_epochs}")
        if not 0 <= noise_sd < math.inf:
            problems.append(f"noise_sd must be at least 0, not {noise_sd}")
        if problems:
            raise ValueError(f"MeanTeacher: {'; '.join(problems)}.")
        super().__init__(decay, validate_with_average=validate_with_teacher)
        self.weight = weight
        self.ramp_up_epochs = ramp_up_epochs
        self.noise_sd = noise_sd
        self.validate_with_teacher = validate_with_teacher
        self._wrapper: TrainingStepWrapper | None = None
        self._unlabeled: UnlabeledImages | None = None
        self._batches: Iterator[Any] = iter(())
        self._batches_epoch = -1
        self._views: tuple[Tensor, ...] = ()  # of the present batch: the module's and the teacher's
        self._progress = 0.0  # in epochs

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return the teacher's weights as `teacher`, once it has been updated."""
        stored = super().stored_weights(pl_module)
        return {"teacher": stored["ema"]} if stored else {}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._leave()
        self._unlabeled = find_unlabeled(trainer)
        # Not in `setup`: this wrapper lies around all that are made there and may resize the labeled batch.
        self._wrapper = TrainingStepWrapper(pl_module, functools.partial(self._add_consistency, pl_module))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        self._progress = trainer.current_epoch + batch_idx / trainer.num_training_batches
        if self._unlabeled is None:
            images = batch[0] if isinstance(batch, list | tuple) else batch
            self._views = images, images
            return
        if self._batches_epoch != trainer.current_epoch:  # not at its start, where another callback may seed later
            self._batches_epoch = trainer.current_epoch
            self._batches = self._unlabeled.batches(self._batches_epoch)
        loaded = next(self._batches)
        self._views = self._unlabeled.transform(loaded), self._unlabeled.transform(loaded)

    def _add_consistency(self, pl_module: L.LightningModule, training_step: Step, *given: Any, **named: Any) -> Any:
        outcome = training_step(*given, **named)
        if outcome is None:
            return None  # the module skips this batch
        seen, taught = (view + self.noise_sd * torch.randn_like(view) for view in self._views)
        student = class_probabilities(pl_module, pl_module(seen))
        difference = F.mse_loss(student, self.predict(pl_module, taught))
        pl_module.log(
            "train/consistency", difference, on_step=False, on_epoch=True, sync_dist=True, batch_size=len(seen)
        )
        addition = self.weight * ramp_up(self._progress, self.ramp_up_epochs) * difference
        if isinstance(outcome, dict):
            return {**outcome, "loss": outcome["loss"] + addition}
        return outcome + addition

    @torch.no_grad()
    def predict(self, pl_module: L.LightningModule, images: Tensor) -> Tensor:
        """Return the teacher's probabilities ``(N, K)``, in the mode that the module is in; nothing in it changes."""
        own = named_tensors(pl_module)
        teacher = {name: value.to(own[name].dtype) for name, value in self._average.tensors.items()}
        # Layers write into their buffers: they get copies.
        copies = {name: teacher.get(name, buffer).clone() for name, buffer in pl_module.named_buffers()}
        scores = torch.func.functional_call(pl_module, {**teacher, **copies}, (images,))
        return class_probabilities(pl_module, scores)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        super().on_exception(trainer, pl_module, exception)
        self._leave()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().teardown(trainer, pl_module, stage)
        self._leave()

    def _leave(self) -> None:
        if self._wrapper is not None:
            self._wrapper.remove()
        self._wrapper, self._unlabeled = None, None
        self._batches, self._batches_epoch = iter(()), -1
        self._views = ()


def ramp_up(progress: float, length: float) -> float:
    """Return exp(-5 (1 - t)²), where t rises from 0 to 1 as `progress` does to `length`; 1 from there on."""
    return math.exp(-5 * (1 - progress / length) ** 2) if progress < length else 1.0
