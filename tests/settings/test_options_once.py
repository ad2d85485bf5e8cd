"""Every option once: a line in a table, of which checks, command line, help, settings written and read are made."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import sfumato
from sfumato.cli.from_table import FromTable
from sfumato.cli.main import app
from sfumato.cli.options import command
from sfumato.errors import OptionError, SfumatoError
from sfumato.families import sd1
from sfumato.provenance import infotext
from sfumato.provenance.readers import a1111
from sfumato.settings import option as table
from sfumato.settings import settings as module
from sfumato.settings.kinds import Number
from sfumato.settings.option import checked, option, options_in, unknown_option, written
from sfumato.settings.settings import Options, Settings
from sfumato.settings.table import GROUPS, OPTIONS

ROOT = Path(sfumato.__file__).parent
KEYWORDS = Path(__file__).parents[2] / "tools" / "keywords.py"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glow:
    """A group with one option, in one line."""

    glow: float = option(0.0, Number(0, 1, 0.5), "How much things shine.", "Glow strength", also=("shine",))


class Shining(FromTable):
    """The same on a command line."""

    groups = (Glow,)


def test_an_option_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    glow = options_in(Glow)
    with monkeypatch.context() as patch:
        patch.setitem(OPTIONS, "glow", glow["glow"])
        extended = dataclasses.make_dataclass("Extended", [], bases=(Glow, Settings), frozen=True)
        of = Settings.of.__func__

        # The check, and a guess for a name that is nearly right or another program's.
        assert of(extended, sd1.SPEC, "a cat").glow == 0
        with pytest.raises(SfumatoError, match=r"glow is 2; choose a number from 0 to 1, such as 0\.5"):
            of(extended, sd1.SPEC, "a cat", glow=2)
        with pytest.raises(SfumatoError, match="did you mean glow"):
            of(extended, sd1.SPEC, "a cat", glowe=1)
        with pytest.raises(SfumatoError, match="here it is called glow"):
            of(extended, sd1.SPEC, "a cat", shine=1)

        # The picture's settings, written and read again.
        settings = of(extended, sd1.SPEC, "a cat", glow=0.25)
        fields = written(Glow, settings)
        assert fields == {"Glow strength": 0.25}
        text = infotext.write("a cat", "", {**written(GROUPS[0], settings), **fields, "Version": "sfumato 1"})
        recipe = a1111.read(text)
        assert recipe.options["glow"] == 0.25 and recipe.lost == []
        assert written(Glow, of(extended, sd1.SPEC, "a cat")) == {}

    # The command line, and its help.
    app, found = typer.Typer(), []

    @app.command()
    @command
    def draw(*, shining: Shining) -> None:
        found.append(shining.options)

    run = CliRunner().invoke
    shown = " ".join(run(app, ["--help"]).output.replace("│", " ").split())
    assert "--glow" in shown and "How much things shine. From 0 to 1. Default: 0." in shown
    assert run(app, ["--glow", "0.75"]).exit_code == 0 and run(app, []).exit_code == 0
    assert found == [{"glow": 0.75}, {}]


def test_python_keywords_are_those_of_the_table() -> None:
    assert list(Options.__annotations__) == list(OPTIONS)
    fields = {one.name for one in dataclasses.fields(Settings)}
    assert set(OPTIONS) - fields == set(options_in(GROUPS[3])), "styles are part of the prompts"


def test_what_type_checkers_read_is_written_from_the_table() -> None:
    spec = importlib.util.spec_from_file_location("keywords", KEYWORDS)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.STUB.read_text() == tool.stub(), "run tools/keywords.py"


def test_names_are_unique() -> None:
    flags = [flag for one in OPTIONS.values() for flag in one.flags]
    assert len(set(flags)) == len(flags)
    fields = [one.infotext for one in OPTIONS.values() if one.infotext]
    assert len(set(fields)) == len(fields)
    foreign = [name for one in OPTIONS.values() for name in (one.name, *one.also)]
    assert len(set(foreign)) == len(foreign)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_has_help_a_default_and_a_kind_that_takes_it(name: str) -> None:
    one = OPTIONS[name]
    assert one.help.endswith(".") and len(one.help) < 160
    if one.default is not table.MODEL and one.default is not None and not isinstance(one.default, type):
        assert one.checked(one.default) == one.default
    if one.needs:
        assert one.needs in OPTIONS


# A value of each option that says something, as a picture's settings must say it again.
SAID = {
    "steps": 7, "sampler": "heun", "schedule": "karras", "cfg": 3.5, "seed": 2**63 - 10_001, "width": 64, "height": 96,
    "sigmas": (3.0, 1.0, 0.0), "sampler_options": {"s_churn": 2.0}, "clip_skip": 2, "cfg_interval": "20%-80%",
    "slg": 2.5, "slg_interval": "0%-50%", "cfg_rescale": 0.7, "apg": True, "apg_eta": 0.5, "apg_norm": 1.5,
    "apg_momentum": 0.0, "threshold": 99.0, "mimic_scale": 5.0, "threshold_limit": 2.0, "pag": 3.0,
    "pag_layers": ("mid_block", "up_blocks.0"), "pag_interval": "0.5-9", "clip_guidance": 100.0,
    "clip_interval": "0%-50%", "emphasis": "comfy", "prompt_syntax": "comfyui", "rng": "nv", "watermark": False,
    "tiling": "x", "variation_seed": 0, "variation_strength": 0.25, "original_size": (64, 32), "crop": (8, 0),
    "target_size": (32, 64), "aesthetic_score": 5.5, "switch_at": 0.75, "hires_scale": 2.0, "hires_strength": 0.25,
    "hires_steps": 4, "hires_upscaler": "lanczos", "cfg_pp": True,
    "hires_sampler": "heun", "hires_schedule": "karras", "hires_prompt": "a tall, red house", "hires_negative": "fog",
    "seed_resize": (64, 32),
    "step_cache": "deepcache:3", "token_merging": 0.5, "decoder": "tiny",
    "lora": ("style:0.8", "folder/other.safetensors:1:0.5"), "lora_partial": True,
    "embedding": ("easynegative", "folder/other.pt"), "hypernetwork": ("anime:0.8", "other:1"),
}  # fmt: skip
WITH = {
    "slg_interval": ("slg",), "apg_eta": ("apg",), "apg_norm": ("apg",), "apg_momentum": ("apg",),
    "apg": ("apg_eta",), "mimic_scale": ("threshold",), "threshold_limit": ("threshold",), "pag_layers": ("pag",),
    "pag_interval": ("pag",), "clip_interval": ("clip_guidance",), "variation_seed": ("variation_strength",),
    "variation_strength": ("variation_seed",), "hires_strength": ("hires_scale",), "hires_steps": ("hires_scale",),
    "hires_upscaler": ("hires_scale",), "hires_scale": ("hires_strength",),
    **dict.fromkeys(("hires_sampler", "hires_schedule", "hires_prompt", "hires_negative"), ("hires_scale",)),
}  # fmt: skip
# Which is part of the prompt by then, or says how many pictures there are and not what one is; and controls, of which
# the picture that they are given is not said.
UNSAID = {
    "n", "best_of", "aesthetic", "clip_vision", "wildcards", "styles", "styles_file", "lora", "hypernetwork", "control",
    "ip_adapter", "safety", "image_prompt", "image_noise",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - UNSAID))
def test_every_option_is_written_and_read_again(name: str) -> None:
    said = {one: SAID[one] for one in (name, *WITH.get(name, ()))}
    usual = {"steps": 5, "cfg": 2.0, "seed": 1, "width": 64, "height": 64, "sampler": "euler", "schedule": "discrete",
             "clip_skip": 1, "slg": 0.0, "cfg_rescale": 0.0}  # fmt: skip
    settings = Settings("a cat", "", **usual | said)
    fields: dict[str, object] = {}
    for group in GROUPS[:3] + GROUPS[4:]:
        fields.update(written(group, settings, sd1.SPEC.defaults))
    if name == "switch_at":
        fields = {"Refiner": "refiner", **fields}
    recipe = a1111.read(infotext.write("a cat", "", {**fields, "Version": "sfumato 1"}))
    options = checked(OPTIONS, {one: value for one, value in recipe.options.items() if value is not None})
    assert {one: options.get(one) for one in said} == said
    assert recipe.lost == []


def test_a_model_default_that_is_not_nothing_is_said_when_it_is_taken_away() -> None:
    spec = dataclasses.replace(sd1.SPEC, defaults=dataclasses.replace(sd1.SPEC.defaults, cfg_rescale=0.7))
    settings = Settings.of(spec, "a cat", cfg_rescale=0)
    assert written(GROUPS[1], settings, spec.defaults) == {"CFG Rescale": 0}


def test_unknown_keywords_are_answered_with_all_or_the_nearest() -> None:
    assert unknown_option("stepz", OPTIONS, {}, ()) == "did you mean `steps`?"
    assert unknown_option("guidance_scale", OPTIONS, {}, ()) == "here it is called `cfg`"
    assert unknown_option("init_image", {}, {"init_image": "image"}, ()) == "here it is called `image`"
    ways = {"callback": "`sd.stream` yields events"}
    assert unknown_option("callback", OPTIONS, {}, (), ways) == "`sd.stream` yields events"
    assert unknown_option("qqqqqqq", {"cfg": OPTIONS["cfg"]}, {}, ("image",)) == "choose from cfg, image"


@pytest.mark.parametrize(
    ("given", "sampler", "schedule", "cfg_pp"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras", False),
        ("Euler a", "euler_ancestral", "discrete", False),
        ("DPM++ 2M SDE Karras", "dpmpp_2m_sde", "karras", False),
        ("DPM++ 2M SDE Exponential", "dpmpp_2m_sde", "exponential", False),
        ("DPM++ 2M SDE Heun Karras", "dpmpp_2m_sde_heun", "karras", False),
        ("DPM2 a Karras", "dpm_2_ancestral", "karras", False),
        ("DPM++ 2S a Karras", "dpmpp_2s_ancestral", "karras", False),
        ("LMS Karras", "lms", "karras", False),
        ("Restart", "restart", "karras", False),
        ("UniPC", "unipc", "discrete", False),
        ("euler_ancestral_karras", "euler_ancestral", "karras", False),
        ("dpmpp_3m_sde_gpu", "dpmpp_3m_sde", "exponential", False),
        ("euler_cfg_pp", "euler", "discrete", True),
        ("euler_ancestral_cfg_pp", "euler_ancestral", "discrete", True),
        ("DDIM CFG++", "ddim", "ddim_uniform", True),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral", "discrete", False),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", "karras", False),
        ("FlowMatchEulerDiscreteScheduler", "euler", "discrete", False),
    ],
)
def test_one_name_may_say_sampler_and_schedule(given: str, sampler: str, schedule: str, cfg_pp: bool) -> None:
    settings = Settings.of(sd1.SPEC, "a cat", sampler=given)
    assert (settings.sampler, settings.schedule, settings.cfg_pp) == (sampler, schedule, cfg_pp)
    assert settings.cfg == (0.6 if cfg_pp else sd1.SPEC.defaults.cfg)


def test_a_schedule_beside_one_in_the_name_of_the_sampler() -> None:
    assert Settings.of(sd1.SPEC, "a", sampler="DPM++ 2M Karras", schedule="Karras").schedule == "karras"
    with pytest.raises(OptionError, match="ends in the schedule karras, but schedule is 'simple'; give one"):
        Settings.of(sd1.SPEC, "a", sampler="DPM++ 2M Karras", schedule="simple")


@pytest.mark.parametrize("name", ["seeds_2", "heunpp2", "gradient_estimation", "KarrasVeScheduler", "UnCLIPScheduler"])
def test_samplers_of_other_programs_that_are_not_here_have_a_hint(name: str) -> None:
    with pytest.raises(OptionError, match="the nearest that is here is"):
        Settings.of(sd1.SPEC, "a", sampler=name)


# Words of the field that name other things as well, such as a width of any picture, or a kind of adapter.
COMMON = {"watermark", "steps", "seed", "width", "height", "n", "sampler", "schedule", "cfg", "sigmas", "crop", "rng",
          "lora", "hypernetwork", "embedding", "control", "ip_adapter", "safety"}  # fmt: skip
ELSEWHERE = ("provenance/readers", "server/dialects", "server/kinds/graph", "server/safety/names.py")
ROOMS = ("settings", "cli", "tasks", "pipeline", "images", "provenance", "server", "api.py")


def test_no_option_is_named_in_more_than_two_places() -> None:
    """In the table's room and at most in one file besides: a name, a flag, or a name in a picture's settings.

    To use one, `settings.cfg`, is not to name it. Left out is what says how other programs call them, and the table of
    those that hold names of files, which a test of its own keeps complete.
    """
    named: dict[str, set[str]] = defaultdict(set)
    for path in (path for name in ROOMS for path in _files(ROOT / name)):
        place = path.relative_to(ROOT).as_posix()
        if not place.startswith(ELSEWHERE):
            for name in _names(ast.parse(path.read_text(encoding="utf-8"))):
                named[name].add("settings" if place.startswith("settings/") else place)
    for name, one in OPTIONS.items():
        names = {*one.flags} | ({one.infotext} if one.infotext else set()) | ({name} - COMMON)
        for said in names:
            assert len(named[said]) <= 2, (said, named[said])
        assert "settings" in named[name]
    assert "tasks/replay.py" in named["switch_at"], "the test sees names"


def _files(place: Path) -> Iterator[Path]:
    return iter([place]) if place.suffix else place.rglob("*.py")


def _names(tree: ast.Module) -> set[str]:
    """Texts that are a name, the fields of classes, and the parameters of functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.ClassDef):
            fields = (one.target for one in node.body if isinstance(one, ast.AnnAssign))
            found |= {field.id for field in fields if isinstance(field, ast.Name)}
    return found


def test_settings_module_still_gives_what_others_import() -> None:
    for name in module.__all__:
        assert hasattr(module, name)


def test_the_command_line_has_every_option_of_the_table() -> None:
    command = typer.main.get_command(app)
    words = command.make_context("sfumato", ["txt2img", "a cat"], resilient_parsing=True)
    _, txt2img, _ = command.resolve_command(words, ["txt2img", "a cat"])
    known = {flag for parameter in txt2img.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    missing = {name for name, one in OPTIONS.items() if not {flag.split("/")[0] for flag in one.flags} & known}
    assert missing == {"width", "height"}, "both are --size there"
