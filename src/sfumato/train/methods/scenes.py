"""Trains a denoiser on scenes: a transformer, and the composer that tells it which thing lies where.

No words take part. All that a picture shows is known exactly, so the denoiser learns to draw. A reader learns to read
separately (`methods.reader`). Both use the codes of pictures, which `train.assemble` puts into the model's memory.
"""

from __future__ import annotations

import dataclasses
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
from sfumato.nets.layout import MAX_THINGS, Spot
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.vae import VAE
from sfumato.pipeline.batch import decoded, latents_of
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.seeding import shuffled, stream
from sfumato.spec import MMDiTConfig, NoiseSchedule, PriorConfig
from sfumato.train.assemble import SCENES_FILE, remembered, rewrite, with_composer
from sfumato.train.codes import Codes, kept
from sfumato.train.config import LoopConfig
from sfumato.train.latents import cached, identity, scene_latents
from sfumato.train.networks import new_transformer, with_fewer_blocks
from sfumato.train.objective import denoising_losses, geometric_mean, stratified, times, validation_errors
from sfumato.train.precision import arithmetic
from sfumato.train.preparation import Tensors
from sfumato.train.sheet import sheet
from sfumato.train.task import Batch

RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # of the validation's noise to its signal
TOLD = ("ground_token", "tint_token", "spot_token", "absent")  # of the composer, that the transformer reads
CANONICAL = Spot(0.5, 0.5, 0.92)  # where a thing lies in the picture that its code is made of


@dataclass(frozen=True)
class SceneTraining:
    """Recipe of a denoiser of scenes.

    It learns from the first `scenes` of `scene_seed`, and from single things as they lie in the picture that their code
    of `code` numbers and `detail` smaller ones is made of; these are the share `single` of every batch. Of the share
    `drop` of pictures the network is told nothing. Times are sigmoid(shift + z) of normal z, stratified over the batch
    (Esser et al. 2024, equation 19).

    `draft_weight` weighs the error of the composer's draft, whose local network is `hidden` wide, against that of the
    network. In the first `draft_steps` the composer learns alone. `code_noise` is added to codes, and the details of
    the share `blur` of pictures are left out, so that what the memory has only approximately is drawn well too. Sheets
    take `sheet_steps` steps.
    """

    loop: LoopConfig
    transformer: MMDiTConfig = field(default_factory=MMDiTConfig)
    code: int = 192
    detail: int = 0
    hidden: int = 320
    scenes: int = 24576
    scene_seed: int = 4242
    single: float = 0.35
    drop: float = 0.1
    draft_weight: float = 0.2
    draft_steps: int = 0
    code_noise: float = 0.0
    blur: float = 0.0
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
    init: str | None = None,
    latents: Path | None = None,
) -> SceneTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    model = None if init is None else load(init, device, "float32")
    if model is not None and vae is not None:
        raise SfumatoError("--init brings its autoencoder; leave --vae out")
    autoencoder = (model or load(None, device, "float32")).vae if vae is None else load_vae(vae)
    return SceneTask(cfg, data, autoencoder, latents or folder, device, model)


