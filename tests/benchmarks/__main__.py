"""Measures everything, or what is named, and prints a line each; exits with 1 if a goal is missed."""

import logging
import sys
import warnings

from tests.benchmarks import (
    averaging,
    cluster,
    detection,
    images,
    page,
    retrieval,
    retriever,
    study,
    tracking,
    training,
)

MEASURES = {
    "overhead": training.overhead,
    "throughput": training.throughput,
    "augmentation": training.augmentation,
    "plan": study.plan,
    "table": study.table,
    "scan": study.scan,
    "statistics": study.statistics,
    "report": page.report,
    "post_training": study.post_training,
    "memory": study.memory,
    "wandb": tracking.wandb,
    "ema": averaging.ema,
    "folder": images.folder,
    "decoding": images.decoding,
    "streaming": images.streaming,
    "resident": images.resident,
    "detection_losses": detection.detection_losses,
    "coco_map": detection.coco_map,
    "retrieval": retrieval.ranking,
    "retriever": retriever.throughput,
    "ddp": cluster.ddp,
    "submitting": cluster.submitting,
}


def main(names: list[str]) -> int:
    """Run the named measures, or all."""
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if unknown := [name for name in names if name not in MEASURES]:
        print(f"There is no benchmark {unknown[0]!r}; there are {', '.join(MEASURES)}.", file=sys.stderr)
        return 2
    met = True
    for name in names or MEASURES:
        measured = MEASURES[name]()
        for figure in measured if isinstance(measured, list) else [measured]:
            met = met and figure.is_met()
            print(figure, flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
