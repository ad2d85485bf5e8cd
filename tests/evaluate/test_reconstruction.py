import pytest
import torch

from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.reconstruction import measure_reconstruction, psnr, there_and_back
from sfumato.nets.vae import VAE
from sfumato.spec import VAEConfig


class Shift(VAE):
    """Gives every picture back, a tenth of the full range brighter."""

    def encode(self, x):
        return torch.cat([x, torch.full_like(x, 7.0)], 1)

    def decode(self, z):
        return z + 0.2


def test_psnr_is_a_mean_over_each_picture():
    x = torch.zeros(2, 3, 4, 4)
    y = torch.stack([x[0] + 0.2, x[1]])
    assert psnr(x, y).tolist() == pytest.approx([20, 100], abs=1e-4)


def test_the_mean_is_taken_and_the_picture_clamped():
    back = there_and_back(Shift(VAEConfig(channels=(32,), blocks=1)), torch.tensor([-0.5, 0.9]).expand(1, 3, 1, 2))
    assert back[0, 0, 0].tolist() == pytest.approx([-0.3, 1])


def test_a_known_loss_has_its_psnr(squares: EmojiData):
    told: list[tuple] = []
    vae = Shift(VAEConfig(channels=(32,), blocks=1))
    found = measure_reconstruction(vae, squares, squares.splits["unseen_concept"], lambda *what: told.append(what))
    assert found.white.n == 12
    assert found.white.mean > found.colours.mean > 20  # white cannot get brighter
    assert told[-1] == ("reconstruction on colours", 12, 12)


def test_an_autoencoder_without_quant_convolutions_is_measured(squares: EmojiData):
    vae = VAE(VAEConfig(channels=(32,), blocks=1, quant_convs=False))
    found = measure_reconstruction(vae, squares, squares.splits["unseen_picture"], lambda *what: None)
    assert found.white.n == len(squares.splits["unseen_picture"]) and found.white.mean > 0
