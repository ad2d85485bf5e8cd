"""The network that cuts things out, and colours exchanged in them."""

import torch

from sfumato.nets.cutter import KEY, Cutter
from sfumato.nets.recolour import hsv, main_hue, tinted


def test_a_cutter_returns_premultiplied_colours_and_learns_what_is_green():
    torch.manual_seed(0)
    net, key = Cutter(8), torch.tensor(KEY)[:, None, None]
    alpha = torch.zeros(4, 1, 32, 32)
    for n in range(4):
        alpha[n, :, 4 * n : 4 * n + 16, 8:24] = 1
    thing = torch.tensor([0.9, 0.1, 0.2])[:, None, None] * alpha
    shown = thing + (1 - alpha) * key
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(40):
        found = net(shown)
        assert (found[:, :3] <= found[:, 3:] + 1e-6).all() and found.min() >= 0 and found.max() <= 1
        loss = (found - torch.cat([thing, alpha], 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (net(shown)[:, 3:] - alpha).abs().mean() < 0.05


def test_the_main_hue_is_exchanged_and_others_stay():
    rgb = torch.zeros(1, 3, 8, 8)
    rgb[:, 0] = 0.8  # red
    rgb[:, :, :2] = torch.tensor([0.1, 0.1, 0.9])[None, :, None, None]  # a blue stripe
    alpha = torch.ones(1, 1, 8, 8)
    hue, share = main_hue(rgb, alpha)
    assert hue.item() % 360 < 25 or hue.item() > 335
    assert share.item() == 0.75
    green = tinted(rgb, alpha, torch.tensor([[0.0, 0.7, 0.0]]))
    assert torch.allclose(green[0, :, 5, 5], torch.tensor([0.0, 0.7, 0.0]), atol=0.02)
    assert torch.equal(green[:, :, :2], rgb[:, :, :2])


def test_a_white_thing_is_seen_in_coloured_light():
    white, alpha = torch.ones(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
    blue = tinted(white, alpha, torch.tensor([[0.1, 0.3, 0.9]]))
    assert blue[0, :, 0, 0].tolist() == torch.tensor([0.1, 0.3, 0.9]).tolist()
    assert hsv(blue)[2].max() <= 1
