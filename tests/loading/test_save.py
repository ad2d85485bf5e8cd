"""diffusers opens what we write, unchanged, and computes the same."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from transformers import CLIPTextModel

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import sd1
from sfumato.loading.load import load_parts
from sfumato.loading.save import save_folder
from sfumato.spec import Defaults

TOLERANCE = 2e-5


@pytest.mark.parametrize("model", ["tiny", "odd"])
@pytest.mark.parametrize(
    "options", [{}, {"dtype": torch.float16, "max_file_size": 400_000}], ids=["whole", "half in shards"]
)
def test_opens_in_diffusers_and_computes_the_same(request, save, model, options):
    model = request.getfixturevalue(model)
    folder = save(model, **options)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).to(torch.float32)
    spec, ours = model.spec, model.networks
    if "dtype" in options:
        ours = load_parts(folder).networks
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        ids = torch.randint(0, spec.text.vocab_size - 2, (2, 77), generator=generator)
        ids[:, 30:] = spec.text.eos_token_id
        states, theirs = ours["text"](ids), pipeline.text_encoder(ids)
        assert (states.last - theirs.last_hidden_state).abs().max() < TOLERANCE
        assert (states.pooled - theirs.pooler_output).abs().max() < TOLERANCE

        x = torch.randn(2, spec.unet.in_channels, 16, 16, generator=generator)
        t, context = torch.tensor([3, 700]), torch.randn(2, 9, spec.unet.context_dim, generator=generator)
        expected = pipeline.unet(x, t, context).sample
        assert (ours["unet"](x, t, Cond(tokens=context)) - expected).abs().max() < TOLERANCE * expected.abs().max()

        z = torch.randn(1, spec.vae.latent_channels, 4, 4, generator=generator)
        expected = pipeline.vae.decode(z).sample
        assert (ours["vae"].decode(z) - expected).abs().max() < TOLERANCE * expected.abs().max()
        picture = torch.randn(1, 3, 64, 64, generator=generator)
        expected = pipeline.vae.encode(picture).latent_dist.parameters
        assert (ours["vae"].encode(picture) - expected).abs().max() < TOLERANCE * expected.abs().max()


def test_settings_reach_diffusers(odd, save):
    folder = save(odd)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.scheduler.config.beta_end == odd.spec.noise.end
    assert pipeline.scheduler.config.rescale_betas_zero_snr
    assert pipeline.vae.config.scaling_factor == odd.spec.vae.scale
    assert pipeline.unet.config.sample_size * pipeline.vae_scale_factor == odd.spec.defaults.width
    assert pipeline.unet.down_blocks[1].attentions[0].transformer_blocks[0].attn1.heads == 3
    assert type(pipeline.scheduler) is DDIMScheduler
    assert type(pipeline.text_encoder) is CLIPTextModel


def test_the_pipeline_draws(odd, save):
    pipeline = StableDiffusionPipeline.from_pretrained(save(odd), safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a red heart", num_inference_steps=2, output_type="np").images.shape == (1, 128, 128, 3)


def test_clips_own_vocabulary_is_the_default(tiny, tmp_path):
    save_folder(tmp_path / "model", tiny.spec, tiny.networks)
    assert len(json.loads((tmp_path / "model/tokenizer/vocab.json").read_text())) == 49408


def test_advised_settings_travel_with_the_folder(tiny, save):
    advised = Defaults(64, 96, 8, 3.0, "heun", "discrete", 2)
    folder = save(replace(tiny, spec=replace(tiny.spec, defaults=advised)))
    assert load_parts(folder).spec.defaults == advised
    habits = folder / "sfumato.json"
    habits.write_text('{"steps": 5}')
    assert load_parts(folder).spec.defaults.steps == 5
    for wrong in ('{"sampling": 5}', '{"steps": "five"}', '{"sampler": 5}'):
        habits.write_text(wrong)
        with pytest.raises(SfumatoError, match=r"sfumato.json has"):
            load_parts(folder)
    habits.unlink()
    assert load_parts(folder).spec.defaults.steps == sd1.SPEC.defaults.steps


def test_what_cannot_be_written_is_refused(tiny, tmp_path, save):
    with pytest.raises(SfumatoError, match="more than a file may"):
        save(tiny, max_file_size=1000)
    with pytest.raises(SfumatoError, match=r"vocab.json"):
        save_folder(tmp_path / "model", tiny.spec, tiny.networks, tokenizer_folder=tmp_path)
    assert not (tmp_path / "model/model_index.json").exists()
    weight = tiny.networks["unet"].conv_in.weight
    kept = weight.data.clone()
    weight.data[0, 0, 0, 0] = 1e6
    try:
        with pytest.raises(SfumatoError, match=r"conv_in.weight is not finite in torch.float16"):
            save(tiny, dtype=torch.float16)
    finally:
        weight.data.copy_(kept)
