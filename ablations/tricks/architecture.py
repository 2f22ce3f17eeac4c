"""Tricks on the network."""

from collections.abc import Callable
from typing import Any

from ablations.errors import RecipeError
from ablations.recipe import Recipe, describe
from ablations.registry import trick
from ablations.tricks.detection_models import resnet_path

ALL = {"classification", "detection", "retrieval"}
RESNET = "lit_modules.models.ResNet"


@trick(tasks=ALL, source="arXiv:1812.01187, section 4.2; facebook/fb.resnet.torch")
def resnet_b(recipe: Recipe) -> None:
    """Change a ResNet to its variant B: a bottleneck's stride moves from its first 1x1 to its 3x3."""
    network = resnet_path(recipe)
    if (block := recipe.get(f"{network}.block")) != "bottleneck":
        raise RecipeError(
            f"{network}.block is {block!r}, whose stride is on a 3x3 already. Use 'bottleneck', or drop the trick."
        )
    recipe.set(f"{network}.stride_in_3x3", True)


@trick(tasks=ALL, source="arXiv:1812.01187, section 4.2; arXiv:1512.00567")
def resnet_c(recipe: Recipe) -> None:
    """Change a ResNet to its variant C: stem of three 3x3, no stride on a 1x1."""
    network = resnet_path(recipe)
    if recipe.get(f"{network}.block") == "bottleneck":
        recipe.set(f"{network}.stride_in_3x3", True)
    recipe.set(f"{network}.deep_stem", True)


@trick(tasks=ALL, source="arXiv:1812.01187, section 4.2")
def resnet_d(recipe: Recipe) -> None:
    """Change a ResNet to its variant D: stem of three 3x3, no stride on a 1x1, average-pooled shortcuts."""
    resnet_c(recipe)
    recipe.set(f"{resnet_path(recipe)}.avg_pool_shortcut", True)


@trick(tasks={"classification"}, source="arXiv:1512.03385, section 4.1; arXiv:1605.07146")
def deeper_thinner(recipe: Recipe, depth_factor: float = 2) -> None:
    """Multiply the number of blocks by `depth_factor` and narrow the network until it costs what it did."""
    from lit_modules.models.equal_flops import find_thinner

    layers, width = _find_equal(find_thinner, recipe, depth_factor)
    recipe.set("model.network.layers", layers)
    recipe.set("model.network.width", width)


@trick(tasks={"classification"}, source="arXiv:1605.07146, section 2")
def wider_first_layer(recipe: Recipe, factor: float = 2) -> None:
    """Give the stem `factor` times as many channels and narrow the stages until the network costs what it did."""
    from lit_modules.models.equal_flops import find_wider_stem

    stem_width, width = _find_equal(find_wider_stem, recipe, factor)
    recipe.set("model.network.stem_width", stem_width)
    recipe.set("model.network.width", width)


@trick(tasks={"classification"}, source="arXiv:1409.1556, section 2.3")
def stacked_3x3(recipe: Recipe) -> None:
    """Replace each 5x5 convolution of the blocks by two 3x3 that see as many pixels."""
    if (kernel := recipe.get("model.network.kernel")) < 5:
        raise RecipeError(
            f"model.network.kernel is {kernel}, which leaves nothing to stack. Set it to 5 or more in the base first."
        )
    recipe.set("model.network.convolution", "stacked_3x3")


@trick(tasks={"classification"}, source="arXiv:1512.00567, section 3.2")
def asymmetric_conv(recipe: Recipe) -> None:
    """Replace each square convolution of the blocks by a row and a column, one after the other."""
    recipe.set("model.network.convolution", "asymmetric")


@trick(tasks={"classification"}, source="arXiv:1908.03930")
def acnet(recipe: Recipe) -> None:
    """Train a row and a column beside each square convolution of the blocks, to be fused into it afterwards."""
    recipe.set("model.network.convolution", "acnet")


@trick(tasks={"classification"}, source="arXiv:1704.04861; arXiv:1610.02357")
def separable_conv(recipe: Recipe, width_factor: int = 2) -> None:
    """Convolve each channel by itself and mix them by a 1x1, with `width_factor` times as many channels."""
    recipe.set("model.network.convolution", "separable")
    recipe.set("model.network.width", recipe.get("model.network.width") * width_factor)


@trick(tasks={"classification"}, source="arXiv:1502.01852, section 2.1")
def prelu(recipe: Recipe) -> None:
    """Let each channel learn the slope of its activation below zero."""
    recipe.set("model.network.activation", "prelu")


