"""The tricks on the network: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("resnet_b", {"model.network.stride_in_3x3": True}, before={"model.network.block": "bottleneck"}),
    Case("resnet_c", {"model.network.deep_stem": True}),
    Case("resnet_d", {"model.network.deep_stem": True, "model.network.avg_pool_shortcut": True}),
    Case(
        "deeper_thinner",
        {"model.network.layers": [2, 2, 3], "model.network.width": 10},
        before={"model.network.layers": [1, 1, 1], "model.network.width": 16},
    ),
    Case(
        "wider_first_layer",
        {"model.network.stem_width": 41, "model.network.width": 13},
        before={"model.network.width": 16},
    ),
    Case("stacked_3x3", {"model.network.convolution": "stacked_3x3"}, before={"model.network.kernel": 5}),
    Case("asymmetric_conv", {"model.network.convolution": "asymmetric"}),
    Case("acnet", {"model.network.convolution": "acnet"}),
    Case(
        "separable_conv",
        {"model.network.convolution": "separable", "model.network.width": 8},
        before={"model.network.width": 4},
    ),
    Case("prelu", {"model.network.activation": "prelu"}),
    Case("leaky_relu", {"model.network.activation": "leaky_relu"}),
    Case("dual_pooling", {"model.network.pooling": "dual"}),
    Case("dense_shortcut", {"model.network.shortcut": "dense"}),
    Case("no_shortcut", {"model.network.shortcut": "none"}),
    Case("squeeze_excite", {"model.network.squeeze_excite": 16}),
    Case("stochastic_depth", {"model.network.stochastic_depth": 0.2}),
    Case("blur_pool", {"model.network.blur_pool": True}),
    Case("no_batch_norm", {"model.network.norm": "none"}),
    Case("group_norm", {"model.network.norm": "group"}),
    Case("ibn", {"model.network.norm": "ibn"}),
    Case("gem_pooling", {"model.network.pooling": "gem"}),
    Case("last_stride_1", {"model.network.last_stride_1": True}),
    Case("dropout", {"model.network.dropout": 0.2}),
    Case(
        "prune_large",
        {"model.network.width": 8, "trainer.callbacks.MagnitudePruning": "MagnitudePruning"},
        before={"model.network.width": 4},
    ),
]

OFF = {
    "model.network.stride_in_3x3": False,
    "model.network.deep_stem": False,
    "model.network.avg_pool_shortcut": False,
    "model.network.dropout": 0.0,
    "model.network.stem_width": None,
    "model.network.activation": "relu",
    "model.network.norm": "batch",
    "model.network.convolution": "plain",
    "model.network.kernel": 3,
    "model.network.shortcut": "add",
    "model.network.pooling": "average",
    "model.network.squeeze_excite": None,
    "model.network.stochastic_depth": 0.0,
    "model.network.blur_pool": False,
    "model.network.last_stride_1": False,
}
