"""Small complete models with random weights: our networks against the outputs of the original code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.checkpoint.keymap import KeyMap, Rule, Shapes, rename
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.guidance import cfg, in_interval, network_guide, push_away
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable, training_sigmas
from sfumato.diffusion.process import diffused
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.errors import SfumatoError
from sfumato.families import sd2, sdxl
from sfumato.families.layouts import clip_text, controlnet, ldm_unet, ldm_vae, open_clip, sd3_mmdit
from sfumato.families.unet_inputs import UNET, VAE_PREFIX
from sfumato.loading.load import Parts, load_parts
from sfumato.nets.clip import CLIPText
from sfumato.nets.controlnet import ControlNet
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import without_layers
from sfumato.nets.t5 import T5
from sfumato.nets.unet import UNet, vector
from sfumato.nets.vae import VAE
from sfumato.spec import NoiseSchedule, T5Config
from sfumato.verify.cases import (
    Case,
    Result,
    close,
    indexed,
    network_tolerance,
    read_json,
    read_tensors,
    unsupported,
)
from sfumato.verify.runs import Drawn, called_at, drawing, finish, sampled

Outputs = Mapping[str, Callable[..., Tensor]]  # "drawn", where a model has one, takes a run and its end
Tensors = Mapping[str, Tensor]
SIZES = ("in.original_size", "in.crop_top_left", "in.target_size")
V_TIME = 901  # at which the reference calls its v-predicting model where its files do not say so
Rules = Callable[[Iterable[str]], list[Rule]]


def find(folder: Path) -> Iterator[Case]:
    return indexed(folder, "tiny", _models)


def _models(folder: Path, index: Path, known: set[str]) -> Iterator[Case]:
    for name, entry in read_json(index)["cases"].items():
        known |= {entry["weights"], entry["io"]}
        tensors = cache(lambda entry=entry: read_tensors(folder / entry["io"]))
        outputs = cache(lambda name=name, entry=entry, tensors=tensors: _outputs(folder, name, entry, tensors()))
        for output, facts in entry["outputs"].items():
            tolerance = network_tolerance(output, facts["fp32_vs_fp64_max_abs_diff"])
            yield Case(f"tiny/{name}/{output}", _check(output, tolerance, tensors, outputs))


def _check(output: str, tolerance: float, tensors: Callable, outputs: Callable) -> Callable[[], Result]:
    def check() -> Result:
        made = outputs().get(output) or drawing(output, outputs().get("drawn"))
        if f"out.{output}" not in tensors():
            raise SfumatoError(f"the reference output {output} is missing")
        result = close([(made(), tensors()[f"out.{output}"])], tolerance)
        if not output.endswith(".vector"):
            return result
        # Sizes reach the network as sinusoids: a frequency below 1 that is off by its last bit turns size 1344 by
        # 1344 * 2^-24, and the original's float32 power has such frequencies.
        largest = max(tensors()[name].max().item() for name in SIZES if name in tensors())
        allowed = max(tolerance, largest * 2**-24)
        passed = result.absolute is not None and result.absolute <= allowed
        reason = result.reason or f"sinusoids of sizes up to {largest:g}, times 2^-24"
        return replace(result, passed=passed, tolerance=f"{allowed:.1e}", reason=reason)

    return check


def _outputs(folder: Path, name: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Outputs:
    if name not in MODELS:
        raise unsupported(f"the model {name}")
    inputs = {key.removeprefix("in."): value for key, value in tensors.items()}
    return MODELS[name](folder / entry["weights"], entry, inputs)


def _network(
    network: nn.Module, rules: Rules, weights: Tensors, prefix: str, unused: Collection[str] = ()
) -> nn.Module:
    """A network with the tensors of that prefix, each of which it must take, but for those `unused`."""
    keymap = KeyMap({"it": tuple(rules(network.state_dict()))})
    taken = {name for rule in keymap.parts["it"] for name in rule.theirs}
    if wrong := taken ^ {name for name in weights if name.startswith(prefix) and name not in unused}:
        raise SfumatoError(f"{len(wrong)} tensors do not match ({', '.join(sorted(wrong)[:3])})")
    network.load_state_dict(keymap.to_ours("it", lambda name: weights[name].float()))
    return network.eval()


def _shapes(weights: Tensors) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def small_unet(weights: Tensors, params: Mapping[str, Any]) -> UNet:
    """A U-Net; what shapes do not show is in its configuration."""
    sizes = ldm_unet.sizes(_shapes(weights), UNET)
    alone = params.get("disable_self_attentions") or ()
    cfg = replace(
        sizes,
        heads=params.get("num_heads"),
        head_dim=params.get("num_head_channels"),
        cross_only=tuple(off and depth > 0 for off, depth in zip(alone, sizes.depth, strict=bool(alone))),
    )
    return cast(UNet, _network(UNet(cfg), lambda names: ldm_unet.rules(cfg, names, UNET), weights, UNET))


def _controlnet(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """A ControlNet, and the U-Net that it steers."""
    tensors, prefix = read_tensors(weights), "control_model."
    unet = small_unet(tensors, entry["config"]["params"]["unet_config"]["params"])
    sizes = controlnet.unet_sizes(_shapes(tensors), prefix, unet.cfg)
    built = _network(ControlNet(sizes), lambda n: controlnet.unet_rules(sizes, n, prefix), tensors, prefix)
    network, cond = cast(ControlNet, built), Cond(inputs["context"])
    asked = (inputs["x"], inputs["t"], cond)
    residuals = network(*asked, network.prepare(inputs["hint"]))
    scales = [0.7 * 0.825**k for k in reversed(range(len(residuals)))]
    scaled = tuple(scale * one for scale, one in zip(scales, residuals, strict=True))
    middle = (*(torch.zeros_like(one) for one in residuals[:-1]), residuals[-1])
    return {
        **{f"control.{i:02}": lambda one=one: one for i, one in enumerate(residuals)},
        "unet.no_control": lambda: unet(*asked),
        "unet.controlled": lambda: unet(*asked, residuals),
        "unet.controlled_strength0.7_guess_mode_scales": lambda: unet(*asked, scaled),
        "unet.only_mid_control": lambda: unet(*asked, middle),
    }


def _open_clip(weights: Tensors, prefix: str, heads: int) -> CLIPText:
    cfg = replace(open_clip.sizes(_shapes(weights), prefix), heads=heads)
    unused = (prefix + open_clip.LOGIT_SCALE,)
    return cast(
        CLIPText, _network(CLIPText(cfg), lambda names: open_clip.rules(names, prefix), weights, prefix, unused)
    )


def _unet_alone(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    unet = small_unet(read_tensors(weights), entry["config"])
    level = inputs["noise_level"][:, None] if "noise_level" in inputs else None
    return {"unet.out": lambda: unet(inputs["x"], inputs["t"], Cond(inputs["context"], ids=level))}


def _vae(weights: Tensors, scale: float = 1.0, shift: float = 0.0) -> VAE:
    sizes = replace(ldm_vae.sizes(_shapes(weights), VAE_PREFIX), scale=scale, shift=shift)
    return cast(VAE, _network(VAE(sizes), lambda n: ldm_vae.rules(sizes, n, VAE_PREFIX), weights, VAE_PREFIX))


def _upscaler_vae(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """The upscaler's autoencoder, and the noise that is added to the small picture."""
    vae, low = _vae(read_tensors(weights)), entry["config"]["low_scale"]
    noise = NoiseSchedule(start=low["linear_start"], end=low["linear_end"])

    return {
        "vae.moments": lambda: vae.encode(inputs["image"]),
        "vae.decode": lambda: vae.decode(inputs["z"]),
        "low.q_sample": lambda: diffused(inputs["low"], inputs["low_noise"], inputs["noise_level"], noise),
    }


