"""Parts in files of their own are recognised, put in their place, and load equal; what does not fit is refused."""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.families.layouts import ldm_vae, open_clip
from sfumato.loading import components
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts
from sfumato.nets.t5 import T5
from sfumato.spec import T5Config, VAEConfig

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


def refused(*arguments, match: str, **options) -> None:
    with pytest.raises(SfumatoError, match=match) as caught:
        load_parts(*arguments, **options)
    assert "\n" not in str(caught.value)


def only(tensors: dict[str, Tensor], prefix: str, keep: str = "") -> dict[str, Tensor]:
    return {keep + name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def without(tensors: dict[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}


@pytest.fixture
def sd1(random_model, shrunk):
    return random_model(shrunk("sd1"))


T5_SIZES = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4, "head_dim": 16}
LONE = [
    "sd1",
    "sd1_inpainting",
    "sd2",
    "sd2_inpainting",
    "sdxl",
    "sdxl_refiner",
    "sd3_medium",
    "sd35_medium",
    "sd35_large",
]


@pytest.mark.parametrize("name", LONE)
@pytest.mark.parametrize("keep", ["", UNET, "diffusion_model."], ids=["bare", "prefixed", "half prefixed"])
def test_a_lone_denoiser_and_its_parts(name, keep, random_model, shrunk, write):
    model = random_model(shrunk(name))
    tensors = model.theirs("original")
    prefixes = family(name).layouts["original"].prefixes
    unet = write(only(tensors, UNET, keep), "unet.safetensors")
    texts = [part for part in prefixes if part.startswith("text")]
    refused(unet, match="holds no VAE .*no CLIP text encoder .*give them with --vae and --text-encoder")
    assert inspect_checkpoint(unet).what == model.spec.title
    files = [write(only(tensors, prefixes[part]), f"{part}.safetensors") for part in reversed(texts)]
    vae = write(only(tensors, VAE), "vae.safetensors")
    found = load_parts(unet, vae=vae, text_encoders=files)
    assert found.spec == model.spec
    model.assert_equal(found.networks)
    assert inspect_checkpoint(unet, vae, files).problem is None


@pytest.mark.parametrize(
    "style", ["prefixed", "bare", "diffusers", "old diffusers", "folder", "whole model", "pipeline"]
)
def test_a_vae_apart(tiny, save, write, style):
    other = {name: tensor + 1 for name, tensor in tiny.networks["vae"].state_dict().items()}
    theirs = family("sd1").keymap(tiny.spec, "original", tiny.networks).to_theirs("vae", other)
    if style in ("folder", "pipeline"):
        folder = save(tiny, "other")
        write(other, "other/vae/diffusion_pytorch_model.safetensors")
        path = folder / "vae" if style == "folder" else folder
    elif style.endswith("diffusers"):
        for old, new in ldm_vae.OLD_ATTENTION.items() if style.startswith("old") else ():
            other = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in other.items()}
        path = write(other, "diffusion_pytorch_model.safetensors")
    elif style == "bare":
        path = write(only(theirs, VAE), "vae.safetensors")
    else:
        path = write(theirs | (tiny.original() | theirs if style == "whole model" else {}), "vae.safetensors")
    for model in (write(tiny.original()), save(tiny)):
        found = load_parts(model, vae=path)
        state = found.vae.state_dict()
        assert all(torch.equal(tensor + 1, state[name]) for name, tensor in tiny.networks["vae"].state_dict().items())
        assert found.spec == tiny.spec
    lacking = write(without(tiny.original(), VAE), "lacking.safetensors")  # is taken for the release, of factor 8
    refused(lacking, vae=path, match="does not fit Stable Diffusion 1.x; give a VAE .4 channels, 8 pixels a latent.$")


@pytest.mark.parametrize("style", ["transformers", "open_clip", "no inner name", "whole CLIP", "with a projection"])
def test_a_text_encoder_apart(tiny, write, style):
    state = tiny.networks["text"].state_dict()
    other = {name: tensor * 2 for name, tensor in state.items()}
    written = dict(other)
    if style == "open_clip":
        rules = open_clip.rules(other, "")
        written = {
            name: tensor
            for rule in rules
            for name, tensor in zip(rule.theirs, rule.transform.to_theirs([other[o] for o in rule.ours]), strict=True)
        } | {"text_projection": torch.zeros(64, 32), "logit_scale": torch.zeros(())}
    elif style == "no inner name":
        written = {name.removeprefix("text_model."): tensor for name, tensor in other.items()}
    elif style == "whole CLIP":
        written |= {"vision_model.post_layernorm.weight": torch.ones(4), "logit_scale": torch.zeros(())}
    elif style == "with a projection":
        written |= {"text_projection.weight": torch.zeros(32, 64)}
    path = write(written, "clip_l.safetensors")
    found = load_parts(write(tiny.original()), text_encoders=[path])
    assert found.spec == tiny.spec
    assert all(torch.equal(tensor, found.text.state_dict()[name]) for name, tensor in other.items())


