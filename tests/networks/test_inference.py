import pytest
import torch
from odd_networks import MovesStatistics, Tiny, TurnsItselfOn

from mvp.errors import MvpError
from mvp.networks import Network, inference


def test_statistics_stay_and_modes_come_back():
    module = Tiny().train()
    module.norm.eval()  # frozen by its user: a plain train() afterwards would thaw it
    before = module.norm.running_mean.clone()
    with inference(Network("tiny", module, "fc")):
        assert not any(m.training for m in module.modules())
        assert module(torch.rand(4, 3, 8, 8)).is_inference()
    assert torch.equal(module.norm.running_mean, before)
    assert module.training
    assert module.body.training
    assert not module.norm.training


def test_modes_come_back_after_an_exception():
    module = Tiny().train()
    with pytest.raises(ZeroDivisionError), inference(module):
        raise ZeroDivisionError
    assert all(m.training for m in module.modules())


def test_training_mode_inside_is_an_error():
    module = TurnsItselfOn().eval()
    with (
        pytest.raises(MvpError, match=r"training mode during inference, norm first"),
        inference(module),
    ):
        module(torch.rand(4, 3, 8, 8))
    assert not module.norm.training


def test_statistics_that_move_are_an_error():
    module = MovesStatistics().eval()
    with pytest.raises(MvpError, match="buffers of the network changed"), inference(module):
        module(torch.rand(4, 3, 8, 8))
