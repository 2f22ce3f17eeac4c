"""Batch norm over two processes against plain batch norm on the joined batch."""

import copy

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lit_modules.synchronized_norm import BatchNormSync, SynchronizedBatchNorm
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import make_trainer

SIZES = (5, 3)
"""Samples of each process: they need not have equally many."""


def make_layers(shape, **settings):
    """Return a plain layer, the same synchronized, the images ``(8, ...)`` and what their outputs are weighed with."""
    torch.manual_seed(0)
    kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape) + 1]
    plain = kind(shape[0], **settings).double()
    for value in (*plain.parameters(), plain.running_mean, plain.running_var):
        nn.init.uniform_(value, 0.5, 2)
    synchronized = BatchNormSync().apply(nn.Sequential(copy.deepcopy(plain)))
    return plain, synchronized, torch.randn(8, *shape).double() * 3 + 2, torch.randn(8, *shape).double()


def normalize_a_share(shape, settings):
    _, layer, images, weights = make_layers(shape, **settings)
    rank = torch.distributed.get_rank()
    share = images.split(SIZES)[rank].requires_grad_()
    normalized = layer(share)
    (normalized * weights.split(SIZES)[rank]).sum().backward()
    assert isinstance(layer[0], SynchronizedBatchNorm)
    state = [value.tolist() for value in layer.state_dict().values()]
    evaluated = layer.eval()(images).tolist()
    return normalized.tolist(), share.grad.tolist(), [p.grad.tolist() for p in layer.parameters()], state, evaluated


def check_equal_to_one_process(shape, **settings):
    plain, _, images, weights = make_layers(shape, **settings)
    normalized = plain(images.requires_grad_())
    (normalized * weights).sum().backward()
    shares = run_distributed(normalize_a_share, shape, settings)

    def joined(index):
        return torch.cat([torch.tensor(share[index], dtype=torch.float64) for share in shares])

    torch.testing.assert_close(joined(0), normalized)
    torch.testing.assert_close(joined(1), images.grad)
    for index, parameter in enumerate(plain.parameters()):  # each process has what its own samples contribute
        torch.testing.assert_close(sum(torch.tensor(share[2][index]).double() for share in shares), parameter.grad)
    for share in shares:
        for found, expected in zip(share[3], plain.state_dict().values(), strict=True):
            torch.testing.assert_close(torch.tensor(found, dtype=expected.dtype), expected)
        torch.testing.assert_close(torch.tensor(share[4]).double(), plain.eval()(images.detach()))
        plain.train()


def test_two_processes_normalize_images_as_one_with_the_joined_batch():
    check_equal_to_one_process((3, 2, 4))


def test_two_processes_normalize_features_as_one_with_a_cumulative_average():
    check_equal_to_one_process((3,), momentum=None)


def normalize_in_half_precision():
    layer = BatchNormSync().apply(nn.Sequential(nn.BatchNorm2d(3)))
    images = torch.full((4, 3, 2, 2), 2.0 * torch.distributed.get_rank()).bfloat16().requires_grad_()
    normalized = layer(images)
    normalized.square().sum().backward()
    return str(normalized.dtype), normalized.unique().tolist(), str(images.grad.dtype), layer[0].running_mean.tolist()


def test_half_precision_keeps_its_statistics_in_single():
    for rank, found in enumerate(run_distributed(normalize_in_half_precision)):
        assert found[:3] == ("torch.bfloat16", [2.0 * rank - 1], "torch.bfloat16")
        torch.testing.assert_close(torch.tensor(found[3]), torch.full((3,), 0.1))  # the mean 1 at momentum 0.1


class Net(L.LightningModule):
    """Fits points whose two halves lie far apart, so that a batch norm by process would see another thing."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.first = self.network[1]

    def training_step(self, batch, batch_idx):
        return self.network(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def train_dataloader(self):
        points = TensorDataset(
            torch.randn(32, 3, generator=torch.Generator().manual_seed(2)) + torch.arange(32)[:, None]
        )
        sampler = DistributedSampler(points, self.trainer.world_size, self.trainer.global_rank, shuffle=False)
        return DataLoader(points, 8 // self.trainer.world_size, sampler=sampler)


def fit_net():
    module = Net()
    layers = list(module.network)
    fit_distributed(module, plugins=[BatchNormSync()], max_epochs=2)
    assert list(module.network) == layers and module.first is layers[1]  # the plain layers are back
    return {name: value.tolist() for name, value in module.state_dict().items()}


def test_a_fit_on_two_processes_ends_with_the_weights_of_one_with_the_joined_batch():
    module = Net()
    make_trainer(max_epochs=2).fit(module)
    for found in run_distributed(fit_net):
        assert found.keys() == module.state_dict().keys()
        for name, value in module.state_dict().items():
            torch.testing.assert_close(torch.tensor(found[name]), value, msg=name)
