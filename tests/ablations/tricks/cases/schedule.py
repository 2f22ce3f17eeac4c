"""The tricks on the learning rate: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("step_schedule", {"model.schedule": "FractionalMultiStepLR"}, before={"model.schedule": None}),
    Case("cosine_schedule", {"model.schedule": "CosineAnnealingLR"}),
    Case("linear_warmup", {"trainer.callbacks.LinearWarmup": "LinearWarmup"}, {"epochs": 1}),
    Case("cosine_restarts", {"model.schedule": "CosineCycles"}, {"cycles": 2}),
    Case("one_cycle", {"model.schedule": "OneCycle"}),
    Case("reduce_on_plateau", {"model.schedule": "ReduceOnPlateau"}),
    Case("reduce_on_plateau", {"model.schedule": "ReduceOnPlateau"}, base="digit_scenes"),
    Case("exponential_decay", {"model.schedule": "ExponentialDecay"}),
    Case("inverse_time_decay", {"model.schedule": "InverseTimeDecay"}),
    Case("linear_lr_scaling", {"data.batch_size": 50, "model.optimizer.lr": 0.2}, {"factor": 2}),
    Case("lr_finder", {"trainer.callbacks.LRFinder": "LRFinder"}, {"steps": 10}, before={"trainer.max_epochs": 40}),
]

OFF: dict[str, object] = {}
