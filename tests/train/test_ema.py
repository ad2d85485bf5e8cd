import torch
from torch import nn

from sfumato.train.ema import EMA


def test_average_follows_the_decay_that_warms_up():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = EMA(net, 0.5)
    nn.init.ones_(net.weight)
    expected = 0.0
    for step in range(20):
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay)
        torch.testing.assert_close(ema.average["weight"], torch.full((1, 1), expected))


def test_own_weights_come_back_bit_for_bit():
    net = nn.Linear(3, 3)
    ema = EMA(net, 0.9)
    with torch.no_grad():
        net.weight += 1 / 3
    own = net.weight.detach().clone()
    with ema.applied():
        assert torch.equal(net.weight, ema.average["weight"])
    assert torch.equal(net.weight, own)
