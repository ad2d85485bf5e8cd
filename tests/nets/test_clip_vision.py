"""CLIP's vision tower equals transformers', from files of every layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sfumato.errors import SfumatoError
from sfumato.loading.image_encoders import ImageEncoder, load_image_encoder

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
         "image_size": 28, "patch_size": 7, "projection_dim": 24}  # fmt: skip


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def theirs(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**SIZES, hidden_act=request.param)
    return transformers.CLIPVisionModelWithProjection(config).eval()


@pytest.fixture(scope="module")
def ours(theirs: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    folder = tmp_path_factory.mktemp("image_encoder")
    theirs.save_pretrained(folder)
    return load_image_encoder(folder)


def test_it_equals_transformers(theirs: torch.nn.Module, ours: ImageEncoder) -> None:
    x = torch.randn(2, 3, 28, 28)
    with torch.no_grad():
        reference = theirs(x, output_hidden_states=True)
        found = ours.states(x)
    torch.testing.assert_close(found.vector, reference.image_embeds, atol=2e-5, rtol=1e-5)
    assert len(found.hidden) == len(reference.hidden_states) == 4
    for one, other in zip(found.hidden, reference.hidden_states, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [(60, 40), (33, 90), (28, 28), (10, 17)])
def test_pictures_are_prepared_as_in_transformers(size: tuple[int, int], ours: ImageEncoder) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    reference = processor(image, return_tensors="pt").pixel_values
    torch.testing.assert_close(ours.prepared(image), reference, atol=1e-5, rtol=0)


def openclip_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A tower as OpenCLIP keeps it: stacked projections, the last one transposed."""
    result = {
        "class_embedding": state["vision_model.embeddings.class_embedding"],
        "conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "proj": state["visual_projection.weight"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        result[f"ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        result[f"ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        for i in range(3):
            layer, block = f"vision_model.encoder.layers.{i}.", f"transformer.resblocks.{i}."
            stacked = [state[f"{layer}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            result[f"{block}attn.in_proj_{kind}"] = torch.cat(stacked)
            pairs = {"attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
                     "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip
            for name, other in pairs.items():
                result[f"{block}{name}.{kind}"] = state[f"{layer}{other}.{kind}"]
    return result


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_openclip_holds_the_same_tower(prefix: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(**{**SIZES, "num_attention_heads": 1}, hidden_act="quick_gelu")
    theirs = transformers.CLIPVisionModelWithProjection(config).eval()
    tensors = {prefix + name: one for name, one in openclip_names(theirs.state_dict()).items()}
    if prefix:
        tensors |= {"token_embedding.weight": torch.ones(4, 4), "logit_scale": torch.ones(1)}
    save_file(tensors, tmp_path / "clip.safetensors")
    x = torch.randn(1, 3, 28, 28)
    with torch.no_grad():
        reference = theirs(x).image_embeds
    found = load_image_encoder(tmp_path / "clip.safetensors").states(x).vector
    torch.testing.assert_close(found, reference, atol=2e-5, rtol=1e-5)


def test_what_is_no_tower(theirs: torch.nn.Module, tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(SfumatoError, match="holds no vision tower of CLIP"):
        load_image_encoder(tmp_path / "other.safetensors")
    state = {name: one.contiguous() for name, one in theirs.state_dict().items()}
    state.pop("vision_model.encoder.layers.1.mlp.fc1.bias")
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(SfumatoError, match="no complete vision tower of CLIP: 1 missing"):
        load_image_encoder(tmp_path / "part.safetensors")
