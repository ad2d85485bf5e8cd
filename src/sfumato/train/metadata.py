"""What a trained file says of itself, in the words of kohya's scripts (`ss_*`) and of Stability AI's modelspec."""

from __future__ import annotations

import json
from collections import Counter

from sfumato.checkpoint.hashes import hashed_file, model_hash, sha256
from sfumato.data.pictures.protocol import CaptionedPictures
from sfumato.pipeline.model import Model
from sfumato.train.config import LoopConfig
from sfumato.train.objective import Objective

# What others call the families; the first fits whose name the family's begins with.
VERSIONS = {"sdxl": "sdxl_base_v1-0", "sd1": "sd_v1", "sd2": "sd_v2", "sd35": "sd3.5_m", "sd3": "sd3_m"}
ARCHITECTURES = {
    "sdxl": "stable-diffusion-xl-v1-base", "sd1": "stable-diffusion-v1", "sd2": "stable-diffusion-v2-512",
    "sd35_large": "stable-diffusion-3.5-large", "sd35": "stable-diffusion-3.5-medium",
    "sd3": "stable-diffusion-3-medium",
}  # fmt: skip
PREDICTIONS = {"eps": "epsilon", "v": "v"}


def about(
    base: Model, pictures: CaptionedPictures, loop: LoopConfig, objective: Objective, kind: str = "lora"
) -> dict[str, str]:
    """Returns what a trained file says: base model, data, settings.

    `kind` is "lora" or "textual-inversion". Times are left out, so that a run that was interrupted writes the same.
    """
    spec = base.spec
    file = hashed_file(base.path)
    seen = {sample.picture: sample.caption for sample in pictures.views()}
    tags = Counter(tag.strip() for caption in seen.values() for tag in caption.split(",") if tag.strip())
    width, height = base.spec.defaults.width, base.spec.defaults.height
    said = {
        "ss_base_model_version": _first(VERSIONS, spec.family),
        "ss_sd_model_name": base.name,
        "ss_sd_model_hash": model_hash(base.path) or "",
        "ss_new_sd_model_hash": sha256(file) if file else "",
        "ss_v2": str(spec.family.startswith("sd2")),
        "ss_learning_rate": f"{loop.lr:g}",
        "ss_max_train_steps": str(loop.steps),
        "ss_total_batch_size": str(loop.batch),
        "ss_seed": str(loop.seed),
        "ss_lr_scheduler": loop.lr_schedule,
        "ss_lr_warmup_steps": str(loop.warmup),
        "ss_num_train_images": str(len(seen)),
        "ss_num_epochs": str(-(-loop.steps * loop.batch // max(1, pictures.epoch))),
        "ss_bucket_info": json.dumps({"buckets": _buckets(pictures)}),
        "ss_tag_frequency": json.dumps({pictures.name: dict(tags.most_common(200))}),
        "ss_min_snr_gamma": f"{objective.min_snr:g}" if objective.min_snr else "None",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{_first(ARCHITECTURES, spec.family)}/{kind}",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.resolution": f"{width}x{height}",
        "sfumato_base": model_hash(base.path) or "",
    }
    if spec.prediction in PREDICTIONS:
        said["modelspec.prediction_type"] = PREDICTIONS[spec.prediction]
    return said


def _first(table: dict[str, str], family: str) -> str:
    return next((value for start, value in table.items() if family.startswith(start)), family)


def _buckets(pictures: CaptionedPictures) -> dict[str, dict[str, object]]:
    sizes = pictures.sizes.items()
    return {str(k): {"resolution": list(size), "count": count} for k, (size, count) in enumerate(sizes)}
