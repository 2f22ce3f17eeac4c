"""How many processes a recipe's training takes: one a device, on one node or several.

The processes are started by whoever runs the training: the local executor, Slurm, torchrun. None starts others itself.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ablations import leases
from ablations.errors import UserError
from ablations.store import RunFolder

if TYPE_CHECKING:
    from ablations.plan import Training

STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")


@dataclass(frozen=True)
class Processes:
    """The processes of one training.

    Args:
        nodes: on how many machines.
        devices: on each of them.
    """

    nodes: int = 1
    devices: int = 1

    @property
    def count(self) -> int:
        return self.nodes * self.devices

    def __str__(self) -> str:
        return f"{self.nodes} node{'s' * (self.nodes > 1)} x {self.devices} device{'s' * (self.devices > 1)}"


def processes_of(trainer: dict[str, Any]) -> Processes:
    """Return the processes that a recipe's `trainer` section, checked before, asks for."""
    return Processes(int(trainer["num_nodes"]), 1 if trainer["devices"] == "auto" else int(trainer["devices"]))


def process_problems(trainer: dict[str, Any]) -> list[str]:
    """Return what is wrong with the devices, nodes and strategy of a recipe's `trainer` section, each in a sentence."""
    problems = []
    for name in ("devices", "num_nodes"):
        value = trainer[name]
        if not (str(value).isdecimal() and int(value) >= 1) and (name, value) != ("devices", "auto"):
            problems.append(
                f"trainer.{name} is {value!r}; it must be a number of {name.removeprefix('num_')} from 1 up."
            )
    if trainer["strategy"] not in STRATEGIES:
        problems.append(
            f"trainer.strategy is {trainer['strategy']!r}; it must be {' or '.join(STRATEGIES)}: the processes are "
            f"started beforehand, and each holds the whole module."
        )
    return problems


def end_process(training: "Training", sign: int, state: str | None) -> NoReturn:
    """End this process of a training at once because of a signal: with 128 + the signal's number.

    Lightning would go on to the end of its batch and leave with exit code 0, as if all were done. An exception would
    be lost where Python passes none on, as in the callback of a weak reference, and of several processes each would
    wait for the others, which wait for its gradients.

    Args:
        training: what the process is at; its last checkpoint is whole.
        sign: the signal.
        state: what the training's status becomes; `None` leaves it alone.
    """
    with contextlib.suppress(OSError):  # a full disk
        if state is not None:
            RunFolder(training.folder).write_status(state, f"stopped by {signal.Signals(sign).name}")
    with contextlib.suppress(OSError):
        leases.give_back(training.folder)
    os._exit(128 + sign)


def check_machine(trainings: Iterable["Training"], executor: str, gpus: int) -> None:
    """See that this machine can run the trainings, each by itself.

    Args:
        trainings: what is to run.
        executor: `inline` or `local`.
        gpus: the graphics processors of this machine.

    Raises:
        UserError: it cannot.
    """
    for training in trainings:
        wanted = training.processes
        if wanted.nodes > 1:
            raise UserError(
                f"trainer.num_nodes is {wanted.nodes}, and this is one machine. Run the study with --executor slurm, "
                f"or a recipe of it on each node under torchrun."
            )
        if wanted.count > 1 and executor == "inline":
            raise UserError(
                f"trainer.devices is {wanted.devices}, and --executor inline trains in this process alone. Leave "
                f"--executor out."
            )
        accelerator = training.recipe["trainer"]["accelerator"]
        if accelerator in ("gpu", "cuda") and not gpus:
            raise UserError(
                f"trainer.accelerator is {accelerator!r}, and torch finds no GPU on this machine. Set it to auto."
            )
        on_gpus = gpus and accelerator != "cpu"
        if on_gpus and wanted.devices > gpus:
            raise UserError(
                f"trainer.devices is {wanted.devices}, and this machine has {gpus} GPU{'s' * (gpus > 1)}. Set it to "
                f"at most {gpus}."
            )
