"""A tiny 1.x model with random weights, and its files in both layouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.checkpoint.formats import safetensors_file
from sfumato.families import family
from sfumato.loading.save import save_folder
from sfumato.spec import CLIPTextConfig, Defaults, Spec, T5Config, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer

TINY = replace(
    family("sd1").spec,
    unet=UNetConfig(channels=(32, 64), depth=(1, 0), blocks=1, context_dim=64),
    vae=VAEConfig(channels=(32, 64), blocks=1),
    text=CLIPTextConfig(
        vocab_size=600,
        hidden_size=64,
        intermediate_size=128,
        layers=2,
        heads=1,
        bos_token_id=598,
        eos_token_id=599,
        pad_token_id=599,
    ),
)


SMALL = {"channels": (32, 64), "depth": (0, 1), "blocks": 1, "middle_depth": 1}
TOWER = {"vocab_size": 600, "intermediate_size": 64, "layers": 2, "bos_token_id": 598, "eos_token_id": 599}


def shrink(name: str) -> Spec:
    """The release with its own width of text, which is what a lone U-Net is told by."""
    spec = family(name).spec
    t5 = T5Config(vocab_size=40, hidden_size=144, intermediate_size=32, layers=1, heads=2, head_dim=16)
    small = {"hidden": 64, "heads": 1, "depth": 2, "context_dim": 144, "positions": 8}

    def tower(config: CLIPTextConfig) -> CLIPTextConfig:
        return replace(config, **TOWER, pad_token_id=min(config.pad_token_id, 599))

    return replace(
        spec,
        unet=spec.unet if spec.transformer else replace(spec.unet, **SMALL),
        vae=replace(spec.vae, channels=(32, 32, 32, 32), blocks=1),
        text=tower(spec.text),
        text_2=spec.text_2 and tower(spec.text_2),
        text_3=spec.text_3 and t5,
        transformer=spec.transformer and replace(spec.transformer, **small, dual=spec.transformer.dual[:1]),
    )


@dataclass(frozen=True)
class Model:
    spec: Spec
    networks: dict[str, nn.Module]

    def original(self, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """All tensors of a single-file checkpoint, with what released files also hold."""
        tensors = self.theirs("original")
        prefix = "cond_stage_model.transformer.text_model.embeddings."
        return {name: tensor.to(dtype) for name, tensor in tensors.items()} | {
            "betas": torch.linspace(0.1, 0.2, 1000),
            prefix + "position_ids": torch.arange(77)[None],
        }

    def theirs(self, layout: str, ema: bool = False) -> dict[str, Tensor]:
        """All tensors of a layout under its names."""
        model_family = family(self.spec.family)
        keymap = model_family.keymap(self.spec, layout, self.networks, ema)
        result: dict[str, Tensor] = {}
        for part, network in self.networks.items():
            result |= keymap.to_theirs(part, network.state_dict())
        return result

    def assert_equal(self, networks: dict[str, nn.Module], dtype: torch.dtype = torch.float32) -> None:
        """The same names, and the same values after rounding to `dtype`."""
        for part, network in self.networks.items():
            state, other = network.state_dict(), networks[part].state_dict()
            assert state.keys() == other.keys()
            for name, tensor in state.items():
                assert torch.equal(tensor.to(dtype).float(), other[name].float()), name


def random_model(spec: Spec, seed: int = 0) -> Model:
    networks = family(spec.family).networks(spec)
    generator = torch.Generator().manual_seed(seed)
    for network in networks.values():
        for parameter in network.parameters():
            parameter.data.normal_(0, 0.1, generator=generator)
    return Model(spec, networks)


@pytest.fixture(scope="session", name="random_model")
def random_model_fixture() -> Callable[..., Model]:
    return random_model


@pytest.fixture(scope="session")
def shrunk() -> Callable[[str], Spec]:
    return shrink


@pytest.fixture(scope="session")
def tiny() -> Model:
    return random_model(TINY)


@pytest.fixture(scope="session")
def odd() -> Model:
    """As unlike the release as the layout allows: five VAE levels, 16 latent channels, other groups and heads."""
    spec = replace(
        TINY,
        unet=UNetConfig(
            in_channels=16,
            out_channels=16,
            channels=(32, 48, 64),
            blocks=1,
            depth=(0, 1, 1),
            context_dim=64,
            heads=None,
            head_dim=16,
            groups=16,
        ),
        vae=VAEConfig(latent_channels=16, channels=(16, 16, 32, 32, 32), blocks=1, groups=8, scale=0.5),
        prediction="v",
        noise=replace(TINY.noise, end=0.02, zero_terminal_snr=True),
        defaults=Defaults(width=128, height=128),
    )
    return random_model(spec, seed=1)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small vocabulary, so that saving a model does not write CLIP's own."""
    folder = tmp_path_factory.mktemp("tokenizer")
    CLIPTokenizer.train(["a red heart", "a blue cat"] * 9, 600).save(folder)
    return folder


@pytest.fixture
def save(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    """Write a model as a diffusers folder in the test's folder."""

    def save(model: Model, name: str = "model", **options: object) -> Path:
        save_folder(tmp_path / name, model.spec, model.networks, tokenizer_folder=tokenizer_folder, **options)
        return tmp_path / name

    return save


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write tensors as a safetensors file in the test's folder."""

    def write(
        tensors: dict[str, Tensor], name: str = "model.safetensors", metadata: dict[str, str] | None = None
    ) -> Path:
        entries = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}
        safetensors_file.write(tmp_path / name, entries, tensors.__getitem__, metadata)
        return tmp_path / name

    return write
