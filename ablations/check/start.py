"""Diagnostics of the first steps: the loss at the start, and the gradients."""

import math
from collections.abc import Sequence

from ablations.check.finding import Seen, diagnostic
from ablations.check.needs import CLASSES, CLASSIFIER, CROSS_ENTROPY
from ablations.check.subject import Subject

TOLERANCE = 0.25
"""How far the first loss may lie from ln K, as a part of it; and at least as a number."""

LARGEST_NORM = 1000.0
LARGEST_GROWTH = 100.0

NAMED = 3
"""Names that are listed before it says how many more there are."""


@diagnostic("loss at the start", CLASSIFIER, CROSS_ENTROPY, CLASSES)
def initial_loss(subject: Subject) -> Seen:
    """Whether the loss of the first batch is that of a guess, ln K, whatever smoothing or mixing does to targets."""
    classes = subject.parts.datamodule.num_classes  # type: ignore[attr-defined]  # the need says that it is there
    loss, guess = subject.first_steps.losses[0], math.log(classes)
    tolerance = max(TOLERANCE * guess, TOLERANCE)
    text = f"{loss:.3f}, a guess among {classes} classes has ln {classes} = {guess:.3f}"
    if abs(loss - guess) <= tolerance:
        return Seen(text)
    if loss > guess:
        advice = (
            "Look at the loss's reduction, at the initial weights of the last layer and at the scale of the images."
        )
    else:
        advice = (
            "The network knows more than a guess: look at the loss's reduction, at loaded weights and at the labels."
        )
    return Seen(text, f"It should be within {tolerance:.2g} of that. {advice}")


@diagnostic("parameters without gradient")
def untouched_parameters(subject: Subject) -> Seen:
    """Whether every trainable parameter gets a gradient, in one of the first steps, and is the optimizer's."""
    steps = subject.first_steps
    text = f"{len(steps.untouched)} of {steps.parameters} tensors without gradient in {len(steps.gradient_norms)} steps"
    advice = ""
    if steps.untouched:
        advice += (
            f"Never moved by the loss: {_list(steps.untouched)}. Look for parts that forward does not use, detach(), "
            "no_grad() or a dead ReLU; freeze what is meant to stay (requires_grad=False). "
        )
    if steps.forgotten:
        text += f", {len(steps.forgotten)} in no group of the optimizer"
        advice += f"In no group of the optimizer: {_list(steps.forgotten)}. Give it to configure_optimizers."
    return Seen(text, advice.strip())


@diagnostic("gradients")
def gradients(subject: Subject) -> Seen:
    """Whether losses and gradients of the first steps are finite and of a sensible size."""
    losses, norms = subject.first_steps.losses, subject.first_steps.gradient_norms
    text = f"norms from {min(norms):.2g} to {max(norms):.2g} in {len(norms)} steps"
    remedy = "Lower the rate, warm it up, clip gradients (trainer.gradient_clip_val), or normalize the images."
    if wrong := _find_infinite(losses, norms):
        step, name, value = wrong
        at_once = "Look for a log, root or division of 0, or NaN in the data." if step == 0 else remedy
        return Seen(f"the {name} is {value} in step {step}", at_once)
    if max(norms) > LARGEST_NORM or max(norms) > LARGEST_GROWTH * norms[0] > 0:
        return Seen(text, f"Gradients explode: over {LARGEST_NORM:g}, or {LARGEST_GROWTH:g} times the first. {remedy}")
    return Seen(text)


def _find_infinite(losses: Sequence[float], norms: Sequence[float]) -> tuple[int, str, float] | None:
    """Return step, name and value of what is first not finite: in a step the loss comes before the gradient."""
    for step in range(max(len(losses), len(norms))):
        for name, values in (("loss", losses), ("gradient", norms)):
            if step < len(values) and not math.isfinite(values[step]):
                return step, name, values[step]
    return None


def _list(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
