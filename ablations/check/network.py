"""Diagnostics of the network: which outputs depend on which inputs, what its last layer is, and its batches' sizes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ablations.check.finding import Seen, diagnostic
from ablations.check.needs import BATCH_NORM, CLASSIFIER, SCORE_LOSS
from ablations.check.subject import Moment, Subject

SAMPLES = 4
DRAWS = 8
"""Random networks whose outputs are looked at. That scores of 2 classes are positive in all is a chance in 65,536."""

ZEROS = 0.01
"""Part of the scores that a ReLU makes 0, at least; a sigmoid makes none, however far down."""


@diagnostic("independence of samples", CLASSIFIER)
def independence(subject: Subject) -> Seen:
    """Whether an image that changes changes its own scores and no others, in evaluation mode."""
    shape, own, others = subject.at_first_batch(_change_each_sample)
    text = f"{SAMPLES} images give scores {shape}"
    if len(shape) != 2 or shape[0] != SAMPLES:
        return Seen(text, f"Scores must be ({SAMPLES}, classes), a row for each image. Look at reshapes and views.")
    text = f"one image changed: its own scores by {own:.2g}, others by {others:.2g}"
    if not others <= 1e-3 * own:
        return Seen(
            text,
            "Samples must not see each other in evaluation. Look for a reshape, view, transpose, softmax or norm over "
            "dimension 0.",
        )
    if own == 0:
        return Seen(text, "The scores do not depend on the images. Look for a layer that drops or overwrites them.")
    return Seen(text)


def _change_each_sample(moment: Moment) -> tuple[tuple[int, ...], float, float]:
    """Return the scores' shape, and the largest change of the scores of images that changed and that did not.

    Under a precision whose sums depend on the batch, the others change by a rounding error.
    """
    moment.module.eval()
    images = moment.batch[0]
    images = images.repeat(-(-SAMPLES // len(images)), 1, 1, 1)[:SAMPLES]
    before = moment.compute_scores(images)
    shape = tuple(before.shape)
    if len(shape) != 2 or shape[0] != SAMPLES:
        return shape, 0.0, 0.0
    own, others = 0.0, 0.0
    for place in range(SAMPLES):
        changed = images.clone()
        changed[place] = images.mean() + images.std() * torch.randn_like(images[place])
        change = (moment.compute_scores(changed) - before).abs().amax(1)
        own = max(own, float(change[place]))
        change[place] = 0
        others = max(others, float(change.max()))
    return shape, own, others


@diagnostic("activation after the last layer", CLASSIFIER, SCORE_LOSS)
def output_activation(subject: Subject) -> Seen:
    """Whether the network ends with a softmax, a sigmoid or a ReLU, which the loss does not expect.

    Said by the values of its outputs with random weights.
    """
    scores = subject.at_first_batch(_scores_of_random_networks)
    text = f"scores from {float(scores.min()):.2g} to {float(scores.max()):.2g} over {DRAWS} random networks"
    if not (found := _name_activation(scores)):
        return Seen(text)
    loss = type(subject.parts.module.loss).__name__
    return Seen(
        f"{text}, as of a {found}",
        f"{loss} takes scores as the last linear layer gives them and has its own nonlinearity. Remove the {found}.",
    )


def _scores_of_random_networks(moment: Moment) -> Tensor:
    """Return scores ``(DRAWS, N, K)`` with all parameters drawn anew, about as large as they were."""
    parameters = list(moment.module.network.parameters())
    spreads = [float(tensor.detach().std()) if tensor.numel() > 1 else 0.0 for tensor in parameters]
    draws = []
    for _ in range(DRAWS):
        with torch.no_grad():
            for tensor, spread in zip(parameters, spreads, strict=True):
                tensor.normal_(0, spread or 0.1)
        draws.append(moment.compute_scores(moment.batch[0]))
    return torch.stack(draws)


def _name_activation(scores: Tensor) -> str:
    if not scores.isfinite().all() or scores.min() < 0:
        return ""
    sums = scores.sum(-1)
    if torch.allclose(sums, torch.ones_like(sums), atol=1e-2):  # bf16 has 3 digits
        return "softmax"
    if (scores == 0).float().mean() > ZEROS:
        return "ReLU"
    return "sigmoid" if scores.max() <= 1 else "softplus"


@diagnostic("batch of one with batch normalization", CLASSIFIER, BATCH_NORM)
def batch_of_one(subject: Subject) -> Seen:
    """Whether batch normalization ever has the statistics of one image alone in training."""
    size, positions = subject.at_first_batch(_smallest_batch)
    text = f"smallest training batch {size}, at least {size * positions} values for each statistic"
    if size > 1:
        return Seen(text)
    failure = "training stops there, and " if positions == 1 else ""
    return Seen(
        text,
        f"With one image {failure}batch normalization erases what sets it apart. Use a larger batch size, drop the "
        "last batch (drop_last) if it is the only one, or use group normalization.",
    )


def _smallest_batch(moment: Moment) -> tuple[int, int]:
    """Return the size of the smallest training batch and the fewest positions of an image in a batch-norm layer."""
    positions: list[int] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        positions.append(inputs[0][0, 0].numel())

    layers = [layer for layer in moment.module.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    moment.module.eval()  # one value is an error in training
    images = moment.batch[0]
    moment.compute_scores(images)
    for hook in hooks:
        hook.remove()
    sizes = [len(images)]
    loader = moment.trainer.train_dataloader
    if isinstance(loader, DataLoader) and loader.batch_size and not loader.drop_last:
        sizes.append(len(loader.sampler) % loader.batch_size or loader.batch_size)  # type: ignore[arg-type]
    return min(sizes), min(positions, default=1)
