"""What the names of metrics say."""

import pytest

from ablations.metric_kinds import UNKNOWN, MetricKind, metric_kind

LOSS = MetricKind(higher_is_better=False, is_share=False, is_loss=True)
QUANTITY = MetricKind(higher_is_better=False, is_share=False)
ERROR_SHARE = MetricKind(higher_is_better=False, is_share=True)
SHARE = MetricKind(higher_is_better=True, is_share=True)

LOGGED = {
    "test/loss": LOSS,
    "val/loss": LOSS,
    "train/loss": LOSS,
    "train/loss_objectness": LOSS,
    "test/unmatched_queries": QUANTITY,
    "test/false_positives": QUANTITY,
    "test/accuracy": SHARE,
    "test/f1": SHARE,
    "test/map": SHARE,
    "test/map_50": SHARE,
    "test/map_small": SHARE,
    "test/ap_Platelets": SHARE,
    "test/minp": SHARE,
    "test/recall_at_10": SHARE,
}
"""What the modules of this library log."""

OF_USERS = {
    "val_loss": LOSS,
    "val/loss_epoch": LOSS,
    "val/loss/dataloader_idx_0": LOSS,
    "test/dice_loss": LOSS,
    "test/nll": LOSS,
    "test/negative_log_likelihood": LOSS,
    "test/mae": QUANTITY,
    "val/rmse": QUANTITY,
    "test/mean_absolute_error": QUANTITY,
    "test/reprojection_error": QUANTITY,
    "test/perplexity": LOSS,
    "test/false_positives_at_recall_90": QUANTITY,
    "test/error": ERROR_SHARE,
    "test_error": ERROR_SHARE,
    "test/error_top_5": ERROR_SHARE,
    "test/top1_err": ERROR_SHARE,
    "test/error_rate": ERROR_SHARE,
    "test/ece": ERROR_SHARE,
    "test/calibration_error": ERROR_SHARE,
    "test/fpr_at_95_tpr": ERROR_SHARE,
    "acc": SHARE,
    "val_acc": SHARE,
    "test/top5_accuracy": SHARE,
    "test/accuracy_top_5": SHARE,
    "test/macro_f1": SHARE,
    "test/f1_macro": SHARE,
    "test/mAP50": SHARE,
    "test/mAP@50": SHARE,
    "test/mean_iou": SHARE,
    "test/auroc": SHARE,
}


@pytest.mark.parametrize(("metric", "kind"), [*LOGGED.items(), *OF_USERS.items()])
def test_the_name_of_a_metric_says_what_is_better_and_whether_it_is_a_share(metric: str, kind: MetricKind) -> None:
    assert metric_kind(metric) == kind


@pytest.mark.parametrize(
    "metric",
    [
        "", "test/", "test/score", "test/wear", "test/top_5", "test/neg_loss", "test/loss_scale", "test/accuracy_drop",
        "test/time_to_accuracy_90", "test/glossiness", "test/lossless", "test/mapping", "test/at_1",
    ],
)  # fmt: skip
def test_of_another_name_nothing_is_known_and_higher_counts_as_better(metric: str) -> None:
    kind = metric_kind(metric)
    assert kind == UNKNOWN
    assert (kind.is_known, kind.higher_is_better, kind.scale) == (False, True, 100.0)


def test_a_kind_says_how_callbacks_and_tables_call_it() -> None:
    assert [(kind.mode, kind.better, kind.scale) for kind in (QUANTITY, ERROR_SHARE, SHARE)] == [
        ("min", "lower", 1.0),
        ("min", "lower", 100.0),
        ("max", "higher", 100.0),
    ]
