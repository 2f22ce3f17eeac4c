"""SampleMean against the mean of all samples at once."""

import torch

from lit_modules.metrics import SampleMean


def test_batches_of_different_size_give_the_mean_of_all_samples() -> None:
    samples = torch.randn(11)
    mean = SampleMean()
    for batch in samples.split(4):
        mean.update(batch.sum(), len(batch))
    torch.testing.assert_close(mean.compute(), samples.mean())


def test_a_nan_in_one_batch_is_not_averaged_away() -> None:
    mean = SampleMean()
    mean.update(torch.tensor(float("nan")), 4)
    mean.update(torch.tensor(1.0), 4)
    assert mean.compute().isnan()


def test_its_state_is_no_part_of_a_state_dict() -> None:
    mean = SampleMean()
    mean.update(torch.tensor(1.0), 4)
    assert mean.state_dict() == {}


def test_a_metric_reset_in_inference_mode_still_takes_updates_outside() -> None:
    mean = SampleMean()
    with torch.inference_mode():
        mean.reset()
    mean.update(torch.tensor(6.0), 3)
    assert mean.compute() == 2
