"""The processes of one training, joined.

Each of them runs the same code. The first one reads and writes the store and decides; it tells the others, which only
take part in the fit. All leave before the scoring: the first process tests alone, so every example counts once.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from ablations.environment import library_versions, version_differences
from ablations.errors import RecipeError
from ablations.failures import TrainingError
from ablations.processes import Processes
from lit_modules.synchronized_norm import BatchNormSync

MEETING = "TRICKSTACK_MEETING"
"""The variable that names the file over which processes on one machine find each other."""

PATIENCE = timedelta(hours=1)
"""How long a process waits for the others before it gives up."""

Value = TypeVar("Value")


class MixedVersionsError(TrainingError):
    """The processes of one training run different versions of a library."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training.

    Args:
        rank: its number among all, from 0.
        local_rank: its number among those of its node.
        count: how many there are.
        local_count: how many a node has.
    """

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, value: Value) -> Value:
        """Return what the first process has; all call this, and what the others give is left unread."""
        if not dist.is_initialized():
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]

    def leave(self) -> None:
        """Part from the other processes; a second time does nothing."""
        if dist.is_initialized():
            dist.destroy_process_group()

    def trainer_arguments(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the trainer of this process: Lightning starts no others, and norms are in step."""
        plugins = arguments.get("plugins") or []
        plugins = list(plugins) if isinstance(plugins, list | tuple) else [plugins]
        plugins.append(LightningEnvironment() if self.count == 1 else _Joined(self))
        if arguments.get("sync_batchnorm"):
            plugins.append(BatchNormSync())
        return {**arguments, "plugins": plugins, "sync_batchnorm": False}


def started_as() -> Ranks | None:
    """Return which process this is by what srun, torchrun or the local executor say; `None` if it was started alone."""
    for rank, local, count in (("RANK", "LOCAL_RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS")):
        if rank in os.environ and local in os.environ and int(os.environ.get(count, "1")) > 1:
            total = int(os.environ[count])
            each = os.environ.get("LOCAL_WORLD_SIZE") or total // int(os.environ.get("SLURM_NNODES", "1"))
            return Ranks(int(os.environ[rank]), int(os.environ[local]), total, int(each))
    return None


@contextmanager
def joined(wanted: Processes, accelerator: str) -> Iterator[Ranks]:
    """Join the processes of a training, and part from them at the end.

    Args:
        wanted: the processes that the recipe asks for.
        accelerator: the accelerator that it asks for.

    Raises:
        RecipeError: there are not as many processes as the recipe asks for.
        MixedVersionsError: the processes run different versions of a library.
    """
    ranks = started_as() or Ranks()
    if (ranks.count, ranks.local_count) != (wanted.count, wanted.devices):
        raise RecipeError(
            f"the recipe asks for {wanted}, but {ranks.count} process(es) were started, {ranks.local_count} on a node. "
            f"Start one for each device, or set trainer.devices and trainer.num_nodes to what there is."
        )
    if ranks.count == 1:
        yield ranks
        return
    _join(ranks, on_gpus=accelerator != "cpu" and torch.cuda.is_available())
    try:
        _check_versions()
        yield ranks
    finally:
        ranks.leave()


_joins = itertools.count()


def _join(ranks: Ranks, on_gpus: bool) -> None:
    if on_gpus:
        torch.cuda.set_device(ranks.local_rank)
    if meeting := os.environ.get(MEETING):
        store: dist.Store = dist.FileStore(meeting, ranks.count)
    else:
        if "MASTER_ADDR" not in os.environ:
            os.environ.update(_slurm_address())
        store, _, _ = next(dist.rendezvous("env://", ranks.rank, ranks.count, timeout=PATIENCE))
    store = dist.PrefixStore(str(next(_joins)), store)  # what an earlier training left there is not met again
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.count, timeout=PATIENCE)


def _slurm_address() -> dict[str, str]:
    """Return where the processes of a Slurm job meet: a port of its first node that follows from the job's number."""
    first = SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_JOB_NODELIST"])
    return {"MASTER_ADDR": first, "MASTER_PORT": str(15000 + int(os.environ["SLURM_JOB_ID"]) % 10000)}


def _check_versions() -> None:
    """Compare the versions of the libraries; all processes see the same, and fail together."""
    own = (os.uname().nodename, library_versions())
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, own)
    for node, versions in found:
        if differences := version_differences(found[0][1], versions):
            raise MixedVersionsError(f"{node} has {differences} as {found[0][0]}. Install the same on all nodes.")


class _Joined(ClusterEnvironment):
    """Tells Lightning that the processes are there and joined already."""

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self._ranks = ranks

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return int(os.environ.get("MASTER_PORT", "0"))

    @staticmethod
    def detect() -> bool:
        return False  # it is only ever handed over

    def world_size(self) -> int:
        return self._ranks.count

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._ranks.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._ranks.local_rank

    def node_rank(self) -> int:
        return self._ranks.rank // self._ranks.local_count
