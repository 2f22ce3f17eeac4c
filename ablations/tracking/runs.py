"""The W&B run of a training.

Lightning's logger writes into a run that is opened here: its own would join whatever run the process has open, set
`WANDB_MODE` for the whole process, and know neither exit code nor axes. The run's id follows from the training's key
and seed, so a training that is taken up again goes on with its run.

Tracking never decides over a training: whatever goes wrong with W&B is said once, and the training goes on.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from ablations.plan import Training
from ablations.tracking import contents

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger(__name__)

INIT_SECONDS = 30.0
"""How long W&B has to answer before a run is written to the disk instead; `WANDB_INIT_TIMEOUT` overrides it."""
FINISH_SECONDS = 120.0
"""How long the end of a training waits for what is yet to be sent."""
SERVICE = "WANDB_SERVICE"
"""The environment variable that makes a process share the service of the process that started it."""


class TrainingLogger(WandbLogger):
    """Lightning's W&B logger on a run of the training's own; opened when it is first needed, on global rank 0 alone.

    Args:
        training: a training with `tracking`.
    """

    def __init__(self, training: Training) -> None:
        assert training.tracking is not None
        super().__init__(project=training.tracking.project, save_dir=training.folder)
        self.training = training
        self.lost = False
        self._has_curves = contents.sent(training) is not None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run. It is made after Lightning knows the ranks, whoever launched the processes."""
        if self._experiment is None:
            self._experiment = _open_training(self.training)
            contents.note_sent(self.training, scores=False)
        return self._experiment

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_experiment": None}  # a process that is started later opens the run itself

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._has_curves = True
        with self._goes_on():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def close(self) -> None:
        """Put what a finished training left into its run, and end that.

        The curves are sent, too, if no run has them: where the training was done before anybody asked for a run.
        """
        with self._goes_on():
            if not self._has_curves:
                for line in contents.curve_lines(self.training):
                    self.experiment.log(line)
            if shown := contents.pictures(self.training):
                self.experiment.log(shown)
            self.experiment.summary.update(contents.summary(self.training))
            contents.note_sent(self.training, scores=True)
        self._end(exit_code=0)

    @rank_zero_only
    def fail(self, error: BaseException) -> None:
        """Put the reason of a failure into the run, and end that as failed."""
        with self._goes_on():
            self.experiment.summary.update({"failure": f"{type(error).__name__}: {first_line(error)}"})
        self._end(exit_code=1)

    def _end(self, exit_code: int) -> None:
        if self._experiment is not None:
            with self._goes_on():
                self._experiment.finish(exit_code=exit_code)
            self._experiment = None
        with self._goes_on():
            close_service()

    @contextlib.contextmanager
    def _goes_on(self) -> Iterator[None]:
        """Skip what W&B cannot do any more, and say so the first time."""
        try:
            yield
        except Exception as error:  # the client raises whatever its sockets lead it to
            if not self.lost:
                log.warning("W&B takes no more (%s); the training goes on without it.", first_line(error))
            self.lost = True


@contextlib.contextmanager
def track(training: Training) -> Iterator[TrainingLogger | None]:
    """Give a training its logger, and end the run with the block: as failed if that raises; `None` without tracking."""
    if training.tracking is None:
        yield None
        return
    logger = TrainingLogger(training)
    try:
        with warnings.catch_warnings():  # Lightning's advice on what is logged by step; metrics go by epoch here
            warnings.filterwarnings("ignore", message="The number of training batches .* logging interval")
            yield logger
    except BaseException as error:
        logger.fail(error)
        raise
    logger.close()


def send_finished(trainings: Iterable[Training]) -> int:
    """Make a run for each finished training whose scores are in none yet; return how many."""
    waiting = [training for training in trainings if training.is_done() and not _is_sent(training)]
    for training in waiting:
        with track(training):
            pass
    return len(waiting)


def _is_sent(training: Training) -> bool:
    names = contents.sent(training)
    return names is not None and set(training.scorings) <= names


def with_own_loggers(logger: TrainingLogger, own: Any) -> list[Logger]:
    """Return what a trainer takes as `logger`: those that the recipe names, if any, and the training's."""
    named = own if isinstance(own, list) else [own] if isinstance(own, Logger) else []
    return [*named, logger]


def run_id(training: Training) -> str:
    """Return the id of a training's run, the same whenever it is taken up again."""
    return f"{training.key}-{training.seed}"


def open_run(*, project: str, folder: Path, offline: bool, **arguments: Any) -> "Run":
    """Open a run of its own, with its files in `folder`, whatever else the process has open or the environment says.

    If W&B cannot be reached, that is said, and the run is written to the disk; `wandb sync` sends it later.

    Args:
        project: the project, or `team/project`.
        folder: where its files go.
        offline: whether to write to the disk alone.
        arguments: more for `wandb.init`.
    """
    import wandb  # only here: whoever does not track should not wait for it

    folder.mkdir(parents=True, exist_ok=True)
    os.environ.pop(SERVICE, None)  # a service of its own, never that of a process further up
    entity, _, name = project.rpartition("/")
    seconds = float(os.environ.get("WANDB_INIT_TIMEOUT", INIT_SECONDS))
    settings = wandb.Settings(silent=True, console="off", init_timeout=seconds, finish_timeout=FINISH_SECONDS)
    arguments |= {"project": name, "entity": entity or None, "dir": str(folder), "settings": settings}
    arguments |= {"resume": "allow", "reinit": "create_new"}
    try:
        run = wandb.init(**arguments, mode="offline" if offline else None)
    except (wandb.Error, OSError, TimeoutError) as error:
        log.warning(
            "W&B cannot be reached (%s); `wandb sync %s/wandb/offline-run-*` sends this later.",
            first_line(error),
            folder,
        )
        wandb.teardown()  # the attempt that failed keeps the id
        run = wandb.init(**arguments, mode="offline")
    run.define_metric("epoch")
    for pattern in ("train/*", "val/*", "test/*"):
        run.define_metric(pattern, step_metric="epoch")
    return run


def close_service() -> None:
    """End the client's service, unless a run that is not ours is still open in this process."""
    import wandb

    if wandb.run is None:
        wandb.teardown()
        os.environ.pop(SERVICE, None)


def _open_training(training: Training) -> "Run":
    tracking = training.tracking
    assert tracking is not None
    about = {"name": tracking.study, "rows": list(tracking.rows), "key": training.key, "seed": training.seed}
    return open_run(
        project=tracking.project,
        folder=training.folder,
        offline=tracking.offline,
        id=run_id(training),
        name=tracking.name,
        group=tracking.study or None,
        tags=list(tracking.tags),
        job_type="training",
        config={**training.config(), "study": about},
    )


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
