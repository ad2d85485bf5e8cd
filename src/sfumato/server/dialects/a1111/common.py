"""From the fields that /txt2img and /img2img share to the options of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sampler_names import split_sampler_name
from sfumato.errors import SfumatoError
from sfumato.provenance.readers import a1111 as infotext_reader
from sfumato.provenance.recipe import Recipe
from sfumato.server.composite import Composite
from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.local import LocalFiles
from sfumato.server.dialects.a1111.options import AUTOMATIC_VAE, EMPHASES, NOISE, overridden
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.strong_guidance import tamed
from sfumato.settings.speed import MAX_MERGED
from sfumato.spec import Spec

NONE = ("", "none", "automatic", "use same checkpoint", "use same sampler", "use same scheduler")


@dataclass(frozen=True)
class Asked:
    """A request with what it is understood by: settings of the user with its own over them, model, files, inputs."""

    options: Mapping[str, Any]
    files: LocalFiles
    inputs: Inputs
    model: str
    spec: Spec

    @property
    def step(self) -> int:
        return self.spec.multiple


def is_none(name: str | None) -> bool:
    """Whether a name of a checkpoint, sampler, schedule or script says that there is none of its own."""
    return name is None or name.strip().lower() in NONE


def refuse(what: str, why: str) -> HTTPException:
    """The error for a field that is not honoured here."""
    return HTTPException(422, f"{what}: {why}")


def request_of(body: DrawBody, asked: Asked, kind: str, more: Mapping[str, Any], **others: Any) -> JobRequest:
    """The request of a kind, with the options that all share and `more` of them. Raises SfumatoError, HTTPException."""
    _refuse_unknown(body)
    recipe = infotext_reader.read(body.infotext) if body.infotext else Recipe("")
    options = {**recipe.to_options(), **shared_options(body, asked), **more}
    refiner = None if is_none(body.refiner_checkpoint) else asked.files.find(body.refiner_checkpoint or "").name
    if refiner is not None and body.refiner_switch_at is not None:
        if not 0 < body.refiner_switch_at < 1:  # as the web UI: then nobody hands over
            refiner = None
        else:
            options["switch_at"] = body.refiner_switch_at
    if refiner is not None and kind != "txt2img":
        raise refuse("refiner_checkpoint", "a refiner goes on after txt2img only; leave it out")
    return JobRequest(
        kind=kind, model=asked.model, options=options, refiner=refiner,
        prompt=body.prompt or "" if body.said("prompt") else recipe.prompt,
        negative=body.negative_prompt or "" if body.said("negative_prompt") else recipe.negative, **others,
    )  # fmt: skip


def shared_options(body: DrawBody, asked: Asked) -> dict[str, Any]:
    """The options that the request and the user's settings name, without those of one task.

    A scale of guidance that is far too strong for the model is honoured, with guidance projected (APG).
    """
    chosen = asked.options
    options: dict[str, Any] = {
        "steps": body.steps, "cfg": body.cfg_scale, "n": body.batch_size, "styles": body.styles or None,
        "tiling": "both" if body.tiling else None, **tamed(body.cfg_scale, asked.spec),
        "clip_skip": chosen["CLIP_stop_at_last_layers"] if chosen["CLIP_stop_at_last_layers"] > 1 else None,
        "rng": NOISE[chosen["randn_source"]] if chosen["randn_source"] != "CPU" else None,
        "emphasis": EMPHASES[chosen["emphasis"]] if chosen["emphasis"] != "Original" else None,
        "token_merging": _merged(body, chosen) or None, **_seeds(body), **_sampler(body, asked),
    }  # fmt: skip
    for name in ("width", "height"):
        if (pixels := getattr(body, name)) is not None:
            options[name] = drawable(pixels, asked.step)
    return {name: value for name, value in options.items() if value is not None}


def _merged(body: DrawBody, chosen: Mapping[str, Any]) -> float:
    """The share of places that attention merges; what img2img has of its own counts before what all have."""
    own = chosen["token_merging_ratio_img2img"] if isinstance(body, Img2ImgBody) else 0
    return min(own or chosen["token_merging_ratio"], MAX_MERGED)


def drawable(pixels: int, step: int) -> int:
    """The length of a side nearest to what a client asks for that the model can draw."""
    return max(step, (pixels + step // 2) // step * step) if pixels > 0 else pixels


def _seeds(body: DrawBody) -> dict[str, Any]:
    found: dict[str, Any] = {"seed": None if body.seed in (None, -1) and not body.said("seed") else body.seed}
    size = body.seed_resize_from_w or 0, body.seed_resize_from_h or 0
    if min(size) > 0:  # one side alone means nothing, as in the web UI
        found["seed_resize"] = size
    if body.subseed_strength:
        found |= {"variation_strength": body.subseed_strength, "variation_seed": body.subseed}
        if body.subseed in (None, -1):
            del found["variation_seed"]
    return found


def _sampler(body: DrawBody, asked: Asked) -> dict[str, Any]:
    """Sampler, schedule and the sampler's own options; of these each sampler takes those that it has."""
    named = body.sampler_name or body.sampler_index
    schedule = None if is_none(body.scheduler) else body.scheduler
    found: dict[str, Any] = {"sampler": named, "schedule": schedule}
    try:
        name = split_sampler_name(named)[0] if named else asked.spec.defaults.sampler
    except SfumatoError as error:
        raise HTTPException(400, f"Sampler not found: {error}") from None
    known = SAMPLERS[name].options
    usual = "eta_ddim" if name == "ddim" else "eta_ancestral"
    eta = asked.options[usual] if body.eta is None else body.eta
    given = {"eta": eta, "s_churn": body.s_churn, "s_tmin": body.s_tmin, "s_tmax": body.s_tmax or None}
    given["s_noise"] = body.s_noise
    own = {key: float(value) for key, value in given.items() if value is not None and key in known}
    if body.eta is None and asked.options[usual] == (0.0 if name == "ddim" else 1.0):
        own.pop("eta", None)  # nobody chose one: the sampler's own
    own = {key: value for key, value in own.items() if value != known[key].default}
    if own:
        found["sampler_options"] = own
    return found


def _refuse_unknown(body: DrawBody) -> None:
    """Raises HTTPException for what would change the picture and is not here."""
    if body.restore_faces:
        raise refuse("restore_faces", "there is no face restorer here; send false")
    if body.s_min_uncond:
        raise refuse("s_min_uncond", "the negative prompt counts at every step here; leave it out")


def asked_of(
    body: DrawBody, kept: Mapping[str, Any], files: LocalFiles, inputs: Inputs, spec_of: Callable[[str], Spec]
) -> Asked:
    """The request as it is understood; `kept` are the user's settings.

    Raises SfumatoError, and HTTPException 404 for a checkpoint that is not on this machine.
    """
    try:
        files.find(str(body.overrides.get("sd_model_checkpoint") or kept["sd_model_checkpoint"]))
    except SfumatoError as error:
        raise HTTPException(404, f"Model not found: {error}") from None
    options = overridden(kept, body.overrides, files)
    own = files.find(options["sd_model_checkpoint"]).name
    vae = None if options["sd_vae"] in AUTOMATIC_VAE else files.find(options["sd_vae"], "vae", "VAE").name
    model = Composite(own, vae).name
    return Asked(options, files, inputs, model, spec_of(model))