def _sd3_vae(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    vae = _vae(read_tensors(weights), scale=1.5305, shift=0.0609)
    return {
        "vae.moments": lambda: vae.encode(inputs["image"]),
        "vae.decode": lambda: vae.decode(inputs["z"]),
        "latent.process_in": lambda: vae.to_latents(inputs["z"]),
        "latent.process_out": lambda: vae.from_latents(inputs["z"]),
    }


def _mmdit(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """The transformer of 3 and 3.5, alone and with the original's samplers at guidance 4."""
    tensors = read_tensors(weights)
    sizes = sd3_mmdit.sizes(_shapes(tensors), UNET)
    net = cast(MMDiT, _network(MMDiT(sizes), lambda names: sd3_mmdit.rules(sizes, names, UNET), tensors, UNET))
    cond = Cond(inputs["context"], inputs["y"])
    denoiser = Denoiser(net, "flow", FlowTable(entry["shift"]))
    positive, negative = cond.select(slice(1)), Cond(inputs["context_uncond"], inputs["y_uncond"])
    h, w = (side // sizes.patch for side in inputs["x"].shape[2:])

    def drawn(run: Drawn, end: str) -> Tensor:
        if end != "latent":
            raise unsupported("a picture of a transformer alone")
        sigmas = sigma_list("discrete", denoiser.table, run.steps)
        wanted = network_guide(denoiser, positive)
        guide = cfg(wanted, network_guide(denoiser, negative), run.scale)
        if run.layer_scale:  # at every step but the first
            worse = network_guide(replace(denoiser, network=without_layers(net, (0,))), positive)
            guide = in_interval(0, sigmas[1].item(), push_away(guide, wanted, worse, run.layer_scale), guide)
        start, stream = inputs["x_T"], NoiseStream(0, tuple(inputs["x_T"].shape))
        return finish(find_sampler(run.sampler).run(guide, start, sigmas, denoiser.path, stream))

    return {
        "mmdit.out": lambda: net(inputs["x"], inputs["t"], cond),
        "mmdit.out_skip_layer_0": lambda: without_layers(net, (0,))(inputs["x"], inputs["t"], cond),
        "mmdit.cropped_pos_embed": lambda: net.pos_embed.positions(h, w),
        "drawn": drawn,
    }


def _sd3_text(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """The three text encoders of 3 and 3.5, and the conditioning that is assembled of them."""
    tensors, sizes = read_tensors(weights), entry["config"]
    prefixes = {name: f"text_encoders.{name}.transformer." for name in ("clip_l", "clip_g", "t5xxl")}
    clip_l, clip_g = (_clip(tensors, prefixes[name], **_habits(sizes[name])) for name in ("clip_l", "clip_g"))
    d = sizes["t5xxl"]
    t5_sizes = T5Config(
        d["vocab_size"], d["d_model"], d["d_ff"], d["num_layers"], d["num_heads"], d["d_model"] // d["num_heads"]
    )
    prefix = prefixes["t5xxl"]
    # Files hold the embedding under one of two names, or under both.
    tensors.setdefault(f"{prefix}shared.weight", tensors.pop(f"{prefix}encoder.embed_tokens.weight"))
    t5 = _network(T5(t5_sizes), lambda n: rename(n, lambda name: prefix + name), tensors, prefix)
    left, right = clip_l(inputs["tokens_l"]), clip_g(inputs["tokens_g"])

    def context() -> Tensor:
        words = torch.cat([left.hidden[-2], right.hidden[-2]], -1)
        padded = nn.functional.pad(words, (0, t5_sizes.hidden_size - words.shape[-1]))
        return torch.cat([padded, t5(inputs["tokens_t5"])], 1)

    return {
        "clip_l.hidden_penultimate": lambda: left.hidden[-2],
        "clip_l.last_normed": lambda: left.last,
        "clip_l.pooled_unprojected": lambda: left.pooled,
        "clip_l.pooled_projected": lambda: left.projected,
        "clip_g.hidden_penultimate": lambda: right.hidden[-2],
        "clip_g.pooled_projected": lambda: right.projected,
        "t5.last": lambda: t5(inputs["tokens_t5"]),
        "cond.context": context,
        "cond.pooled": lambda: torch.cat([left.pooled, right.projected], -1),
    }


def _habits(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "heads": config["num_attention_heads"],
        "activation": config["hidden_act"],
        "projection_dim": config["hidden_size"],
    }


def _sd2(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """Text tower and U-Net of a 2.x checkpoint, which predicts v."""
    params, tensors = entry["config"]["params"], read_tensors(weights)
    unet = small_unet(tensors, params["unet_config"]["params"])
    text = _open_clip(tensors, sd2.TEXT, entry["text_config"]["text_cfg"]["heads"])
    conds = cache(lambda name: Cond(text(inputs[name][:1]).skip(2)))
    denoiser = Denoiser(unet, "v", NoiseTable(training_sigmas(sd2.SPEC.noise)))
    return {
        "text.last": lambda: text(inputs["tokens"]).last,
        "text.penultimate": lambda: text(inputs["tokens"]).skip(2),
        "unet.out": lambda: unet(inputs["x"], inputs["t"], Cond(inputs["context"])),
        "e2e.v_apply_model": lambda: called_at(
            "e2e.v_apply_model", V_TIME, lambda time: unet(inputs["x_T"], time, conds("tokens")), entry, inputs
        ),
        "drawn": lambda run, end: sampled(denoiser, inputs["x_T"], conds("tokens"), conds("tokens_uncond"), run),
    }


def _clip(weights: Tensors, prefix: str, **habits: Any) -> CLIPText:
    cfg = replace(clip_text.sizes(_shapes(weights), prefix), **habits)
    return cast(CLIPText, _network(CLIPText(cfg), lambda n: rename(n, lambda name: prefix + name), weights, prefix))


def _sdxl(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """Text towers, conditioning vector, U-Net and sampler of an XL base or refiner."""
    tensors, texts = read_tensors(weights), entry["text_config"]
    unet = small_unet(tensors, entry["config"]["params"]["network_config"]["params"])
    base, heads = any(name.startswith(sdxl.CLIP_L) for name in tensors), texts["open_clip_g"]["text_cfg"]["heads"]
    big_g = _open_clip(tensors, sdxl.BIG_G if base else sdxl.REFINER_BIG_G, heads)
    clip_l = _clip(tensors, sdxl.CLIP_L, heads=texts["clip_l"]["num_attention_heads"]) if base else None
    spec = sdxl.SPEC if base else sdxl.REFINER
    denoiser = Denoiser(unet, spec.prediction, NoiseTable(training_sigmas(spec.noise)), spec.discrete_timesteps)

    @cache
    def cond(suffix: str) -> Cond:
        states = big_g(inputs[f"tokens_g{suffix}"])
        read = [] if clip_l is None else [clip_l(inputs[f"tokens_l{suffix}"]).hidden[-2]]
        last = inputs["target_size"] if base else inputs[f"aesthetic_score{suffix}"]
        ids = torch.cat([inputs["original_size"], inputs["crop_top_left"], last], 1)
        return Cond(torch.cat([*read, states.hidden[-2]], -1), states.projected, ids)

    def drawn(run: Drawn, end: str) -> Tensor:
        sigmas = sigma_list("sgm_uniform", denoiser.table, run.steps)
        guide = cfg(network_guide(denoiser, cond("")), network_guide(denoiser, cond("_uncond")), run.scale)
        start = inputs["x_T"] * (1 + sigmas[0].item() ** 2) ** 0.5
        stream = NoiseStream(0, tuple(start.shape))
        return finish(find_sampler(run.sampler).run(guide, start, sigmas, denoiser.path, stream))

    return {
        "cond.crossattn": lambda: cond("").tokens,
        "cond.vector": lambda: vector(cond("")),
        "uncond.crossattn": lambda: cond("_uncond").tokens,
        "uncond.vector": lambda: vector(cond("_uncond")),
        "unet.out": lambda: unet(inputs["x"], inputs["t"], Cond(inputs["context"], inputs["y"])),
        "e2e.denoised_at_sigma": lambda: denoiser(
            3 * inputs["x_T"], torch.tensor([3.0], dtype=torch.float64), cond("")
        ),
        "drawn": drawn,
    }


def _sd1(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """A complete 1.x checkpoint: each network alone, then prompt to picture."""
    # The spec of a file leaves out what shapes do not show, which the entry's configuration states.
    read = load_parts(weights).spec
    heads = entry["config"]["params"]["unet_config"]["params"]["num_heads"]
    text_heads = entry["text_config"]["num_attention_heads"]
    spec = replace(read, unet=replace(read.unet, heads=heads), text=replace(read.text, heads=text_heads))
    parts = load_parts(weights, spec=spec)
    vae, states = parts.vae, parts.text(inputs["tokens"])
    latent = cache(lambda run: _latent(parts, inputs, run))
    prompt = cache(lambda: parts.text(inputs["tokens"][:1]).last)
    moments = cache(lambda: vae.encode(inputs["image"]))
    return {
        "text.embeddings": lambda: states.hidden[0],
        "text.last_hidden_state": lambda: states.last,
        "text.clip_skip_2": lambda: states.skip(2),
        "text.hidden_states_penultimate_raw": lambda: states.hidden[-2],
        "text.pooler_output": lambda: states.pooled,
        "vae.moments": moments,
        "vae.mean": lambda: moments().chunk(2, 1)[0],
        "vae.decode": lambda: vae.decode(inputs["z"]),
        "vae.decode_first_stage_of_scaled": lambda: vae.decode(vae.from_latents(inputs["z_scaled"])),
        "unet.out": lambda: parts.unet(inputs["x"], inputs["t"], Cond(inputs["context"])),
        "e2e.eps_apply_model": lambda: called_at(
            "e2e.eps_apply_model",
            int(inputs["t"][0]),
            lambda time: parts.unet(inputs["x_T"], time, Cond(prompt())),
            entry,
            inputs,
        ),
        "drawn": lambda run, end: vae.decode(vae.from_latents(latent(run))) if end == "image" else latent(run),
    }


def _latent(parts: Parts, inputs: dict[str, Tensor], run: Drawn) -> Tensor:
    """What one of the original's samplers makes of prompts."""
    denoiser = Denoiser(parts.unet, parts.spec.prediction, NoiseTable(training_sigmas(parts.spec.noise)))
    positive, negative = (Cond(parts.text(ids).last) for ids in (inputs["tokens"][:1], inputs["tokens_uncond"]))
    return sampled(denoiser, inputs["x_T"], positive, negative, run)


MODELS: dict[str, Callable[[Path, dict[str, Any], dict[str, Tensor]], Outputs]] = {
    "sd1": _sd1,
    "controlnet_sd15": _controlnet,
    "sd1_inpainting_unet": _unet_alone,
    "sd2_v": _sd2,
    "sd2_inpainting_unet": _unet_alone,
    "sd2_depth_unet": _unet_alone,
    "sd2_x4_upscaler_unet": _unet_alone,
    "sd2_x4_upscaler_vae": _upscaler_vae,
    "sdxl_base": _sdxl,
    "sdxl_refiner": _sdxl,
    "sd3_vae": _sd3_vae,
    "sd3_text_encoders": _sd3_text,
    "sd3_medium_mmdit": _mmdit,
    "sd35_medium_mmdit": _mmdit,
    "sd35_large_mmdit": _mmdit,
}
