"""Networks as compilers and other devices need them: one graph each, nothing read back, every tensor moved."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tiny
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser, drive
from sfumato.diffusion.guidance import Guidance, cfg, network_guide
from sfumato.diffusion.noise_schedule import NoiseTable, training_sigmas
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.tiny_decoder import TinyDecoder
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import MMDiTConfig, NoiseSchedule, UNetConfig, VAEConfig

UNET = UNetConfig(channels=(32, 64), blocks=1, depth=(1, 1), context_dim=24, heads=2)
TRANSFORMER = MMDiTConfig(
    in_channels=4, hidden=32, heads=2, depth=3, context_dim=24, pooled_dim=16, positions=8, dual=(0,)
)
AUTOENCODER = VAEConfig(channels=(8, 8), blocks=1, groups=2)


def latents() -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def cond(like: Tensor) -> Cond:
    return Cond(torch.ones(2, 5, 24, device=like.device), torch.ones(2, 16, device=like.device))


def denoised(network: nn.Module, x: Tensor) -> Tensor:
    return network(x, torch.full((2,), 400.0, device=x.device), cond(x))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "U-Net": (lambda: UNet(UNET), denoised),
    "transformer": (lambda: MMDiT(TRANSFORMER), denoised),
    "autoencoder's decoder": (lambda: VAE(AUTOENCODER).decoder, lambda net, x: net(x)),
    "tiny decoder": (lambda: TinyDecoder(4, 8, (1, 1)), lambda net, x: net(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_network_is_one_graph(name: str) -> None:
    make, ask = NETWORKS[name]
    network, x = tiny.randomise(make()), latents()
    compiled = torch.compile(network, fullgraph=True, backend="eager", dynamic=False)
    assert torch.allclose(ask(compiled, x), ask(network, x), atol=1e-4)


@torch.no_grad()
def test_other_weights_in_place_need_no_other_graph() -> None:
    """As a LoRA is taken on and off: the graph reads the weights, and does not hold them."""
    network, x, graphs = tiny.randomise(UNet(UNET)), latents(), 0

    def counting(graph: torch.fx.GraphModule, given: list[Tensor]) -> Callable[..., object]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    compiled = torch.compile(network, fullgraph=True, backend=counting, dynamic=False)
    before = denoised(compiled, x)
    weight = network.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight
    kept = weight.clone()
    weight.copy_(kept + 0.5)
    assert not torch.allclose(denoised(compiled, x), before, atol=1e-3)
    weight.copy_(kept)
    assert torch.equal(denoised(compiled, x), before)
    assert graphs == 1


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_nothing_is_left_on_the_processor_and_nothing_read_back(name: str) -> None:
    """On a device whose tensors hold no numbers: to read one raises, and so does a tensor that was left behind."""
    make, ask = NETWORKS[name]
    network = make().to("meta")
    assert ask(network, torch.empty(2, 4, 8, 8, device="meta")).device.type == "meta"


def test_a_sampling_loop_reads_nothing_back_from_the_network() -> None:
    """Its noise levels are on the processor; of what the network answers no number decides what comes next."""

    class Silent(nn.Module):
        """Answers with tensors that hold no numbers."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(1, device="meta"))

        def forward(self, x: Tensor, t: Tensor, cond: Cond) -> Tensor:
            return x * self.weight

    table = NoiseTable(training_sigmas(NoiseSchedule()))
    denoiser, sigmas = Denoiser(Silent(), "eps", table), sigma_list("karras", table, 4)
    prompts = [network_guide(denoiser, Cond(torch.empty(1, 5, 24, device="meta"))) for _ in range(2)]
    guided = Guidance(lambda: cfg(prompts[0], prompts[1], 5.0))
    for name in ("euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "ddim"):
        stream = NoiseStream(1, (1, 4, 8, 8), torch.device("meta"))
        x = torch.empty(1, 4, 8, 8, device="meta")
        job = SAMPLERS[name].job(guided, x, sigmas, EXPLODING, stream, table)
        last = [event for _, event in drive([job])][-1]
        assert getattr(last, "x", None) is not None, getattr(last, "error", None)
