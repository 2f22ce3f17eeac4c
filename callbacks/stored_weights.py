"""What callbacks have in common that keep weights beside the module's own.

The module's weights stay those that are trained: after a fit, in every checkpoint's `state_dict`, whatever is evaluated
in between. The callback's weights are in the callback's part of the checkpoint.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from callbacks.weight_loan import WeightLoan


class StoredWeights(L.Callback):
    """Base of the callbacks that keep weights and lend them to the module while it is evaluated.

    In `trainer.test`, `trainer.predict` and `trainer.validate` the module has the weights that `evaluation_weights`
    returns: those of the checkpoint, where one is loaded, else those of the fit before. With `validate_with_average` it
    has them in the validation of a fit too. The launchers `ddp_spawn` and `ddp_notebook` fit in processes of their own
    and do not bring a callback's weights back; there, test a checkpoint.

    Args:
        validate_with_average: lend the weights to the validation of a fit too.

    Raises:
        ValueError: a strategy that shards the module; two callbacks that would lend their weights; a module or a
            checkpoint to evaluate that the weights do not belong to.
    """

    provides = ""
    """The name of the weights that the callback keeps, for whoever scores them."""

    def __init__(self, validate_with_average: bool = False) -> None:
        self.validate_with_average = validate_with_average
        self._loan: WeightLoan | None = None
        self._module: L.LightningModule | None = None  # whose weights are kept
        self._restored = False  # whether this stage loaded the callback's state from a checkpoint

    def stored_weights(self, pl_module: L.LightningModule) -> dict[str, dict[str, Tensor]]:
        """Return what was kept, after a fit: whole state dicts of the module by name; empty if nothing was kept."""
        raise NotImplementedError

    def evaluation_weights(self) -> Mapping[str, Tensor] | None:
        """Return tensors to evaluate with by name; empty while there are none, None if that is not this one's part."""
        return None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if isinstance(trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy):
            raise ValueError(
                f"{self._name}: {type(trainer.strategy).__name__} shards the module, and a callback sees only its "
                "shard. Use a strategy that keeps the module whole, such as 'ddp'."
            )
        self._restored = False  # a checkpoint's state is loaded after this
        if stage == "fit":
            self._module = pl_module
            lenders = [other for other in _all_of(trainer) if other.validate_with_average]
            if len(lenders) > 1:
                names = " and ".join(other._name for other in lenders)
                raise ValueError(
                    f"{names} would each validate with their weights. Set validate_with_average=False on all but one."
                )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._lend(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_back()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._lend(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_back()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._lend(trainer, pl_module)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_back()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._take_back()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._take_back()

    def _lend(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        weights = self.evaluation_weights()
        if weights is None or trainer.sanity_checking or (fitting and not self.validate_with_average):
            return
        if not fitting:
            self._check_origin(trainer, pl_module, weights)
        if weights:
            self._check_free(trainer)
            self._borrow(pl_module, weights)

    def _borrow(self, pl_module: L.LightningModule, weights: Mapping[str, Tensor]) -> None:
        self._loan = WeightLoan(pl_module, weights)
        self._loan.begin()

    def _take_back(self) -> None:
        if self._loan is not None:
            self._loan.end()
            self._loan = None

    def _check_origin(self, trainer: L.Trainer, pl_module: L.LightningModule, weights: Mapping[str, Tensor]) -> None:
        """Refuse to evaluate with weights that do not belong to the module or to the checkpoint."""
        if self._restored:
            self._module = pl_module
        elif trainer.ckpt_path is not None:
            raise ValueError(
                f"{self._name}: the checkpoint {trainer.ckpt_path} does not hold its weights; it was saved with "
                f"save_weights_only, or by a trainer without this callback. Load a whole checkpoint of this training, "
                f"or use a trainer without {self._name} to evaluate the trained weights themselves."
            )
        elif weights and pl_module is not self._module:
            raise ValueError(
                f"{self._name}: its weights are those of another module than the {type(pl_module).__name__} to "
                f"evaluate. Use a trainer without {self._name}, or one that loads a checkpoint of this module."
            )

    def _check_free(self, trainer: L.Trainer) -> None:
        for other in _all_of(trainer):
            if other._loan is not None:
                raise ValueError(
                    f"{other._name} and {self._name} would both lend the module their weights. Load those to evaluate, "
                    "stored_weights(module)[name], and use a trainer without these callbacks."
                )

    @property
    def _name(self) -> str:
        return type(self).__name__


def _all_of(trainer: L.Trainer) -> list[StoredWeights]:
    return [callback for callback in trainer.callbacks if isinstance(callback, StoredWeights)]  # type: ignore[attr-defined]


def is_trial(trainer: L.Trainer) -> bool:
    """Whether the run is a `fast_dev_run`, too short for what depends on its length."""
    return bool(getattr(trainer, "fast_dev_run", False))
