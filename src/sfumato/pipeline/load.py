"""From a name or a path to a model that draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import table_of
from sfumato.errors import SfumatoError, warn
from sfumato.families.layouts.clip_vision import LAION
from sfumato.hub.local_models import EMBEDDED, locate
from sfumato.loading.budget import Budget
from sfumato.loading.load import Parts, load_parts
from sfumato.loading.memory import memory_plan
from sfumato.loading.resolve import Overrides
from sfumato.loading.tiny_decoder import load_tiny_decoder
from sfumato.nets.layers import multiplies_bfloat16, multiplies_int8
from sfumato.nets.t5 import T5
from sfumato.pipeline.model import Model
from sfumato.runtime.device import AUTO, INT8, choose_device, choose_dtype, give_back_at_once, memory_for
from sfumato.runtime.threads import SMALL
from sfumato.spec import Prediction
from sfumato.text.encode import MAX_T5, T5Reader, TextEncoder
from sfumato.text.t5_tokenizer import T5Tokenizer, find_t5_tokenizer
from sfumato.text.tokenizer import CLIPTokenizer


def load(
    name_or_path: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    prediction: Prediction | None = None,
    variant: str | None = None,
    zero_snr: bool | None = None,
    vae: str | Path | None = None,
    text_encoders: str | Path | Sequence[str | Path] = (),
    t5_tokenizer: str | Path | None = None,
    t5_length: int | None = None,
    tiled_vae: bool | None = None,
    tiny_decoder: str | Path | None = None,
    memory: str | int | None = None,
) -> Model:
    """Load a model: a checkpoint file, a diffusers folder, a name (see `hub.local_models.find`), or the embedded one.

    A name is looked up on this machine; nothing is downloaded.

    How torch's threads wait is decided when torch is imported: they sleep while they wait, which keeps drawing fast on
    a machine that does other work too, only if `sfumato` is imported before torch (or OMP_WAIT_POLICY=PASSIVE is set).
    How many threads there are is left as it is; torch.set_num_threads changes it.

    `device` None takes a GPU where there is one; `dtype` None means float16 on CUDA and float32 elsewhere. "auto" means
    the same, but bfloat16 for a large model on a processor that multiplies it by itself (see `faster_in_bfloat16`).
    "int8" lets the network that draws multiply in 8 bits (see `nets.int8`); all else is as `beside_int8` says.

    Several releases have the same tensors. Official files are known by hash, or name and size; of others counts what
    they say of themselves (see `loading.evidence`), else they are taken for the larger and slower release. Three
    arguments overrule that: `variant` names the release ("base", 512 pixels, or "768-v" of 2.x, "base" or "turbo" of XL
    and 3.5 large), `prediction` what the network predicts ("eps", "v" ...), `zero_snr` whether its noise levels end at
    pure noise.

    `vae` and `text_encoders` name such parts alone: they replace those of the model, or complete a file without them.
    `t5_tokenizer` is the spiece.model or tokenizer.json for a model of 3 or 3.5 that brings none (in `tokenizer_3`, or
    beside its file); without it T5 is not used, and SfumatoWarning says so. `t5_length` is how many tokens T5 reads at
    least: 256 as in diffusers by default, 77 in the original code. `tiled_vae` puts all pictures through the
    autoencoder in tiles, or none; else those above `latents.TILED_ABOVE`. `tiny_decoder` is a file of TAESD, or of
    diffusers' AutoencoderTiny: it makes the previews, and the pictures that ask for it (the option `decoder`).

    `memory` ("4G", or bytes) is what drawing a picture of the model's own size shall take at most. What does not fit
    stays in the file, as it is stored there, and is read and unpacked layer by layer (see `loading.memory`, whose plan
    this follows); pictures are the same. Such a model cannot be moved or changed, and its file must stay.

    Raises SfumatoError for a file that is missing, broken or no Stable Diffusion model, for a part that does not fit or
    that nothing gives, and for a variant that its family does not have.
    """
    path, known = locate(EMBEDDED if name_or_path is None else name_or_path)
    variant = known if variant is None else variant
    where = choose_device(device)
    if isinstance(text_encoders, str | Path):
        text_encoders = (text_encoders,)
    encoders = [locate(one, "text encoder")[0] for one in text_encoders]
    beside = (found for one in (path, *encoders) if (found := find_t5_tokenizer(one)) is not None)
    pieces = next(beside, None) if t5_tokenizer is None else Path(t5_tokenizer)
    kind, autoencoder = _dtype_for(dtype, path, where, memory), None if vae is None else locate(vae, "vae")[0]
    budget = None
    if memory is not None:
        give_back_at_once()
        told = Overrides(variant, prediction, zero_snr)
        budget = memory_plan(path, str(kind).removeprefix("torch."), autoencoder, encoders, memory, told).budget
    with memory_for(f"to load {path}; load it as float16 or close other programs"):
        parts = load_parts(
            path, dtype=kind, device=where, prediction=prediction, variant=variant, zero_snr=zero_snr,
            vae=autoencoder, text_encoders=encoders, without=("text_3",) if pieces is None else (),
            streamed={} if budget is None else budget.streamed,
        )  # fmt: skip
    if parts.spec.text_3 is None and (t5_tokenizer is not None or t5_length is not None):
        raise SfumatoError(f"{parts.spec.title} does not read T5; leave its tokenizer and length out")
    parts = parts if t5_length is None else _with_t5_length(parts, t5_length)
    parts.vae.tiled = tiled_vae
    model = assemble(
        parts, T5Tokenizer.from_file(pieces) if pieces is not None and "text_3" in parts.networks else None
    )
    if budget is not None:
        _keep_to(budget, model)
    model.multiply_in_int8(dtype == INT8)
    if tiny_decoder is not None:
        model.tiny_decoder = load_tiny_decoder(tiny_decoder, model.spec, model.dtype, model.device)
    return model


def _with_t5_length(parts: Parts, length: int) -> Parts:
    """The parts with T5 reading so many tokens, where they have one. Raises SfumatoError for no such number."""
    if parts.spec.text_3 is None:
        return parts
    if type(length) is not int or not 1 <= length <= MAX_T5:
        raise SfumatoError(f"T5's length is {length!r}; choose 1 to {MAX_T5} tokens, such as 77 or 256")
    return replace(parts, spec=replace(parts.spec, text_3=replace(parts.spec.text_3, length=length)))


def _keep_to(budget: Budget, model: Model) -> None:
    """Make a model that was loaded by a budget draw by it as well."""
    model.planned = (model.spec.defaults.width, model.spec.defaults.height)
    if budget.tile is not None and model.vae.tiled is None:
        model.vae.tiled, model.vae.tile = True, budget.tile
    if budget.streamed:
        model.adapters.merge = False  # into a copy of the weights, for which there is no room


def faster_in_bfloat16(size: int, device: torch.device) -> bool:
    """Returns whether a device is a processor on which a model of `size` weights draws faster in bfloat16.

    Small models gain nothing: in them products of matrices are not what takes the time.
    """
    return device.type == "cpu" and size >= SMALL and multiplies_bfloat16()


def beside_int8(device: torch.device) -> torch.dtype:
    """Returns the precision of all that is not multiplied in 8 bits: bfloat16 where the processor multiplies it.

    Raises SfumatoError for a device that does not multiply in 8 bits.
    """
    if device.type != "cpu" or not multiplies_int8():
        lacks = "a processor with AVX-512 VNNI or AMX, which this machine lacks"
        wants = lacks if device.type == "cpu" else f"a processor, and the model is for {device.type}"
        raise SfumatoError(f"dtype 'int8' wants {wants}; choose auto")
    return torch.bfloat16 if multiplies_bfloat16() else torch.float32


def _dtype_for(
    dtype: str | torch.dtype | None, path: Path, device: torch.device, memory: str | int | None
) -> torch.dtype:
    """Returns the precision in which the weights of a file are loaded, in whole (`memory` None) or layer by layer."""
    if dtype == INT8 and memory is not None:
        raise SfumatoError("dtype 'int8' keeps its weights in memory twice; leave `memory` out, or choose bfloat16")
    if dtype == INT8:
        return beside_int8(device)
    return torch.bfloat16 if dtype == AUTO and faster_in_bfloat16(_size(path), device) else choose_dtype(dtype, device)


def _size(path: Path) -> int:
    """How many weights of two bytes a file or folder holds, about."""
    files = (one for one in path.rglob("*") if one.is_file()) if path.is_dir() else (path,)
    return sum(one.stat().st_size for one in files) // 2


def assemble(parts: Parts, t5_tokenizer: T5Tokenizer | None = None, tokenizer: CLIPTokenizer | None = None) -> Model:
    """Makes a model of its loaded parts; `tokenizer` None takes the one that they bring, or CLIP's own.

    Raises SfumatoError for a tokenizer that does not fit. SfumatoWarning says where T5 is missing.
    """
    spec, path = parts.spec, parts.report.path
    brought = parts.tokenizer() if tokenizer is None else tokenizer
    tokenizer = brought or CLIPTokenizer.openai()
    if tokenizer.vocab_size > spec.text.vocab_size:
        whose = "its tokenizer" if brought else "CLIP's own tokenizer (the model brings none)"
        many = f"{tokenizer.vocab_size} symbols, its text encoder only {spec.text.vocab_size}"
        raise SfumatoError(f"{path} does not fit together: {whose} has {many}; give the model with its own tokenizer")
    text = TextEncoder(tokenizer, parts.texts, _t5_reader(parts, t5_tokenizer))
    denoiser = Denoiser(parts.denoiser, spec.prediction, table_of(spec.prediction, spec.noise), spec.discrete_timesteps)
    if parts.image is not None and parts.statistics is None and parts.image.cfg.hidden_size not in LAION:
        unsaid = "the mean and spread of CLIP's vectors, by which image_noise is measured"
        warn(f"{path} does not say {unsaid}; for more than a little of it load the diffusers folder")
    return Model(
        spec, denoiser, parts.vae, text, path, parts.depth, parts.prior, parts.files, parts.image, parts.statistics
    )


def _t5_reader(parts: Parts, tokenizer: T5Tokenizer | None) -> T5Reader | None:
    """T5, or where only the model lacks it what stands for it; None for families without."""
    spec, path, network = parts.spec, parts.report.path, parts.networks.get("text_3")
    sizes = spec.text_3
    if sizes is None or spec.transformer is None:
        return None
    if tokenizer is not None and tokenizer.vocab_size > sizes.vocab_size:
        many = f"{tokenizer.vocab_size} pieces, its T5 only {sizes.vocab_size}"
        raise SfumatoError(f"{path} does not fit together: the T5 tokenizer has {many}; give the one of the same model")
    if not isinstance(network, T5) or tokenizer is None:
        held = network is not None or "text_3" in parts.report.left_out
        which = "T5's tokenizer (spiece.model)" if held else "the text encoder T5"
        lost = "what a prompt says beyond 77 tokens, and words to be written in the picture, will be followed less"
        warn(f"{path} comes without {which}: {lost}")
        return T5Reader(spec.transformer.context_dim, sizes.length)
    return T5Reader(spec.transformer.context_dim, sizes.length, tokenizer, network)
