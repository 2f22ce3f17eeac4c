"""What a metric's name says: whether more of it is better, and what a table multiplies it with.

Study files, tricks and plans all ask here, so a study, a callback and a schedule never disagree about a metric. A name
that is not listed is unknown, and whoever asks decides; a name is listed only if all the field means the same by it.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

LOSSES = ("loss", "nll", "negative log likelihood", "cross entropy", "perplexity")
"""Better when they are lower, no shares, and finite unless the network's outputs are not."""

QUANTITIES = (
    "mae", "mse", "rmse", "squared error", "absolute error", "brier", "brier score", "false positives",
    "false negatives", "unmatched queries",
)  # fmt: skip
"""Better when they are lower, and no shares."""

ERROR_SHARES = (
    "error", "error rate", "classification error", "top 1 error", "top 5 error", "miss rate", "ece", "mce",
    "calibration error", "false positive rate", "false negative rate", "fpr", "fnr", "eer", "wer", "cer",
)  # fmt: skip
"""Better when they are lower, from 0 to 1."""

SHARES = (
    "accuracy", "acc", "map", "mar", "ap", "average precision", "precision", "recall", "minp", "f1", "f1 score", "iou",
    "dice", "auc", "auroc", "specificity", "sensitivity", "true positive rate", "tpr", "ndcg", "mrr", "hit rate",
)  # fmt: skip
"""Better when they are higher, from 0 to 1."""

QUALIFIERS = {
    "top", "k", "macro", "micro", "weighted", "mean", "avg", "average", "small", "medium", "large", "epoch", "step",
}  # fmt: skip
"""What may stand behind a metric's name and changes neither its direction nor its scale."""

OTHERS = {
    "neg", "negative", "minus", "inverse", "drop", "gap", "delta", "change", "ratio", "scale", "weight", "time",
    "epochs", "steps", "to", "until",
}  # fmt: skip
"""Words that make something else out of a metric, whose direction is anybody's guess."""

SPLITS = ("train", "val", "valid", "validation", "test")


@dataclass(frozen=True)
class MetricKind:
    """What is known of a metric.

    Args:
        higher_is_better: whether a rise is a gain.
        is_share: whether it lies between 0 and 1, so that a table may show it in percent.
        is_known: whether its name says so; if not, these are the defaults for any metric.
        is_loss: whether it is a loss, which is finite in every test.
    """

    higher_is_better: bool
    is_share: bool
    is_known: bool = True
    is_loss: bool = False

    @property
    def scale(self) -> float:
        """What a table multiplies it with: 100 for a share, which becomes points, else 1."""
        return 100.0 if self.is_share else 1.0

    @property
    def mode(self) -> str:
        """``max`` or ``min``, as callbacks and schedules call the direction."""
        return "max" if self.higher_is_better else "min"

    @property
    def better(self) -> str:
        """``higher`` or ``lower``."""
        return "higher" if self.higher_is_better else "lower"


UNKNOWN = MetricKind(higher_is_better=True, is_share=True, is_known=False)

_KINDS = {
    **dict.fromkeys(LOSSES, MetricKind(higher_is_better=False, is_share=False, is_loss=True)),
    **dict.fromkeys(QUANTITIES, MetricKind(higher_is_better=False, is_share=False)),
    **dict.fromkeys(ERROR_SHARES, MetricKind(higher_is_better=False, is_share=True)),
    **dict.fromkeys(SHARES, MetricKind(higher_is_better=True, is_share=True)),
}
_WORDS = {word for name in _KINDS for word in name.split()}


def metric_kind(metric: str) -> MetricKind:
    """Return what the name of a metric says; `UNKNOWN` if nothing.

    Example::

        metric_kind("test/loss").mode  # "min"
        metric_kind("val/macro_f1").scale  # 100.0
        metric_kind("test/my_score").is_known  # False

    Args:
        metric: as it is logged, such as `test/recall_at_1`, `val_loss`, `train/loss_box` or `test/ap_cat`.
    """
    words = _words(metric)
    whole = " ".join(words)
    if whole in _KINDS:
        return _KINDS[whole]
    if "at" in words:
        words = words[: words.index("at")]  # false positives at a recall are false positives
    while words and (words[-1] in QUALIFIERS or words[-1].isdigit()):
        words = words[:-1]
    for start in range(len(words)):  # the longest name first: "negative log likelihood" is one
        name = " ".join(words[start:])
        if name in _KINDS and OTHERS.isdisjoint(words[:start]):
            return _KINDS["absolute error" if name == "error" and start else name]  # that of a length is no share
    if words and words[0] in ("loss", "ap") and OTHERS.isdisjoint(words):  # that of a part, or of a class
        return _KINDS[words[0]]
    return UNKNOWN


def why_no_score(metrics: Mapping[str, float], headline: str = "") -> str:
    """Return why what a test logged is no score; empty if it is one.

    Losses are finite, and so is the headline metric. Any other may be NaN where there is nothing to measure, as for an
    absent class, or infinite, as the false positives at a recall that is never reached.

    Args:
        metrics: what the test logged, by name.
        headline: the metric that must be there; empty if that is not known.
    """
    if headline and headline not in metrics:
        return f"its test logged no {headline!r}; there are: {', '.join(sorted(metrics)) or 'none'}"
    for metric, value in metrics.items():
        if not math.isfinite(value) and (metric == headline or metric_kind(metric).is_loss):
            return f"{metric} is {value}"
    return ""


def _words(metric: str) -> list[str]:
    """Split a name into words: without split and data loader, and `mAP50` and `top5` apart from their numbers."""
    name = re.sub(r"/dataloader_idx_\d+$", "", metric).rpartition("/")[2].lower()
    words: list[str] = []
    for word in filter(None, re.split(r"[^a-z0-9]+", name)):
        parts = re.fullmatch(r"([a-z]+)(\d+)", word)
        words += parts.groups() if parts and word not in _WORDS else ["error" if word == "err" else word]
    return words[1:] if len(words) > 1 and words[0] in SPLITS else words
