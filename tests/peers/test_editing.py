"""InstructPix2Pix as diffusers does it, to 2 levels of 255."""

import numpy as np
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline
from PIL import Image

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
SEED, SIDE = 3, 32


def test_a_picture_is_changed_as_words_say(tokenizer, tower, unet, autoencoder, opened, apart) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)).resize((SIDE, SIDE))
    torch.manual_seed(0)
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=autoencoder(),
        text_encoder=tower(activation="quick_gelu"),
        tokenizer=tokenizer,
        unet=unet(32, in_channels=8),
        scheduler=DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    model = opened(pipeline)
    assert (model.spec.family, model.spec.edits) == ("sd1_editing", True)
    words = ("a red heart", "a blue cat")
    options = {"steps": 5, "seed": SEED, "watermark": False, "sampler": "ddim", "schedule": "leading"}
    ours = model.img2img(picture, *words, strength=1, **options)[0]
    theirs = pipeline(
        words[0],
        picture,
        negative_prompt=words[1],
        num_inference_steps=5,
        generator=torch.Generator().manual_seed(SEED),
    ).images[0]
    assert apart(ours, theirs) <= 2
    other = model.img2img(Image.new("RGB", (SIDE, SIDE), "red"), *words, strength=1, **options)[0]
    assert apart(ours, other) > 10
    assert apart(model.txt2img(*words, width=SIDE, height=SIDE, **options)[0], ours) > 10
    mask = Image.new("L", (SIDE, SIDE), 0)
    mask.paste(255, (8, 8, 24, 24))
    assert model.inpaint(picture, *words, mask=mask, **options)[0].size == (SIDE, SIDE)
