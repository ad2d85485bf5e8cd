"""Small complete models with random weights: our networks against the outputs of the original code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.drive import Denoiser, Failed, Finished, Job, drive
from sfumato.diffusion.guide import cfg, plain
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.schedule import NoiseTable, sigma_list, training_sigmas
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.tasks.txt2img import first_latents, last_latents
from sfumato.verify.cases import (
    Case,
    Result,
    close,
    listed,
    network_tolerance,
    read_json,
    read_tensors,
    strangers,
    unsupported,
)
from sfumato.weights.load import Parts, load_parts

Outputs = Mapping[str, Callable[[], Tensor]]


def find(folder: Path) -> Iterator[Case]:
    index = folder / "index.json"
    if not index.is_file():
        yield from strangers(folder, ())
        return
    known = {"index.json"}
    yield from listed(index, "tiny", lambda path: _models(folder, path, known))
    yield from strangers(folder, known)


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
        ours = outputs()
        if output not in ours:
            raise unsupported(f"the output {output}")
        if f"out.{output}" not in tensors():
            raise SfumatoError(f"the reference output {output} is missing")
        return close([(ours[output](), tensors()[f"out.{output}"])], tolerance)

    return check


def _outputs(folder: Path, name: str, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Outputs:
    if name not in MODELS:
        raise unsupported(f"the model {name}")
    inputs = {key.removeprefix("in."): value for key, value in tensors.items() if key.startswith("in.")}
    return MODELS[name](folder / entry["weights"], entry, inputs)


def _sd1(weights: Path, entry: dict[str, Any], inputs: dict[str, Tensor]) -> Outputs:
    """A complete 1.x checkpoint: each network alone, then prompt to picture."""
    # The spec of a file leaves out what shapes do not show, which the entry's configuration states.
    read = load_parts(weights).spec
    heads = entry["config"]["params"]["unet_config"]["params"]["num_heads"]
    text_heads = entry["text_config"]["num_attention_heads"]
    spec = replace(read, unet=replace(read.unet, heads=heads), text=replace(read.text, heads=text_heads))
    parts = load_parts(weights, spec=spec)
    vae, states = parts.vae, parts.text(inputs["tokens"])
    latent = cache(lambda sampler: _latent(parts, inputs, sampler))
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
        "e2e.eps_apply_model": lambda: parts.unet(inputs["x_T"], inputs["t"][:1], Cond(prompt())),
        "e2e.ddim5_cfg4_eta0_latent": lambda: latent("ddim"),
        "e2e.plms5_cfg4_latent": lambda: latent("plms"),
        "e2e.ddim5_cfg4_eta0_image": lambda: vae.decode(vae.from_latents(latent("ddim"))),
    }


def _latent(parts: Parts, inputs: dict[str, Tensor], name: str) -> Tensor:
    """Five steps of the original's sampler at guidance 4, the way every picture is drawn."""
    table, sampler, start = NoiseTable(training_sigmas(parts.spec.noise)), find_sampler(name), inputs["x_T"]
    denoiser = Denoiser(parts.unet, parts.spec.prediction, table)
    positive, negative = (
        plain(denoiser, Cond(parts.text(ids).last)) for ids in (inputs["tokens"][:1], inputs["tokens_uncond"])
    )
    sigmas = sigma_list(sampler.schedule, table, 5)
    x, noise = first_latents(start, sigmas, sampler), NoiseStream(0, tuple(start.shape))
    x = finish(sampler.run(cfg(positive, negative, 4), x, sigmas, denoiser.path, noise))
    return last_latents(x, sigmas, sampler)


def finish(job: Job) -> Tensor:
    """Drive one job to its end. Raises what the job raises."""
    for _, event in drive([job]):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            return event.x
    raise SfumatoError("the sampler ended without a result")


MODELS: dict[str, Callable[[Path, dict[str, Any], dict[str, Tensor]], Outputs]] = {family("sd1").name: _sd1}
