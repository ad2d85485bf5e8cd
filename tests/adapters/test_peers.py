"""LoRAs against diffusers with peft, which are installed for this alone: the same file on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.adapters import writing
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.learned import Shape, learning
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.checkpoint.diffusers_config import mmdit_to, unet_to
from sfumato.diffusion.cond import Cond
from sfumato.families import family
from sfumato.nets.layers import Linear


@pytest.mark.parametrize("release", ["sd1", "sdxl", "sd35_medium"])
@pytest.mark.parametrize("rows", [False, True], ids=["LoRA", "DoRA"])
def test_a_network_with_a_lora_is_that_of_diffusers(
    release: str, rows: bool, shrunk, random_model, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    diffusers = pytest.importorskip("diffusers")
    spec = shrunk(release)
    part = family(release).denoiser
    ours = random_model(spec).networks[part]
    if part == "unet":
        theirs = diffusers.UNet2DConditionModel.from_config(unet_to(spec.unet, 8))
    else:
        theirs = diffusers.SD3Transformer2DModel.from_config(mmdit_to(spec.transformer, 8))
    theirs.load_state_dict(ours.state_dict(), strict=False)
    tensors = {}
    for name, module in ours.named_modules():
        if isinstance(module, Linear) and "attn" in name:
            out, cin = module.weight.shape
            tensors[f"{part}.{name}.lora_A.weight"] = 0.2 * torch.randn(2, cin)
            tensors[f"{part}.{name}.lora_B.weight"] = 0.2 * torch.randn(out, 2)
            if rows:
                tensors[f"{part}.{name}.lora_magnitude_vector"] = module.weight.detach().norm(dim=1) * 1.1
    save_file(tensors, tmp_path / "a.safetensors")
    theirs.load_lora_adapter(load_file(tmp_path / "a.safetensors"), prefix=part, adapter_name="a")
    changed = merged(ours, part, (Use(AdapterFile.open(tmp_path / "a.safetensors")),), spec)
    x, t = torch.randn(2, spec.backbone.in_channels, 8, 8), torch.full((2,), 500.0)
    with torch.no_grad():
        if part == "unet":
            width = spec.unet.context_dim
            pooled = None if spec.unet.vector_dim is None else torch.randn(2, spec.unet.vector_dim - 6 * 256)
            cond = Cond(torch.randn(2, 77, width), pooled, None if pooled is None else torch.full((2, 6), 64.0))
            more = None if pooled is None else {"text_embeds": pooled, "time_ids": cond.ids}
            expected = theirs(x, t, cond.tokens, added_cond_kwargs=more).sample
        else:
            cond = Cond(torch.randn(2, 20, spec.transformer.context_dim), torch.randn(2, spec.transformer.pooled_dim))
            expected = theirs(x, cond.tokens, cond.pooled, t).sample
        plain, found = ours(x, t, cond), changed(x, t, cond)
    assert (plain - expected).abs().max() > 1e-3 * expected.abs().max(), "the adapter changes nothing"
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


PEFT: dict[str, dict[str, Any]] = {
    "ia3": {"target_modules": ["to_k", "to_v", "to_out.0", "ff.net.2"], "feedforward_modules": ["ff.net.2"]},
    "oft": {"target_modules": ["to_k", "to_out.0"], "oft_block_size": 8},
    "oft exact": {"target_modules": ["to_q", "to_v"], "oft_block_size": 16, "use_cayley_neumann": False},
    "boft": {"target_modules": ["to_k", "to_out.0"], "boft_block_size": 8},
    "oft shared": {"target_modules": ["to_q"], "oft_block_size": 8, "block_share": True},
}


@pytest.mark.filterwarnings("ignore:(Failed to load the CUDA extension|Setting boft_n_butterfly)")
@pytest.mark.parametrize("kind", PEFT)
def test_files_of_peft_are_read_as_peft_does(kind: str, shrunk, random_model, tmp_path: Path) -> None:
    """IA3, which multiplies what a layer makes, its bias as well, or what a feed-forward layer takes; and OFT."""
    peft = pytest.importorskip("peft")
    diffusers = pytest.importorskip("diffusers")
    spec = shrunk("sd1")
    ours = random_model(spec).networks["unet"]
    theirs = diffusers.UNet2DConditionModel.from_config(unet_to(spec.unet, 8))
    theirs.load_state_dict(ours.state_dict())
    kinds = {"ia3": peft.IA3Config, "oft": peft.OFTConfig, "boft": peft.BOFTConfig}
    config = kinds[kind.split()[0]](**PEFT[kind])
    theirs = peft.get_peft_model(theirs, config)
    for name, factor in theirs.named_parameters():
        if "ia3_l" in name or "oft_R" in name or "boft_s" in name:
            scales = "oft_R" not in name
            torch.nn.init.normal_(factor, 1.0 if scales else 0.0, 0.3 if scales else 0.1)
    theirs.save_pretrained(tmp_path / "a")
    file = AdapterFile.open(tmp_path / "a" / "adapter_model.safetensors")
    changed = merged(ours, "unet", (Use(file),), spec)
    x, t, cond = torch.randn(2, 4, 8, 8), torch.full((2,), 500.0), Cond(torch.randn(2, 77, spec.unet.context_dim))
    with torch.no_grad():
        expected = theirs.eval()(x, t, cond.tokens).sample
        plain, found = ours(x, t, cond), changed(x, t, cond)
    assert (plain - expected).abs().max() > 1e-2 * expected.abs().max(), "the adapter changes nothing"
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("release", "layout"), [("sd1", "kohya"), ("sdxl", "kohya"), ("sd35_medium", "peft")])
def test_what_is_trained_here_is_read_by_diffusers(
    release: str, layout: str, shrunk, random_model, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    pytest.importorskip("diffusers")
    from diffusers import SD3Transformer2DModel, UNet2DConditionModel
    from diffusers.loaders import SD3LoraLoaderMixin, StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin

    spec = shrunk(release)
    part = family(release).denoiser
    ours = random_model(spec).networks[part]
    trained, differences = learning(ours, Shape(rank=2, alpha=1.0), ("*attentions.*", "transformer_blocks*"))
    for value in differences.parameters():
        value.data += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.safetensors"
    writing.write(path, writing.tensors(spec, {part: differences}, layout, torch.float32), {})
    x, t = torch.randn(2, spec.backbone.in_channels, 8, 8), torch.full((2,), 500.0)
    more = {}
    if part == "transformer":
        theirs = SD3Transformer2DModel.from_config(mmdit_to(spec.transformer, 8))
        cond = Cond(torch.randn(2, 20, spec.transformer.context_dim), torch.randn(2, spec.transformer.pooled_dim))
        state = SD3LoraLoaderMixin.lora_state_dict(path)
    else:
        theirs = UNet2DConditionModel.from_config(unet_to(spec.unet, 8))
        pooled = None if spec.unet.vector_dim is None else torch.randn(2, spec.unet.vector_dim - 6 * 256)
        ids = None if pooled is None else torch.full((2, 6), 64.0)
        cond = Cond(torch.randn(2, 77, spec.unet.context_dim), pooled, ids)
        if pooled is not None:
            more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
        mixin = StableDiffusionLoraLoaderMixin if pooled is None else StableDiffusionXLLoraLoaderMixin
        state, alphas = mixin.lora_state_dict(path, unet_config=theirs.config)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    with torch.no_grad():
        if part == "transformer":
            SD3LoraLoaderMixin.load_lora_into_transformer(state, theirs, adapter_name="a")
            found = theirs(x, cond.tokens, cond.pooled, t).sample
        else:
            mixin.load_lora_into_unet(state, alphas, theirs, adapter_name="a")
            found = theirs(x, t, cond.tokens, **more).sample
        expected, plain = trained(x, t, cond), ours(x, t, cond)
    assert (plain - expected).abs().max() > 1e-3 * expected.abs().max()
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
