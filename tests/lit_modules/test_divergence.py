"""The error of a diverged training."""

import pickle

from lit_modules import DivergedError


def test_the_message_names_epoch_and_loss_and_survives_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(DivergedError(epoch=3, loss=float("inf"))))
    assert (error.epoch, error.loss) == (3, float("inf"))
    assert "epoch 3 (counted from 0) is inf" in str(error)
