"""Trains a denoiser on scenes: a transformer, and the composer that tells it which thing lies where.

No words take part. All that a picture shows is known exactly, so the denoiser learns to draw. A reader learns to read
separately (`methods.reader`). Both use the codes of pictures, which `train.assemble` puts into the model's memory.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.data.protocol import TrainingSet
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.guidance import Guidance, cfg, network_guide
from sfumato.diffusion.noise_schedule import table_of
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_vae, write_export
from sfumato.nets.composer import Composer, Things
from sfumato.nets.layout import MAX_THINGS
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.vae import VAE
from sfumato.pipeline.batch import decoded, latents_of
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.seeding import shuffled, stream
from sfumato.spec import MMDiTConfig, NoiseSchedule, PriorConfig
from sfumato.train.assemble import SCENES_FILE, read_codes, remembered, rewrite, with_composer
from sfumato.train.config import LoopConfig
from sfumato.train.cutouts import CANONICAL
from sfumato.train.drafts import Drafter
from sfumato.train.latents import cached, scene_latents
from sfumato.train.networks import new_transformer, with_fewer_blocks
from sfumato.train.objective import denoising_losses, geometric_mean, stratified, times, validation_errors
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch

RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # of the validation's noise to its signal
TOLD = ("ground_token", "tint_token", "spot_token", "absent", "unknown")  # of the composer, that is learnt here


@dataclass(frozen=True)
class SceneTraining:
    """Recipe of a denoiser of scenes.

    It learns from the first `scenes` of `scene_seed`, and from single things as they lie in the picture that their code
    is made of; these are the share `single` of every batch. Of the share `drop` of pictures the network is told
    nothing. Times are sigmoid(shift + z) of normal z, stratified over the batch
    (Esser et al. 2024, equation 19).

    In the share `blur` of scenes details are left out of the draft, so that what the memory has only approximately is
    drawn well too. Sheets take `sheet_steps` steps.
    """

    loop: LoopConfig
    transformer: MMDiTConfig = field(default_factory=MMDiTConfig)
    scenes: int = 24576
    scene_seed: int = 4242
    single: float = 0.35
    drop: float = 0.1
    blur: float = 0.1
    t_shift: float = 0.0
    held_out: int = 64
    sheet_steps: int = 12
    sheet_cfg: float = 1.5


def make(
    cfg: SceneTraining,
    data: TrainingSet,
    folder: Path,
    device: torch.device,
    *,
    vae: Path | None = None,
    codes: Path | None = None,
    init: str | None = None,
    latents: Path | None = None,
) -> SceneTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    model = None if init is None else load(init, device, "float32")
    if model is not None and vae is not None:
        raise SfumatoError("--init brings its autoencoder; leave --vae out")
    if codes is not None:
        composer, known = read_codes(codes)
    elif model is not None and model.prior is not None:
        composer, known = model.prior.composer, remembered(model.prior, data)
    else:
        raise SfumatoError("give --codes, the export folder of `sfumato train codes`, or --init with a model's")
    autoencoder = (model or load(None, device, "float32")).vae if vae is None else load_vae(vae)
    return SceneTask(cfg, data, autoencoder, composer, known, latents or folder, device, model)


class SceneTask:
    """Trains the transformer and what the composer tells it besides the draft, see `task.Task`.

    `vae` encodes the pictures, whose latents are kept in the folder `latents`, and their drafts as well. The `composer`
    and the `codes` (N, K + D) of all pictures are those of `methods.codes`. `init` is a model with a scene prior whose
    transformer learns on; exports are then complete models.
    """

    def __init__(
        self,
        cfg: SceneTraining,
        data: TrainingSet,
        vae: VAE,
        composer: Composer,
        codes: Tensor,
        latents: Path,
        device: torch.device,
        init: Model | None = None,
    ):
        self._init, self._codes = init, codes
        self.cfg, self.data, self.device, self.vae = cfg, data, device, vae.to(device)
        self._train = data.splits["train"]
        torch.manual_seed(cfg.loop.seed)
        self.composer = copy.deepcopy(composer).to(device)
        self.transformer = scene_transformer(cfg.transformer, composer.cfg)
        for name, parameter in self.composer.named_parameters():
            parameter.requires_grad_(name.startswith(TOLD))
        if init is None:
            for table in (self.composer.ground_token, self.composer.tint_token):
                table.weight.data.mul_(0.3)
        else:
            self._continue_from(init)
        self.networks = nn.ModuleDict({"transformer": self.transformer, "composer": self.composer})
        self.table = table_of("flow", NoiseSchedule())
        self.denoiser = Denoiser(self.transformer, "flow", self.table)
        self._drafter = Drafter(latents, data, self.vae, self.composer, codes, cfg.blur)
        self._singles = self._with_drafts("things", self._alone(latents))
        self._scenes = self._with_drafts(f"scenes {cfg.scene_seed}", scene_latents(
            latents, data, self.vae, cfg.scenes, cfg.scene_seed))  # fmt: skip
        self._new = self._with_drafts("new scenes", scene_latents(latents, data, self.vae, max(cfg.held_out, 1), -1))

    def batch(self, step: int) -> Batch:
        """Returns latents `x0` with their labels, `noise`, levels `sigma`, and the rows to `drop` and to `blur`."""
        cfg, count, seed = self.cfg, self.cfg.loop.batch, self.cfg.loop.seed
        single = round(cfg.single * count)
        numbers = self._train[shuffled(seed, "pictures", step * single, single, len(self._train))]
        places = torch.from_numpy(
            shuffled(seed, "scenes", step * (count - single), count - single, len(self._scenes["latents"]))
        )
        chance = stream(seed, "noise", step)
        share = times("logit_normal", stratified(chance, count), cfg.t_shift)
        parts = ((self._singles, torch.from_numpy(numbers)), (self._scenes, places))
        rows = {name: torch.cat([kept[name][which] for kept, which in parts]) for name in self._singles}
        return rows | {
            "noise": torch.from_numpy(chance.standard_normal(tuple(rows["latents"].shape), np.float32)),
            "sigma": share.clamp(1e-4, 1 - 1e-3),
            "drop": torch.from_numpy(chance.random(count) < cfg.drop),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the flow."""
        x0 = batch["latents"].float()
        things = self.things(batch).dropped(batch["drop"], self.composer.cfg.grounds)
        cond = self.composer(things, batch["drafts"].float())
        error = denoising_losses(self.denoiser, x0, batch["noise"], batch["sigma"], cond)
        single = round(self.cfg.single * len(x0))
        return error.mean(), {"single": error[:single].mean().detach(), "scene": error[single:].mean().detach()}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0, as the geometric mean over fixed noise levels and at
        some of them.

        "single" are training pictures alone, "scene" scenes that training does not see; "_draft" are the errors of
        their drafts.
        """
        found: dict[str, float] = {}
        for name, rows in (("single", self._some_alone(self.cfg.held_out)), ("scene", self._new)):
            x0, draft = rows["latents"].float(), rows["drafts"].float()
            with arithmetic(self.cfg.loop, self.device):
                cond = self.composer(self.things(rows).to(self.device), draft.to(self.device))
            found[f"{name}_draft"] = (draft - x0).square().mean().item()
            errors = {ratio: self._error(x0, cond, ratio) for ratio in RATIOS}
            found[name] = geometric_mean([*errors.values()])
            found |= {f"{name}_{ratio:g}": errors[ratio] for ratio in (1.0, 5.0, 25.0)}
        return found

    def samples(self) -> Image.Image:
        """Returns pairs of rows, the composed pictures above the drawn ones: things alone, then new scenes."""
        rows = []
        for kept in (self._some_alone(12), {name: value[:24] for name, value in self._new.items()}):
            for start in range(0, len(kept["latents"]), 12):
                part = {name: value[start : start + 12] for name, value in kept.items()}
                drawn = self.draw(self.things(part), part["drafts"].float(), self.cfg.sheet_steps)
                rows += [self.pictures(part["latents"].float()), drawn]
        return sheet(rows)

    def export(self, folder: Path) -> None:
        """Writes a complete model; without an `init` the weights, their sizes and the codes to one file, which the
        reader's training makes a model of."""
        if self._init is not None:
            assert self._init.prior is not None, "checked where the weights were taken"
            prior = with_composer(self._init.prior, self.composer, self.data, self._codes)
            rewrite(folder, self._init, transformer=self.transformer, prior=prior)
            return
        parts = (("transformer", self.transformer.cfg), ("prior", self.composer.cfg))
        config = {name: dataclasses.asdict(cfg) for name, cfg in parts}
        write_export(folder / SCENES_FILE, self.networks, config, {"codes": self._codes})

    def things(self, rows: Mapping[str, Tensor]) -> Things:
        """Returns what the composer is told of labelled scenes."""
        return self._drafter.things(rows)

    def draw(self, things: Things, drafts: Tensor, steps: int, guidance: float | None = None, seed: int = 0) -> Tensor:
        """Returns pictures (N, 3, H, W) in about [-1, 1]. `guidance` is the scale; None takes the recipe's."""
        guidance = self.cfg.sheet_cfg if guidance is None else guidance
        sampler, sigmas = find_sampler("euler"), sigma_list("sgm_uniform", self.table, steps)
        composer, side = self.composer, self.data.size // self.vae.cfg.factor
        nothing = things.dropped(torch.ones(len(things.codes), dtype=torch.bool), composer.cfg.grounds)
        with arithmetic(self.cfg.loop, self.device):
            conds, empty = composer(things, drafts), composer(nothing, drafts)
        jobs = []
        for k in range(len(things.codes)):
            noise = NoiseStream(seed + k, (1, self.vae.cfg.latent_channels, side, side), self.device)
            shown, unseen = (network_guide(self.denoiser, cond.select(slice(k, k + 1))) for cond in (conds, empty))
            steer = Guidance(partial(cfg, shown, unseen, guidance))
            jobs.append(
                sampler.job(steer, noise.normal() * sigmas[0].item(), sigmas, self.denoiser.path, noise, self.table)
            )
        with arithmetic(self.cfg.loop, self.device):
            latents = [row[-1] for row in latents_of(jobs)]
        return self.pictures(torch.cat(latents))

    def pictures(self, latents: Tensor) -> Tensor:
        """Returns the decoded pictures (N, 3, H, W)."""
        with arithmetic(self.cfg.loop, self.device):
            return decoded(self.vae, latents).float()

    def _alone(self, folder: Path) -> Tensors:
        """Returns latents and labels of all pictures as codes are made of: alone on white at CANONICAL."""
        n = len(self.data)
        rows = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint", "group")}
        rows["group"] -= 1
        rows["group"][:, 0] = 0
        rows["picture"][:, 0] = torch.arange(n)
        spot = torch.zeros(n, MAX_THINGS, 5)
        spot[:, 0] = torch.tensor([CANONICAL.x, CANONICAL.y, CANONICAL.side, 0, 0])
        latents = cached(folder, self.data.alone(CANONICAL), self.vae)
        return rows | {"latents": latents, "spot": spot, "ground": torch.full((n,), len(self.data.grounds))}

    def _some_alone(self, count: int) -> Tensors:
        """Returns the rows of `count` training pictures alone."""
        numbers = self._train[np.linspace(0, len(self._train) - 1, count).astype(int)]
        return {name: value[numbers] for name, value in self._singles.items()}

    def _with_drafts(self, name: str, rows: Tensors) -> Tensors:
        return rows | {"drafts": self._drafter.drafts(name, rows, self.data.size // self.vae.cfg.factor)}

    def _continue_from(self, model: Model) -> None:
        """Begins with the denoiser of a model, and with the codes that it remembers."""
        network, own = model.denoiser.network, self.transformer.cfg
        fits = isinstance(network, MMDiT) and replace(network.cfg, seen=own.seen, depth=own.depth) == own
        if not isinstance(network, MMDiT) or model.prior is None or not fits:
            raise SfumatoError(
                f"{model.path} has no scene prior, or its transformer has other sizes than the recipe's; give a model "
                "that this recipe made, such as emoji"
            )
        self.transformer.load_state_dict(with_fewer_blocks(network, own.depth))
        known, new = model.prior.composer.state_dict(), self.composer.state_dict()
        self.composer.load_state_dict(new | {name: known[name] for name in known if name.startswith(TOLD)})

    def _error(self, x0: Tensor, cond: Cond, ratio: float) -> float:
        with arithmetic(self.cfg.loop, self.device):
            return validation_errors(self.denoiser, x0, cond, ratio).mean().item()


def scene_transformer(cfg: MMDiTConfig, prior: PriorConfig) -> MMDiT:
    """Returns a new transformer that reads the composer's tokens and its draft."""
    sizes = replace(
        cfg,
        in_channels=2 * prior.latent_channels,
        out_channels=prior.latent_channels,
        context_dim=prior.code + prior.attributes,
        pooled_dim=prior.code + prior.attributes,
    )
    return new_transformer(sizes)