@trick(tasks={"classification"}, source="Maas, Hannun and Ng, 2013")
def leaky_relu(recipe: Recipe) -> None:
    """Give the activation a slope of 0.01 below zero."""
    recipe.set("model.network.activation", "leaky_relu")


@trick(tasks={"classification", "retrieval"}, source="fast.ai, 2017, AdaptiveConcatPool2d")
def dual_pooling(recipe: Recipe) -> None:
    """Feed the last layer the maximum of each channel beside its average."""
    recipe.set("model.network.pooling", "dual")


@trick(tasks={"classification"}, source="arXiv:1608.06993")
def dense_shortcut(recipe: Recipe) -> None:
    """Put a block's output beside its input, channel behind channel, where they were added."""
    recipe.set("model.network.shortcut", "dense")


@trick(tasks={"classification"}, source="arXiv:1512.03385, section 4.1")
def no_shortcut(recipe: Recipe) -> None:
    """Take the shortcuts away: what residual learning is worth."""
    recipe.set("model.network.shortcut", "none")


@trick(tasks={"classification"}, source="arXiv:1709.01507")
def squeeze_excite(recipe: Recipe, reduction: int = 16) -> None:
    """Weight the channels of each block by its content, out of `reduction` times fewer channels."""
    recipe.set("model.network.squeeze_excite", reduction)


@trick(tasks={"classification"}, source="arXiv:1603.09382")
def stochastic_depth(recipe: Recipe, p: float = 0.2) -> None:
    """Skip blocks at random in training, the last with probability `p`, earlier ones more rarely."""
    recipe.set("model.network.stochastic_depth", p)


@trick(tasks={"classification"}, source="arXiv:1904.11486")
def blur_pool(recipe: Recipe) -> None:
    """Blur before each halving of the resolution within the network."""
    recipe.set("model.network.blur_pool", True)


@trick(tasks={"classification"}, source="arXiv:1502.03167")
def no_batch_norm(recipe: Recipe) -> None:
    """Take the normalization away and give convolutions biases: what batch norm is worth."""
    recipe.set("model.network.norm", "none")


@trick(tasks={"classification"}, source="arXiv:1803.08494")
def group_norm(recipe: Recipe) -> None:
    """Normalize over groups of channels of one image, not over the batch."""
    recipe.set("model.network.norm", "group")


@trick(tasks={"classification", "retrieval"}, source="arXiv:1807.09441, section 3.3, IBN-a")
def ibn(recipe: Recipe) -> None:
    """Normalize half of the channels within the image, in all stages but the last."""
    recipe.set("model.network.norm", "ibn")


@trick(tasks={"classification", "retrieval"}, source="arXiv:1711.02512, section 3.2")
def gem_pooling(recipe: Recipe) -> None:
    """Pool by a mean of powers whose exponent learns, between average and maximum."""
    recipe.set("model.network.pooling", "gem")


@trick(tasks={"classification", "retrieval"}, source="arXiv:1711.09349, section 3.1; arXiv:1903.07071, section 3.5")
def last_stride_1(recipe: Recipe) -> None:
    """Keep the resolution in the network's last stage."""
    recipe.set("model.network.last_stride_1", True)


@trick(tasks={"classification"}, source="JMLR 15 (2014), Srivastava et al.")
def dropout(recipe: Recipe, p: float = 0.2) -> None:
    """Drop a share `p` of the features before the last layer in training."""
    recipe.set("model.network.dropout", p)


@trick(tasks={"classification"}, source="arXiv:1710.01878; arXiv:1506.02626")
def prune_large(recipe: Recipe, width_factor: int = 2, start_fraction: float = 0.5) -> None:
    """Widen the network `width_factor` times and prune it, within the run, to no more parameters than it had."""
    if width_factor < 2:
        raise RecipeError(f"prune_large: width_factor={width_factor} makes nothing larger; it must be 2 or more.")
    recipe.set("model.network.width", recipe.get("model.network.width") * width_factor)
    recipe.add(
        "trainer.callbacks", "callbacks.MagnitudePruning", keep=1 / width_factor**2, start_fraction=start_fraction
    )


def _find_equal(find: Callable[[dict[str, Any], float], Any], recipe: Recipe, factor: float) -> Any:
    """Return another form of the recipe's network that costs as many operations.

    Raises:
        RecipeError: the network is not our ResNet, or there is no such form.
    """
    network = recipe.get("model.network")
    if network["class_path"] not in (RESNET, "lit_modules.models.resnet.ResNet"):
        raise RecipeError(f"model.network is {describe(network)}, whose operations cannot be counted; use {RESNET}.")
    try:
        return find(network["init_args"], factor)
    except ValueError as error:
        raise RecipeError(f"model.network: {error}") from None
