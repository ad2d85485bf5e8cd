"""Trains the denoiser of a latent diffusion model on frozen latents; the text tower may learn too."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.checkpoint import variant
from sfumato.data.protocol import TrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import table_of
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.loading.save import folder_files, save_folder
from sfumato.nets.clip import CLIPText
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.settings.settings import Settings
from sfumato.spec import CLIPTextConfig, Defaults, MMDiTConfig, NoiseSchedule, Prediction, Spec, UNetConfig, VAEConfig
from sfumato.text.encode import TextEncoder
from sfumato.train.config import LoopConfig
from sfumato.train.latents import cached
from sfumato.train.networks import described, new_unet, text_transformer
from sfumato.train.objective import Objective, geometric_mean, validation_errors, whole_steps
from sfumato.train.picture_text import PictureText, picture_tower
from sfumato.train.precision import arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.start import Start, gather
from sfumato.train.task import Batch

MAX_FILE = 16 << 20
RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # of the validation's noise to its signal


@dataclass(frozen=True)
class LDMTraining:
    """Recipe of a denoiser.

    The network is a U-Net, `net`, or a `transformer`; the sizes that depend on the autoencoder and the text tower are
    filled in. `init` is a model (a path, or "emoji") whose weights are the first ones. `length` is the number of tokens
    that the network sees, start and end included. The share `drop` of captions is left empty, for guidance. `data` are
    the options of the data set, such as `data.emoji.training.EmojiOptions`. `min_snr`, `times`, `t_shift` and `t_scale`
    are as in `train.objective`. `train_text` trains the text tower with the denoiser; with `text` this is a new one,
    which learns what pictures look like before (see `train.picture_text`). Sheets draw all `prompts` with each of
    `sheet_endings`. `sheet_steps`, `sheet_cfg`, `sampler` and `schedule` also become the model's defaults.
    """

    loop: LoopConfig
    net: UNetConfig | None = None
    transformer: MMDiTConfig | None = None
    prediction: Prediction = "v"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    init: str = ""
    length: int = 32
    drop: float = 0.1
    data: dict[str, Any] = field(default_factory=dict)
    objective: Objective = field(default_factory=Objective)
    train_text: bool = False
    text: PictureText | None = None
    held_out: int = 48
    sheet_steps: int = 20
    sheet_cfg: float = 4.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    prompts: tuple[str, ...] = ("red apple", "dog face", "rocket", "house", "red heart", "pizza", "octopus", "robot")
    sheet_endings: tuple[str, ...] = ("3d render", "flat icon", "twemoji")

    RENAMED: ClassVar[dict[str, str]] = {
        "sheet_styles": "sheet_endings", "min_snr": "objective.min_snr", "times": "objective.times",
        "t_shift": "objective.shift", "t_scale": "objective.scale",
    } | {
        name: f"data.{name}"
        for name in (
            "backgrounds", "background_share", "styles", "subgroups", "languages", "scenes", "scene_share",
        )
    }  # fmt: skip


def make(
    cfg: LDMTraining,
    data: TrainingSet,
    folder: Path,
    device: torch.device,
    *,
    init: str | None = None,
    vae: Path | None = None,
    clip: Path | None = None,
    latents: Path | None = None,
    parts: str | None = None,
) -> LDMTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    cfg = replace(cfg, init=init or cfg.init)
    return LDMTask(cfg, data, gather(cfg.init, vae, clip, parts), latents or folder, device)


class LDMTask:
    """Trains the denoiser, and the text tower if the recipe says so, see `task.Task`."""

    def __init__(self, cfg: LDMTraining, data: TrainingSet, start: Start, latents: Path, device: torch.device):
        _check(cfg)
        self.cfg, self.size, self.device = cfg, data.size, device
        self._parts_of = start.parts_of
        self.vae = start.vae.to(device)
        self.tokenizer = copy.copy(start.tokenizer)
        self.tokenizer.max_length = cfg.length
        self.pictures = data.captioned(cfg.data, cfg.loop.seed, cfg.held_out)
        self.latents = torch.cat([cached(latents, part, self.vae) for part in self.pictures.parts])
        if cfg.text is None:
            self.text = shortened(start.text, cfg.length, pooled=cfg.transformer is not None).to(device)
        else:
            self.text = picture_tower(
                cfg.text, start.text, self.tokenizer, self.pictures, self.latents, cfg.loop.seed, latents
            ).to(device)
        torch.manual_seed(cfg.loop.seed)
        self.network = _network(cfg, self.vae.cfg, self.text.cfg, data.size // self.vae.cfg.factor)
        start.carry_over(self.network)
        if cfg.loop.compile:
            self.network.compile()
        self.networks: nn.Module = self.network
        if cfg.train_text:
            self.networks = nn.ModuleDict({"unet": self.network, "text": self.text.requires_grad_(True)})
        self.table = table_of(cfg.prediction, cfg.objective.schedule(cfg.noise))
        self.denoiser = Denoiser(self.network, cfg.prediction, self.table)

    def batch(self, step: int) -> Batch:
        """Returns latents `x0`, `noise`, noise levels `sigma` and token `ids` of a step."""
        cfg, seed, count = self.cfg, self.cfg.loop.seed, self.cfg.loop.batch
        numbers, texts = self.pictures.batch(step, count)
        kept = stream(seed, "dropped captions", step).random(count) >= cfg.drop
        x0, chance = self.latents[numbers].float(), stream(seed, "noise", step)
        share = cfg.objective.shares(chance, count)
        return {
            "x0": x0,
            **cfg.objective.noise(chance, tuple(x0.shape)),
            "sigma": self.table.sigmas[whole_steps(share, cfg.noise.steps)],
            "ids": self.tokenizer([text if keep else "" for text, keep in zip(texts, kept, strict=True)]),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean of the objective's losses, and of its errors without weights."""
        errors = self.cfg.objective.errors(self.denoiser, batch, self._cond(batch["ids"]))
        loss = (errors * self.cfg.objective.weights(self.cfg.prediction, batch["sigma"]).to(errors)).mean()
        return loss, {"mse": errors.detach().mean()}

    def validate(self) -> dict[str, float]:
        """Returns for each validation the geometric mean of `errors` over the noise levels, and the "seen" errors."""
        errors = self.errors()
        means = {f"x0_{name}": geometric_mean([*rows.values()]) for name, rows in errors.items()}
        return means | {f"x0_seen_{ratio:g}": error for ratio, error in errors["seen"].items()}

    def errors(self) -> dict[str, dict[float, float]]:
        """Returns the mean squared error of the estimate of x0, by ratio of noise to signal, for each of the set's
        validations.

        Pictures, ratios and noise are fixed, so the errors of networks with different predictions can be compared.
        """
        return {
            name: {ratio: self._error(self.latents[numbers], prompts, ratio) for ratio in RATIOS}
            for name, (numbers, prompts) in self.pictures.validation().items()
        }

    def samples(self) -> Image.Image:
        """Returns a row of pictures for each of `sheet_endings`, drawn from the same noise in each column."""
        cfg = self.cfg
        prompts = [f"{prompt}, {ending}" for ending in cfg.sheet_endings for prompt in cfg.prompts]
        pictures = self.draw(prompts, [*range(len(cfg.prompts))] * len(cfg.sheet_endings))
        return sheet(pictures.split(len(cfg.prompts)))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Returns pictures (N, 3, H, W) in about [-1, 1], drawn with the recipe's sampler, steps and guidance."""
        spec = self._spec()
        model = Model(spec, self.denoiser, self.vae, TextEncoder(self.tokenizer, (self.text,)), Path("run"))
        requests = [Request(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return decoded(self.vae, trajectories(model, requests, Settings.of(spec, "-"))[:, -1])

    def export(self, folder: Path) -> None:
        """Writes a diffusers folder in float16, in files of at most 16 MiB, or of a variant `denoiser.safetensors`."""
        spec = self._spec()
        if self._parts_of is not None:
            self._export_variant(folder / "denoiser.safetensors", spec, self._parts_of)
            return
        self.tokenizer.save(folder / "tokenizer")
        save_folder(
            folder,
            spec,
            {family(spec.family).denoiser: self.network, "vae": self.vae, "text": self.text},
            tokenizer_folder=folder / "tokenizer",
            dtype=torch.float16,
            max_file_size=MAX_FILE,
        )

    def _spec(self) -> Spec:
        cfg, size = self.cfg, self.size
        return replace(
            described(self.network),
            vae=self.vae.cfg,
            text=self.text.cfg,
            prediction=cfg.prediction,
            noise=cfg.objective.schedule(cfg.noise),
            defaults=Defaults(size, size, cfg.sheet_steps, cfg.sheet_cfg, cfg.sampler, cfg.schedule),
        )

    def _export_variant(self, path: Path, spec: Spec, base: str) -> None:
        """Writes another denoiser for the autoencoder and the text tower of the model `base`, or with a tower of its
        own."""
        owner = family(spec.family)
        files = {
            name: json.loads(content)
            for name, content in folder_files(owner, spec, self.tokenizer).items()
            if name.endswith(".json") and not name.startswith(("tokenizer", "vae/"))
        }
        files["tokenizer/tokenizer_config.json"] = {"model_max_length": self.cfg.length}
        brought: dict[str, nn.Module] = {owner.denoiser: self.network}
        kept = {"vae", "tokenizer"}
        if self.cfg.text is None and not self.cfg.train_text:
            kept.add("text_encoder")
        else:
            brought["text_encoder"] = self.text
        tensors = {f"{part}/{name}": value for part, net in brought.items() for name, value in net.state_dict().items()}
        index = json.loads((variant.place(base) / "model_index.json").read_text(encoding="utf-8"))
        parts = {part for part, value in index.items() if isinstance(value, list)}
        variant.write(path, base, files, tensors, sorted(parts - kept))

    def _cond(self, ids: Tensor) -> Cond:
        states = self.text(ids)
        return Cond(states.read(), states.vector)

    def _error(self, x0: Tensor, prompts: Sequence[str], ratio: float) -> float:
        """Returns the mean squared error of x0 (N, C, h, w) for prompts, with noise of `ratio` times the signal."""
        with arithmetic(self.cfg.loop, self.device):
            cond = self._cond(self.tokenizer(prompts).to(self.device))
            return validation_errors(self.denoiser, x0.float().to(self.device), cond, ratio).mean().item()


def _network(cfg: LDMTraining, vae: VAEConfig, text: CLIPTextConfig, side: int) -> UNet | MMDiT:
    """Returns the recipe's network. Raises SfumatoError unless the recipe has exactly one."""
    if cfg.net is not None and cfg.transformer is None:
        return new_unet(cfg.net, vae, text)
    if cfg.transformer is not None and cfg.net is None:
        return text_transformer(cfg.transformer, vae, text, side)
    raise SfumatoError("the recipe has to describe one network; give it either the table [net] or [transformer]")


def shortened(text: CLIPText, length: int, pooled: bool) -> CLIPText:
    """Returns a copy of the tower for at most `length` tokens; with `pooled` it also has a vector of the whole prompt.

    Raises SfumatoError if the tower takes fewer tokens.
    """
    if length > text.cfg.max_length:
        raise SfumatoError(f"length is {length}; this text tower takes at most {text.cfg.max_length}")
    short = CLIPText(replace(text.cfg, max_length=length, pooled="plain" if pooled else None))
    state = text.state_dict()
    positions = "text_model.embeddings.position_embedding.weight"
    short.load_state_dict(state | {positions: state[positions][:length]})
    return short.eval().requires_grad_(False)


def _check(cfg: LDMTraining) -> None:
    cfg.objective.check(cfg.prediction)
    if cfg.prediction == "edm":
        raise SfumatoError("prediction is 'edm'; training knows eps, v, x0 and flow")
    if cfg.length < 3:
        raise SfumatoError(f"length is {cfg.length}; expected at least 3")