def test_what_does_not_fit_is_refused(tiny, sd1, random_model, write):
    model = write(tiny.original())
    wide = random_model(replace(tiny.spec, vae=VAEConfig(channels=(32, 64), blocks=1, latent_channels=16)))
    deep = random_model(replace(tiny.spec, vae=VAEConfig(channels=(32, 32, 64), blocks=1)))
    for other in (wide, deep):
        path = write(only(other.original(), VAE), "vae.safetensors")
        refused(
            model, vae=path, match=r"does not fit Stable Diffusion 1.x; give a VAE \(4 channels, 2 pixels a latent\)"
        )
    clip = write(only(sd1.original(), TEXT), "clip.safetensors")
    refused(
        model, text_encoders=[clip], match=r"encoder \(768 wide\), which does not fit .*; give a CLIP .*\(64 wide\)"
    )
    fits = write(only(tiny.original(), TEXT), "fits.safetensors")
    refused(model, text_encoders=[fits, fits], match="there is no further place for one")
    refused(model, vae=fits, match="is a CLIP text encoder alone; a VAE is expected here")
    refused(model, text_encoders=[path], match="is a VAE alone; a CLIP text encoder or T5 text encoder is expected")
    refused(
        model, vae=write({"x": torch.zeros(2, 2, 2)}, "x"), match="is a model of an unknown kind; a VAE is expected"
    )
    broken = only(tiny.original(), VAE)
    del broken["decoder.conv_in.bias"]
    refused(model, vae=write(broken, "vae.safetensors"), match=r"1 missing \(vae.safetensors: decoder.conv_in.bias\)")
    refused(model, vae="nowhere.safetensors", match="cannot open nowhere.safetensors")


def test_a_vae_of_other_latents_is_refused(tiny, save):
    other = save(tiny, "other")
    config = other / "vae/config.json"
    config.write_text(config.read_text().replace("0.18215", "0.13025"))
    refused(
        save(tiny), vae=other / "vae", match="are scaled by 0.13025, not by 0.18215; give one that was made for this"
    )
    config.write_text(config.read_text().replace('"scaling_factor": 0.13025,', ""))
    assert load_parts(save(tiny), vae=other / "vae").spec.vae.scale == 0.18215


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_a_folder_that_lacks_a_part(sd1, save, part):
    folder, spare = save(sd1), save(sd1, "spare")
    shutil.rmtree(folder / part)
    flag = "--vae" if part == "vae" else "--text-encoder"
    refused(folder, match=rf"holds no .*; give it with {flag}$")
    given = {"vae": spare / part} if part == "vae" else {"text_encoders": [spare / part]}
    sd1.assert_equal(load_parts(folder, **given).networks)


def test_a_lone_u_net_of_a_folder(sd1, save):
    folder = save(sd1)
    found = load_parts(folder / "unet", vae=folder / "vae", text_encoders=[folder / "text_encoder"])
    sd1.assert_equal(found.networks)
    assert found.report.layout == "diffusers"


def test_t5_may_be_missing(random_model, shrunk, write):
    model = random_model(shrunk("sd3_medium"))
    prefixes = family("sd3_medium").layouts["original"].prefixes
    lacking = write(without(model.theirs("original"), prefixes["text_3"]))
    assert load_parts(lacking).networks.keys() == model.networks.keys() - {"text_3"}
    other = write(T5(T5Config(**T5_SIZES)).state_dict(), "t5.safetensors")
    refused(lacking, match=r"a T5 text encoder \(32 wide\), which does not fit .*\(144 wide\)$", text_encoders=[other])


def test_t5_is_found(write):
    config = T5Config(**T5_SIZES)
    state = T5(config).state_dict()
    extras = {"encoder.embed_tokens.weight": state["shared.weight"].clone(), "lm_head.weight": torch.zeros(1, 1)}
    with open_checkpoint(write(state | extras, "t5xxl_fp16.safetensors")) as checkpoint:
        (found,) = components.find(checkpoint)
        assert found.config == config
        assert found.tensors.keys() >= state.keys()


def test_several_text_encoders_in_one_file(random_model, shrunk, write):
    model = random_model(shrunk("sdxl"))
    tensors = model.theirs("original")
    both = write(
        only(tensors, "conditioner.embedders.0.transformer.", "clip_l.")
        | only(tensors, "conditioner.embedders.1.model.", "clip_g."),
        "clips.safetensors",
    )
    model.assert_equal(load_parts(write(without(tensors, "conditioner.")), text_encoders=[both]).networks)


def test_one_of_two_text_encoders_is_lacking(random_model, shrunk, write):
    spec = shrunk("sdxl")
    text = replace(spec.text, hidden_size=128, heads=2)
    spec = replace(spec, text=text, unet=replace(spec.unet, context_dim=128 + 1280))
    model = random_model(spec)
    tensors = model.theirs("original")
    prefixes = family("sdxl").layouts["original"].prefixes
    for part in ("text", "text_2"):
        lacking = write(without(tensors, prefixes[part]))
        width = getattr(spec, part).hidden_size
        refused(lacking, match=rf"holds no CLIP text encoder \({width} wide\); give it with --text-encoder$")
        apart = write(only(tensors, prefixes[part]), "clip.safetensors")
        model.assert_equal(load_parts(lacking, text_encoders=[apart]).networks)
