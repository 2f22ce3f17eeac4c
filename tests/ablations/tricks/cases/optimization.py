"""The tricks on the optimizer and the initial weights: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("adamw", {"model.optimizer": "AdamW"}),
    Case("no_bias_decay", {"model.parameter_groups.bias_decay": False}),
    Case("zero_gamma", {"model.network.zero_gamma": True}),
    Case("adam", {"model.optimizer": "Adam"}),
    Case("radam", {"model.optimizer": "RAdam"}),
    Case("rmsprop", {"model.optimizer": "RMSprop"}),
    Case("nesterov", {"model.optimizer.nesterov": True}),
    Case("gradient_clipping", {"trainer.gradient_clip_val": 1.0, "trainer.gradient_clip_algorithm": "norm"}),
    Case("gradient_accumulation", {"trainer.accumulate_grad_batches": 2}, {"batches": 2}),
    Case("mixed_precision", {"trainer.precision": "bf16-mixed"}),
    Case("large_batch", {"data.batch_size": 50}, {"factor": 2}),
    Case("small_batch", {"data.batch_size": 5}),
    Case("weight_decay", {"model.optimizer.weight_decay": 5e-4}),
    Case("xavier_init", {"model.init": "XavierInitialization"}),
    Case("he_init", {"model.init": "HeInitialization"}),
    Case("orthogonal_init", {"model.init": "OrthogonalInitialization"}),
    Case("sync_batchnorm", {"trainer.sync_batchnorm": True}),
]

OFF = {
    "model.network.zero_gamma": False,
    "model.parameter_groups.bias_decay": True,
    "model.init": None,
    "trainer.gradient_clip_val": None,
    "trainer.gradient_clip_algorithm": None,
    "trainer.sync_batchnorm": False,
    "trainer.accumulate_grad_batches": 1,
    "trainer.precision": None,
    "model.optimizer.nesterov": False,
}
