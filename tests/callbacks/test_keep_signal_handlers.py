"""SIGTERM during a fit goes to the handler that was there before, and to it alone."""

import os
import signal

import lightning as L
import pytest

from callbacks import KeepSignalHandlers
from tests.helpers.one_weight import OneWeight, make_trainer


class ToldError(RuntimeError):
    """What the test's handler raises."""


class Terminate(L.Callback):
    """Sends the process a SIGTERM in the middle of an epoch."""

    def on_train_batch_end(self, trainer, pl_module, *_):
        os.kill(os.getpid(), signal.SIGTERM)
        assert trainer.received_sigterm  # not reached where another handler has it


@pytest.fixture
def own_handler():
    def tell(number, frame):
        raise ToldError

    before = signal.signal(signal.SIGTERM, tell)
    yield tell
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("sanity_steps", [0, 1])
def test_l_sig_a_handler_that_was_there_is_called_in_the_middle_of_a_step(own_handler, sanity_steps):
    trainer = make_trainer(KeepSignalHandlers(), Terminate(), num_sanity_val_steps=sanity_steps)
    with pytest.raises(ToldError):
        trainer.fit(OneWeight())
    assert not trainer.received_sigterm
    assert signal.getsignal(signal.SIGTERM) is own_handler


def test_one_process_without_a_handler_keeps_lightnings():
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with pytest.raises(SystemExit):
        make_trainer(KeepSignalHandlers(), Terminate()).fit(OneWeight())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
