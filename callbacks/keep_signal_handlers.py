"""SIGTERM ends a run at once, as whoever started it wants."""

import signal
import threading

import lightning as L


class KeepSignalHandlers(L.Callback):
    """Leave SIGTERM to the handler that it had before the run.

    Lightning's own goes on to the end of the batch and leaves with exit code 0. Of several processes it tells the
    others from inside the handler, where they do not listen: a process that is told alone waits for them, and they
    for it, for ever.

    A single process without a handler of its own keeps Lightning's.

    Example::

        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        trainer = Trainer(callbacks=[KeepSignalHandlers()])
    """

    observes_only = True

    def __init__(self) -> None:
        self._before: object = None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore(trainer)

    def _restore(self, trainer: L.Trainer) -> None:
        has_own = self._before not in (None, signal.SIG_DFL)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and (has_own or trainer.world_size > 1):
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)  # type: ignore[arg-type]
