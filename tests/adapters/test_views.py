"""Views of a model with adapters: what they draw, merged and not, and that nothing of them stays behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sfumato
import tiny
from sfumato.adapters.components import split
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import layer_names
from sfumato.adapters.merged import merged
from sfumato.adapters.unmerged import unmerged
from sfumato.adapters.use import Use
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.families import family
from tiny.adapters import KINDS, random_adapter, random_lora

SMALL = {"width": 32, "height": 32, "steps": 3, "seed": 1, "cfg": 3.0, "sampler": "euler", "schedule": "discrete"}
RELEASES = ("sd1", "sd2", "sdxl", "sd35_medium")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], StableDiffusion]:
    folder, loaded = tmp_path_factory.mktemp("adapted"), {}

    def load(release: str) -> StableDiffusion:
        if release not in loaded:
            loaded[release] = sfumato.load(tiny.save(folder / release, family(release)))
        loaded[release].adapters.clear()
        return loaded[release]

    return load


@pytest.fixture(scope="module")
def sd(models: Callable[[str], StableDiffusion]) -> StableDiffusion:
    return models("sd1")


@pytest.fixture(scope="module")
def loras(tmp_path_factory: pytest.TempPathFactory, sd: StableDiffusion) -> list[str]:
    folder = tmp_path_factory.mktemp("loras")
    for seed in range(4):
        tensors = random_lora(sd.denoiser.network, 0.2, seed=seed)
        tensors |= random_lora(sd.encode.towers[0], 0.1, seed=seed, prefix="lora_te_")
        save_file(tensors, folder / f"{'abcd'[seed]}.safetensors")
    return [str(folder / f"{name}.safetensors") for name in "abcd"]


def weights(sd: StableDiffusion) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": value.clone()
        for part, network in sd.networks.items()
        for name, value in network.state_dict().items()
    }


def inputs(sd: StableDiffusion, rows: int, strengths: Tensor | None = None) -> tuple[Tensor, Tensor, Cond]:
    generator = torch.Generator().manual_seed(0)
    channels = sd.spec.backbone.in_channels
    x = torch.randn(rows, channels, 8, 8, generator=generator)
    cond = sd.encode(["a red heart"])[0]
    cond = replace(Cond.cat([cond] * rows), adapters=strengths)
    if sd.spec.micro_conditioning:
        cond = replace(cond, ids=torch.full((rows, 6), 32.0))
    return x, torch.full((rows,), 500.0), cond


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_merged_and_not_is_the_same_and_leaves_nothing(
    kind: str, release: str, models: Callable[[str], StableDiffusion], tmp_path: Path
) -> None:
    sd = models(release)
    network, part = sd.denoiser.network, family(release).denoiser
    save_file(random_adapter(kind, network), tmp_path / f"{kind}.safetensors")
    file = AdapterFile.open(tmp_path / f"{kind}.safetensors")
    before = weights(sd)
    uses = (Use(file, 0.7), Use(file, -0.4))
    x, t, cond = inputs(sd, 3)
    with torch.no_grad():
        plain = network(x, t, cond)
        first = merged(network, part, uses[:1], sd.spec)(x, t, cond)
        second = merged(network, part, uses[1:], sd.spec)(x, t, cond)
        held = unmerged(network, network, part, uses, sd.spec)
        strengths = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        mixed = held(x, t, replace(cond, adapters=strengths))
        without = held(x, t, cond)
        again = network(x, t, cond)
    scale = float(torch.stack([plain, first, second]).abs().max())
    assert (first - plain).abs().max() > 1e-3 * scale, "the adapter changes nothing"
    for ours, theirs in ((mixed[0], first[0]), (mixed[1], plain[1]), (mixed[2], second[2])):
        assert (ours - theirs).abs().max() < 1e-5 * scale
    assert torch.equal(without, plain) and torch.equal(again, plain)
    after = weights(sd)
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_merged_shares_all_other_weights(sd: StableDiffusion, loras: list[str]) -> None:
    network = sd.denoiser.network
    changed = merged(network, "unet", (Use(AdapterFile.open(Path(loras[0]))),), sd.spec)
    own = {name for name, value in changed.state_dict().items() if value is not network.state_dict()[name]}
    ours, theirs = (dict(one.named_parameters()) for one in (changed, network))
    own = {name for name in ours if ours[name] is not theirs[name]}
    linear = {f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    assert own == linear


def test_four_pictures_with_four_loras_share_calls_and_equal_four_alone(
    sd: StableDiffusion, loras: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SFUMATO_MODELS", str(Path(loras[0]).parent))
    (Path(loras[0]).parent / "models" / "Lora").mkdir(parents=True, exist_ok=True)
    for path in loras:
        target = Path(path).parent / "models" / "Lora" / Path(path).name
        if not target.exists():
            save_file(load_file(path), target)
    rows = []
    forward = type(sd.denoiser.network).forward

    def spy(self: nn.Module, x: Tensor, *rest: object) -> Tensor:
        rows.append(len(x))
        return forward(self, x, *rest)

    monkeypatch.setattr(type(sd.denoiser.network), "forward", spy)
    template = "a cat {<lora:a:1>|<lora:b:0.7>|<lora:c:0.5:0.9>|<lora:d:-0.5>|}"
    together = sd.txt2img(template, **SMALL, n=8)
    assert rows == [16] * 3
    prompts = [text.splitlines()[0] for text in together.infotexts]
    assert len(set(prompts)) > 3
    for k, prompt in enumerate(prompts):
        alone = sd.txt2img(prompt, **SMALL | {"seed": 1 + k})
        difference = np.abs(np.asarray(alone[0], int) - np.asarray(together[k], int)).max()
        assert difference <= 1, prompt
        assert (alone.latents[0] - together.latents[k]).abs().max() < 1e-4 if alone.latents is not None else True


def test_an_adapter_is_added_used_and_taken_off(sd: StableDiffusion, loras: list[str]) -> None:
    plain = sd.txt2img("a cat", **SMALL)[0].tobytes()
    asked = sd.txt2img("a cat", lora=[f"{loras[0]}:0.8"], **SMALL)[0].tobytes()
    assert asked != plain
    file = sd.adapters.add(loras[0], 0.8)
    assert (file.name, file.kind, repr(sd.adapters)) == ("a", "lora", "<Adapters: a (lora) at 0.8>")
    assert sd.txt2img("a cat", **SMALL)[0].tobytes() == asked
    assert sd.guided_by().txt2img("a cat", **SMALL)[0].tobytes() == asked, "copies share it"
    other = sd.txt2img("a cat <lora:a:0.3>", **SMALL)[0].tobytes()
    sd.adapters.remove("a")
    assert sd.txt2img("a cat", **SMALL)[0].tobytes() == plain
    assert sd.txt2img("a cat", lora=[f"{loras[0]}:0.3"], **SMALL)[0].tobytes() == other
    with pytest.raises(SfumatoError, match="no adapter 'a' is used; there are none"):
        sd.adapters.remove("a")
    with pytest.raises(RuntimeError), sd.adapters.using(loras[0], 0.8):
        assert sd.txt2img("a cat", **SMALL)[0].tobytes() == asked
        raise RuntimeError
    assert not len(sd.adapters) and sd.txt2img("a cat", **SMALL)[0].tobytes() == plain


def test_network_and_text_have_strengths_of_their_own(sd: StableDiffusion, loras: list[str]) -> None:
    plain, both = (sd.txt2img("a cat", lora=lora, **SMALL)[0].tobytes() for lora in ([], [loras[0]]))
    text = sd.txt2img("a cat", lora=[f"{loras[0]}:1:0"], **SMALL)[0].tobytes()  # as in <lora:a:1:0>
    network = sd.txt2img("a cat", lora=[f"{loras[0]}:te=0:unet=1"], **SMALL)[0].tobytes()
    assert len({plain, both, text, network}) == 4
    assert sd.txt2img("a cat", lora=[f"{loras[0]}:0:0"], **SMALL)[0].tobytes() == plain


def test_blocks_have_weights(sd: StableDiffusion, loras: list[str]) -> None:
    draw = lambda how: sd.txt2img("a cat", lora=[f"{loras[0]}:{how}"], **SMALL)[0].tobytes()  # noqa: E731
    assert draw("lbw=ALL") == draw("1")
    assert draw("lbw=NONE") == draw("0") != draw("1")
    assert draw("lbw=BASE=0") not in (draw("0"), draw("1"))
    only_middle = draw("lbw=BASE=0,down_blocks=0,up_blocks=0,conv_in=0")
    assert only_middle == draw("lbw=" + ",".join(str(int(i == 13)) for i in range(26)))
    with pytest.raises(SfumatoError, match="there are 3 weights of blocks; give 12, 17, 20 or 26 numbers"):
        draw("lbw=1,2,3")


def test_a_use_may_be_for_some_of_the_steps(sd: StableDiffusion, loras: list[str]) -> None:
    draw = lambda how: sd.txt2img("a cat", lora=[f"{loras[0]}:te=0:unet=1{how}"], **SMALL)[0]  # noqa: E731
    plain, always = sd.txt2img("a cat", **SMALL)[0], draw("")
    assert np.abs(np.asarray(draw(":during=0%-100%"), int) - np.asarray(always, int)).max() <= 1
    first, last = draw(":during=0%-33%"), draw(":step=2-3")
    assert len({one.tobytes() for one in (plain, always, first, last)}) == 4
    assert draw(":step=1-1").tobytes() == first.tobytes()
    assert draw(":start=2").tobytes() == last.tobytes()
    with pytest.raises(SfumatoError, match="give noise levels such as"):
        draw(":during=soon")
    with pytest.raises(SfumatoError, match="the points are '0%=much'; give shares of the steps"):
        draw(":during=0%=much")


def test_a_strength_may_change_over_the_steps(sd: StableDiffusion, loras: list[str]) -> None:
    draw = lambda how: sd.txt2img("a cat", lora=[f"{loras[0]}:te=0:unet=1{how}"], **SMALL)[0]  # noqa: E731
    assert draw(":during=0%=1,30%=1,33%=0,100%=0").tobytes() == draw(":step=1-1").tobytes()
    assert draw(":during=0=1,99=1").tobytes() == draw(":during=0%-100%").tobytes()
    assert draw(":during=0%=0,100%=1").tobytes() not in (draw("").tobytes(), draw(":during=0%=1,100%=0").tobytes())
    levels = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    file = AdapterFile.open(Path(loras[0]))
    assert Use(file, during="0%=1,50%=0").factors(levels) == [1, 0.5, 0, 0]
    assert Use(file, during="2=1,6=0").factors(levels) == [0, 0.5, 1, 1]
    assert Use(file, during="25%-75%").factors(levels) == [0, 1, 1, 0]
    assert Use(file).factors(levels) == [1, 1, 1, 1]


def test_without_merging_the_picture_is_the_same(sd: StableDiffusion, loras: list[str]) -> None:
    options = {"lora": [f"{loras[0]}:0.8", f"{loras[1]}:0.5"], "pag": 2.0, "tiling": "x", **SMALL}
    merged = sd.txt2img("a cat", **options)[0]
    sd.adapters.merge = False
    try:
        added = sd.txt2img("a cat", **options)[0]
    finally:
        sd.adapters.merge = None
    assert np.abs(np.asarray(merged, int) - np.asarray(added, int)).max() <= 1


def test_where_no_copy_fits_loras_are_added_at_run_time(
    sd: StableDiffusion, loras: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"lora": [f"{loras[0]}:0.8"], **SMALL}
    path = sd.path
    sd = sfumato.load(path, "cpu")
    merged = sd.txt2img("a cat", **options)[0]
    assert not any(view.slots for view in sd._shared.made)
    monkeypatch.setattr("sfumato.pipeline.adapter_memory.free_memory", lambda device: 1000)
    sd.txt2img("a cat", **options)
    assert not any(view.slots for view in sd._shared.made), "what was decided holds"
    tight = sfumato.load(path, "cpu")
    with pytest.warns(SfumatoWarning, match="it is added at every step instead"):
        added = tight.txt2img("a cat", **options)[0]
    assert any(view.slots for view in tight._shared.made) and not any(view.adapters for view in tight._shared.made)
    assert np.abs(np.asarray(merged, int) - np.asarray(added, int)).max() <= 1
    tight.adapters.merge = True
    assert tight.txt2img("a cat", **options)[0] == merged


def test_the_latest_sets_alone_are_kept(sd: StableDiffusion, loras: list[str]) -> None:
    for lora in loras:
        sd.txt2img("a cat", lora=[lora], **SMALL)
    assert len({view.adapters for view in sd._shared.made if view.adapters}) <= 2
    assert len(sd._shared.encoders) <= 3


def test_split_names_know_their_layers() -> None:
    assert split("unet.down.attn1.processor.to_out_lora.up.weight") == ("unet.down.attn1.to_out.0", "up")
    assert layer_names(family("sd1").spec).find("lora_unet_mid_block_attentions_0_proj_in", "weight").block == "MID"
