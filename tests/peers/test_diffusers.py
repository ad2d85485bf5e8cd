"""Tiny pipelines that diffusers wrote: opened by us they draw what diffusers' own code draws, to 2 levels of 255."""

from collections.abc import Callable

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPAGPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
DDIM = {"clip_sample": False, "set_alpha_to_one": False}
PROMPT, NEGATIVE = "a red heart", "a blue cat"
Pair = tuple[StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline]
OURS = {"seed": 3, "width": 32, "height": 32, "watermark": False}
THEIRS = {"width": 32, "height": 32}


@pytest.fixture
def simple(tokenizer, open_tokenizer, tower, unet, autoencoder) -> Callable[..., StableDiffusionPipeline]:
    """A pipeline of 1.x or, with linear projections, 2.x."""

    def make(scheduler: object, linear: bool) -> StableDiffusionPipeline:
        torch.manual_seed(0)
        return StableDiffusionPipeline(
            vae=autoencoder(),
            text_encoder=tower(activation="gelu" if linear else "quick_gelu"),
            tokenizer=open_tokenizer if linear else tokenizer,
            unet=unet(32, use_linear_projection=linear),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    return make


@pytest.mark.parametrize(
    ("scheduler", "linear", "family"),
    [
        (PNDMScheduler(**BETAS, skip_prk_steps=True), False, "sd1"),
        (DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False), False, "sd1"),
        (
            DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"),
            True,
            "sd2",
        ),
    ],
    ids=["1.x PNDM", "1.x DDIM", "2.1-v DDIM"],
)
def test_1x_and_2x(simple, opened, first_noise, apart, scheduler: object, linear: bool, family: str) -> None:
    pipeline = simple(scheduler, linear)
    model = opened(pipeline)
    assert model.spec.family == family
    ours = model.txt2img(PROMPT, NEGATIVE, steps=5, **OURS).images[0]
    theirs = pipeline(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=5, latents=first_noise(model), **THEIRS
    ).images[0]
    assert apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(NEGATIVE, PROMPT, steps=5, **OURS).images[0]) > 10


def test_perturbed_attention_guidance(simple, opened, first_noise, apart) -> None:
    pipeline = simple(DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False), False)
    model = opened(pipeline)
    theirs = StableDiffusionPAGPipeline(**pipeline.components, requires_safety_checker=False)
    theirs.set_progress_bar_config(disable=True)
    picture = theirs(
        PROMPT, negative_prompt=NEGATIVE, num_inference_steps=5, pag_scale=3.0, latents=first_noise(model), **THEIRS
    ).images[0]
    options = OURS | {"steps": 5, "sampler": "ddim", "schedule": model.spec.defaults.schedule}
    assert apart(model.txt2img(PROMPT, NEGATIVE, pag=3.0, **options).images[0], picture) <= 2
    assert apart(model.txt2img(PROMPT, NEGATIVE, **options).images[0], picture) > 5


def test_pure_noise_at_the_end_with_rescaled_guidance(simple, opened, first_noise, apart) -> None:
    """Lin et al. 2023 in all four parts: no signal in the last step, v, trailing times, rescale."""
    betas = BETAS | {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "steps_offset": 0}
    pipeline = simple(DDIMScheduler(**betas, clip_sample=False, prediction_type="v_prediction"), True)
    model = opened(pipeline)
    assert model.spec.noise.zero_terminal_snr and model.spec.defaults.schedule == "trailing"
    ours = model.txt2img(PROMPT, NEGATIVE, steps=5, cfg=9, cfg_rescale=0.7, **OURS).images[0]
    theirs = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        num_inference_steps=5,
        guidance_scale=9,
        guidance_rescale=0.7,
        latents=first_noise(model),
        **THEIRS,
    ).images[0]
    assert apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(PROMPT, NEGATIVE, steps=5, cfg=9, **OURS).images[0]) > 2


@pytest.fixture
def xl(
    tokenizer, open_tokenizer, tower, unet, autoencoder
) -> tuple[StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline]:
    """XL's base and refiner."""
    torch.manual_seed(0)
    scheduler, vae, big_g = EulerDiscreteScheduler(**BETAS, timestep_spacing="leading"), autoencoder(), tower(True)
    habits = {"use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256}
    base = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=tower(activation="quick_gelu"),
        text_encoder_2=big_g,
        tokenizer=tokenizer,
        tokenizer_2=open_tokenizer,
        unet=unet(64, projection_class_embeddings_input_dim=6 * 256 + 32, **habits),
        scheduler=scheduler,
        add_watermarker=False,
    )
    refiner = StableDiffusionXLImg2ImgPipeline(
        vae=vae,
        text_encoder=None,
        text_encoder_2=big_g,
        tokenizer=None,
        tokenizer_2=open_tokenizer,
        unet=unet(32, projection_class_embeddings_input_dim=5 * 256 + 32, **habits),
        scheduler=EulerDiscreteScheduler.from_config(scheduler.config),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    return base, refiner


@pytest.mark.parametrize("negative", [None, NEGATIVE], ids=["negative of zeros", "negative in words"])
def test_xl(xl, opened, first_noise, apart, negative: str | None) -> None:
    base, _ = xl
    model = opened(base)
    sizes = {"original_size": (200, 100), "target_size": (64, 48)}
    ours = model.txt2img(PROMPT, negative or "", steps=5, crop=(8, 4), **sizes, **OURS).images[0]
    theirs = base(
        PROMPT,
        negative_prompt=negative,
        num_inference_steps=5,
        latents=first_noise(model),
        crops_coords_top_left=(4, 8),
        **{name: size[::-1] for name, size in sizes.items()},
        **THEIRS,
    ).images[0]
    assert model.spec.family == "sdxl" and apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(PROMPT, negative or "", steps=5, **OURS).images[0]) > 2


def test_xl_turbo(xl, opened, first_noise, apart) -> None:
    base, _ = xl
    base.scheduler = EulerAncestralDiscreteScheduler(**BETAS, timestep_spacing="trailing")
    model = opened(base)
    ours = model.txt2img(PROMPT, steps=1, cfg=1, **OURS).images[0]
    theirs = base(PROMPT, num_inference_steps=1, guidance_scale=0.0, latents=first_noise(model), **THEIRS).images[0]
    assert (model.spec.defaults.sampler, model.spec.defaults.schedule) == ("euler_ancestral", "trailing")
    assert apart(ours, theirs) <= 2


def test_xl_hands_over_to_its_refiner(xl, opened, first_noise, apart) -> None:
    base, refiner = xl
    model, second = opened(base), opened(refiner)
    assert second.spec.family == "sdxl_refiner"
    ours = model.txt2img(PROMPT, NEGATIVE, steps=10, refiner=second, switch_at=0.8, **OURS).images[0]
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "num_inference_steps": 10}
    latents = base(**words, denoising_end=0.8, output_type="latent", latents=first_noise(model), **THEIRS).images
    theirs = refiner(**words, image=latents, denoising_start=0.8, original_size=(32, 32), target_size=(32, 32)).images[
        0
    ]
    assert apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(PROMPT, NEGATIVE, steps=10, **OURS).images[0]) > 2