class SceneTask:
    """Trains the transformer and the composer, see `task.Task`.

    `vae` encodes the pictures, whose latents are kept in the folder `latents`. `init` is a model with a scene prior
    whose transformer and composer learn on; exports are then complete models.
    """

    def __init__(
        self,
        cfg: SceneTraining,
        data: TrainingSet,
        vae: VAE,
        latents: Path,
        device: torch.device,
        init: Model | None = None,
    ):
        self._init = init
        self.cfg, self.data, self.device, self.vae = cfg, data, device, vae.to(device)
        side = data.size // vae.cfg.factor
        self._singles = cached(latents, data.alone(CANONICAL), self.vae)
        self._train = data.splits["train"]
        prior = PriorConfig(
            data.subjects, len(data.groups), cfg.code, tints=1 + data.tints, grounds=1 + len(data.grounds),
            latent_channels=vae.cfg.latent_channels, side=side,
        )  # fmt: skip
        if init is not None and init.spec.prior is not None:
            prior = init.spec.prior
        prior = replace(prior, detail=cfg.detail, hidden=cfg.hidden)
        self._scenes = scene_latents(latents, data, self.vae, cfg.scenes, cfg.scene_seed)
        self._new = scene_latents(latents, data, self.vae, max(cfg.held_out, 1), -1)
        torch.manual_seed(cfg.loop.seed)
        self.transformer, self.composer = scene_transformer(cfg.transformer, prior), Composer(prior)
        self.networks = nn.ModuleDict({"transformer": self.transformer, "composer": self.composer})
        if init is not None:
            self._continue_from(init)
        if init is None or init.spec.prior != prior:
            self._begin_draft(init, latents)
        self.composer.basis.requires_grad_(not cfg.detail)  # details are what the basis leaves out
        self.table = table_of("flow", NoiseSchedule())
        self.denoiser = Denoiser(self.transformer, "flow", self.table)

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
        x0 = torch.cat([self._singles[numbers], self._scenes["latents"][places]]).float()
        rows = concatenated(self._alone(numbers), {name: value[places] for name, value in self._scenes.items()})
        return rows | {
            "x0": x0,
            "noise": torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32)),
            "sigma": share.clamp(1e-4, 1 - 1e-3),
            "drop": torch.from_numpy(chance.random(count) < cfg.drop),
            "step": torch.tensor(step),
            "blur": torch.from_numpy(chance.random(count) < cfg.blur),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the mean squared error of the flow, plus that of the draft times its weight."""
        cfg, x0, composer = self.cfg, batch["x0"], self.composer
        things = self.things(batch).dropped(batch["drop"], composer.cfg.grounds)
        things.codes[batch["blur"], :, cfg.code :] = 0
        if cfg.code_noise:
            noise = cfg.code_noise * torch.randn_like(things.codes) * things.present[..., None]
            noise[..., cfg.code :] = 0
            things = replace(things, codes=things.codes + noise)
        cond = composer(things, *x0.shape[2:])
        draft = (cond.concat - x0).square().mean((1, 2, 3))[~batch["drop"]].mean()
        if batch["step"] < cfg.draft_steps:
            return draft, {"draft": draft.detach()}
        error = denoising_losses(self.denoiser, x0, batch["noise"], batch["sigma"], cond)
        single = round(cfg.single * len(x0))
        extras = {"single": error[:single].mean(), "scene": error[single:].mean(), "draft": draft}
        return error.mean() + cfg.draft_weight * draft, {name: value.detach() for name, value in extras.items()}

    def validate(self) -> dict[str, float]:
        """Returns the mean squared error of the estimate of x0, as the geometric mean over fixed noise levels and at
        some of them.

        "single" are training pictures alone, "scene" scenes that training does not see; "_draft" are the errors of
        their drafts.
        """
        numbers = self._train[np.linspace(0, len(self._train) - 1, self.cfg.held_out).astype(int)]
        found: dict[str, float] = {}
        for name, rows, x0 in (
            ("single", self._alone(numbers), self._singles[numbers].float()),
            ("scene", self._new, self._new["latents"].float()),
        ):
            things = self.things(rows)
            with arithmetic(self.cfg.loop, self.device):
                cond = self.composer(things.to(self.device), *x0.shape[2:])
            found[f"{name}_draft"] = (cond.concat - x0).square().mean().item()
            errors = {ratio: self._error(x0, cond, ratio) for ratio in RATIOS}
            found[name] = geometric_mean([*errors.values()])
            found |= {f"{name}_{ratio:g}": errors[ratio] for ratio in (1.0, 5.0, 25.0)}
        return found

    def samples(self) -> Image.Image:
        """Returns pairs of rows, the composed pictures above the drawn ones: things alone, then new scenes."""
        numbers = self._train[np.linspace(0, len(self._train) - 1, 12).astype(int)]
        rows = []
        for labels, x0 in ((self._alone(numbers), self._singles[numbers]), (self._new, self._new["latents"][:24])):
            for start in range(0, len(x0), 12):
                part = {name: value[start : start + 12] for name, value in labels.items()}
                drawn = self.draw(self.things(part), self.cfg.sheet_steps)
                rows += [self.pictures(x0[start : start + 12].float()), drawn]
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

    def things(self, rows: Tensors) -> Things:
        """Returns what the composer is told of labelled scenes."""
        present = rows["group"] >= 0
        codes = self._codes[rows["picture"]] * present[..., None]
        return Things(codes, rows["tint"], rows["spot"], present, rows["ground"])

    def draw(self, things: Things, steps: int, guidance: float | None = None, seed: int = 0) -> Tensor:
        """Returns pictures (N, 3, H, W) in about [-1, 1]. `guidance` is the scale; None takes the recipe's."""
        guidance = self.cfg.sheet_cfg if guidance is None else guidance
        sampler, sigmas = find_sampler("euler"), sigma_list("sgm_uniform", self.table, steps)
        composer, side = self.composer, self.data.size // self.vae.cfg.factor
        nothing = things.dropped(torch.ones(len(things.codes), dtype=torch.bool), composer.cfg.grounds)
        with arithmetic(self.cfg.loop, self.device):
            conds, empty = composer(things, side, side), composer(nothing, side, side)
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

    def _alone(self, numbers: np.ndarray) -> Tensors:
        """Returns the labels that `things` reads, of pictures as codes are made of: alone on white at CANONICAL."""
        n = len(numbers)
        rows = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint", "group")}
        rows["group"] -= 1
        rows["group"][:, 0] = 0
        rows["picture"][:, 0] = torch.from_numpy(numbers)
        spot = torch.zeros(n, MAX_THINGS, 5)
        spot[:, 0] = torch.tensor([CANONICAL.x, CANONICAL.y, CANONICAL.side, 0, 0])
        return rows | {"spot": spot, "ground": torch.full((n,), len(self.data.grounds))}

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
        if model.prior.cfg == self.composer.cfg:
            self.composer.load_state_dict(known)
            self._codes = remembered(model.prior, self.data)
        else:  # what the transformer reads of it stays, and its draft begins anew
            self.composer.load_state_dict(new | {name: known[name] for name in known if name.startswith(TOLD)})

    def _begin_draft(self, init: Model | None, folder: Path) -> None:
        """Gives a new composer the codes of all pictures, its basis and the colours of grounds; its local network adds
        nothing yet."""
        composer, x, cfg = self.composer, self._singles, self.cfg
        known = None if init is None or init.prior is None else remembered(init.prior, self.data)[:, : cfg.code]
        made_from = cfg.code, cfg.detail, None if init is None else init.hash
        path = folder / f"codes-{identity(self.data, self.vae, CANONICAL, *made_from)}.pt"
        found = kept(path, lambda: Codes.of(x, self._train, cfg.code, cfg.detail, known))
        self._codes = torch.cat([found.codes, found.details], 1)
        with torch.no_grad():
            composer.basis.weight.copy_(found.basis)
            composer.basis.bias.copy_(found.mean)
            if cfg.detail:
                composer.get_buffer("detail_basis").copy_(found.detail_basis)
                composer.get_buffer("detail_scale").copy_(found.detail_scale)
            for parameter in composer.fit_3.parameters():
                parameter.zero_()
            composer.white.copy_(self._plain(composer.cfg.grounds - 1))
            composer.ground_latent.weight.zero_()
            for ground in range(composer.cfg.grounds - 1):
                composer.ground_latent.weight[ground] = self._plain(ground) - composer.white
            for table in () if init else (composer.ground_token, composer.tint_token):
                table.weight.mul_(0.3)

    def _plain(self, ground: int) -> Tensor:
        """Returns the latents (C,) of a plain ground: the median of scenes on it, which are more ground than things."""
        of_ground = self._scenes["latents"][self._scenes["ground"] == ground]
        return of_ground.float().movedim(1, 0).flatten(1).median(1).values if len(of_ground) else self.composer.white

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


def concatenated(first: Tensors, second: Tensors) -> Tensors:
    """Returns the rows of both, for the labels of the first."""
    return {name: torch.cat([first[name], second[name]]) for name in first}
