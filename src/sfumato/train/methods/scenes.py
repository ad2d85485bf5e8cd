"""Trains a denoiser on scenes: a transformer, and the composer that tells it which thing lies where.

No words take part. All that a picture shows is known exactly, so the denoiser learns to draw. A reader learns to read
separately (`methods.reader`). Both use the codes of pictures, which `train.assemble` puts into the model's memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

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
from sfumato.files import atomic_write
from sfumato.loading.exports import load_vae, write_export
from sfumato.nets.composer import Composer, Things
from sfumato.nets.layout import MAX_THINGS, Spot
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.packed import LARGEST, packed, unpacked
from sfumato.nets.vae import VAE
from sfumato.pipeline.batch import decoded, latents_of
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.seeding import shuffled, stream
from sfumato.spec import MMDiTConfig, NoiseSchedule, PriorConfig
from sfumato.train.assemble import SCENES_FILE, remembered, rewrite, with_composer
from sfumato.train.config import LoopConfig
from sfumato.train.latents import cached, identity, scene_latents
from sfumato.train.loop import Batch, arithmetic
from sfumato.train.networks import new_transformer
from sfumato.train.objective import denoising_losses, geometric_mean, stratified, times, validation_errors
from sfumato.train.preparation import Tensors
from sfumato.train.sheet import sheet

RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # of the validation's noise to its signal
REACH = 3.0  # standard deviations that the largest of four bits stands for
CANONICAL = Spot(0.5, 0.5, 0.92)  # where a thing lies in the picture that its code is made of


@dataclass(frozen=True)
class SceneTraining:
    """Recipe of a denoiser of scenes.

    It learns from the first `scenes` of `scene_seed`, and from single things as they lie in the picture that their code
    of `code` numbers and `detail` smaller ones is made of; these are the share `single` of every batch. Of the share
    `drop` of pictures the network is told nothing. Times are sigmoid(shift + z) of normal z, stratified over the batch
    (Esser et al. 2024, equation 19). `draft_weight` weighs the error of the composer's draft against that of the
    network. `code_noise` is added to codes, and the details of the share `blur` of pictures are left out, so that what
    the memory has only approximately is drawn well too. Sheets take `sheet_steps` steps.
    """

    loop: LoopConfig
    transformer: MMDiTConfig = field(default_factory=MMDiTConfig)
    code: int = 192
    detail: int = 0
    scenes: int = 24576
    scene_seed: int = 4242
    single: float = 0.35
    drop: float = 0.1
    draft_weight: float = 0.2
    code_noise: float = 0.0
    blur: float = 0.0
    t_shift: float = 0.0
    held_out: int = 64
    sheet_steps: int = 12
    sheet_cfg: float = 1.5


@dataclass(frozen=True, eq=False)
class Codes:
    """Pictures as coefficients: `codes` (N, K) of every picture of the set, on a `basis` (C h w, K) around a `mean` (C
    h w).

    The basis are the principal components of the training pictures (Pearson 1901). One factor scales it so that
    coefficients have a standard deviation of 1 on average.
    """

    codes: Tensor
    basis: Tensor
    mean: Tensor

    @classmethod
    def of(cls, latents: Tensor, train: np.ndarray, count: int) -> Codes:
        """Returns the codes of latents (N, C, h, w); the basis is fitted to the pictures `train` alone."""
        x = latents.float().flatten(1)
        mean = x[train].mean(0)
        torch.manual_seed(0)
        _, _, basis = torch.pca_lowrank(x[train] - mean, min(count + 32, len(train)), center=False, niter=3)
        codes = (x - mean) @ basis[:, :count]
        scale = codes[train].std(0).mean()
        return cls(codes / scale, basis[:, :count] * scale, mean)


@dataclass(frozen=True, eq=False)
class Details:
    """What codes leave out: whole numbers `numbers` (N, D) from -7 to 7 for every picture, on a `basis` (D, C h w / 2)
    of packed rows (see `nets.packed`) of the scales `scale` (D,)."""

    numbers: Tensor
    basis: Tensor
    scale: Tensor

    @classmethod
    def of(cls, rest: Tensor, train: np.ndarray, count: int) -> Details:
        """Returns the details of what codes leave out of latents, `rest` (N, C h w); the basis is the `count` first
        principal components of the pictures `train` alone, in four bits."""
        learnt = rest[train]
        variances, directions = torch.linalg.eigh(learnt.T @ learnt / len(learnt))
        directions = directions.flip(1)[:, :count].T * (variances.flip(0)[:count, None].clamp(min=1e-12)).sqrt()
        rows = directions * (REACH / LARGEST)
        scale = rows.square().mean(1).sqrt() * (REACH / LARGEST)
        basis = packed(rows / scale[:, None])
        rough = scale[:, None] * unpacked(basis)
        gram = rough @ rough.T
        fitted = torch.linalg.solve(gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)), rough @ rest.T)
        return cls(unpacked(packed(fitted.T)), basis, scale)


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
    """Trains the transformer and the composer, see `loop.Task`.

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
        prior = replace(prior, detail=cfg.detail)
        self._codes = _kept(
            latents / f"codes-{identity(data, vae, CANONICAL, cfg.code)}.pt",
            Codes,
            lambda: Codes.of(self._singles, self._train, cfg.code),
        )
        self._scenes = scene_latents(latents, data, self.vae, cfg.scenes, cfg.scene_seed)
        self._new = scene_latents(latents, data, self.vae, max(cfg.held_out, 1), -1)
        torch.manual_seed(cfg.loop.seed)
        self.transformer, self.composer = scene_transformer(cfg.transformer, prior), self._composer(prior)
        self.networks = nn.ModuleDict({"transformer": self.transformer, "composer": self.composer})
        if init is not None:
            self._continue_from(init)
        if cfg.detail and not (init is not None and init.spec.prior is not None and init.spec.prior.detail):
            self._add_details(latents / f"details-{identity(data, vae, CANONICAL, prior, init and init.hash)}.pt")
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
        error = denoising_losses(self.denoiser, x0, batch["noise"], batch["sigma"], cond)
        single = round(cfg.single * len(x0))
        draft = (cond.concat - x0).square().mean((1, 2, 3))[~batch["drop"]].mean()
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
            prior = with_composer(self._init.prior, self.composer, self.data, self._codes.codes)
            rewrite(folder, self._init, transformer=self.transformer, prior=prior)
            return
        parts = (("transformer", self.transformer.cfg), ("prior", self.composer.cfg))
        config = {name: dataclasses.asdict(cfg) for name, cfg in parts}
        write_export(folder / SCENES_FILE, self.networks, config, {"codes": self._codes.codes})

    def things(self, rows: Tensors) -> Things:
        """Returns what the composer is told of labelled scenes."""
        present = rows["group"] >= 0
        codes = self._codes.codes[rows["picture"]] * present[..., None]
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
        known = model.prior is not None and model.prior.cfg.detail in (0, self.cfg.detail)
        fits = isinstance(network, MMDiT) and replace(network.cfg, seen=own.seen, depth=own.depth) == own
        if not isinstance(network, MMDiT) or model.prior is None or not (known and fits):
            raise SfumatoError(
                f"{model.path} has no scene prior, or its transformer has other sizes than the recipe's; give a model "
                "that this recipe made, such as emoji"
            )
        self.transformer.load_state_dict(with_fewer_blocks(network, own.depth))
        kept = self.composer.state_dict() | model.prior.composer.state_dict()
        self.composer.load_state_dict(kept)
        self._codes = replace(self._codes, codes=remembered(model.prior, self.data))

    def _add_details(self, path: Path) -> None:
        """Appends to the codes what they leave out of the pictures, and gives the composer its basis."""
        codes = self._codes.codes

        def made() -> Details:
            with torch.no_grad():
                alone = self.composer.alone(torch.cat([codes, codes.new_zeros(len(codes), self.cfg.detail)], 1))
            return Details.of(self._singles.float().flatten(1) - alone, self._train, self.cfg.detail)

        details = _kept(path, Details, made)
        self.composer.get_buffer("detail_basis").copy_(details.basis)
        self.composer.get_buffer("detail_scale").copy_(details.scale)
        self._codes = replace(self._codes, codes=torch.cat([codes, details.numbers], 1))

    def _composer(self, prior: PriorConfig) -> Composer:
        """Returns a new composer; its basis is that of the codes, and its local network adds nothing yet."""
        composer = Composer(prior)
        with torch.no_grad():
            composer.basis.weight.copy_(self._codes.basis)
            composer.basis.bias.copy_(self._codes.mean)
            composer.white.copy_(self._white().flatten(1).mean(1))
            for parameter in (*composer.fit_3.parameters(), composer.ground_latent.weight):
                parameter.zero_()
            for table in (composer.ground_token, composer.tint_token):
                table.weight.mul_(0.3)
        return composer

    def _white(self) -> Tensor:
        """Returns the latents (C, h, w) of a white picture."""
        with torch.no_grad():
            mean = self.vae.encode(torch.ones(1, 3, self.data.size, self.data.size)).float().chunk(2, 1)[0]
        return self.vae.to_latents(mean)[0]

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


def with_fewer_blocks(network: MMDiT, depth: int) -> Tensors:
    """Returns the weights of a transformer of `depth` blocks: the last and the first of the network's, and some of
    those between, evenly spread."""
    kept = np.linspace(network.cfg.depth - 1, 0, depth).round().astype(int).tolist()[::-1]
    places = {f"transformer_blocks.{old}.": f"transformer_blocks.{new}." for new, old in enumerate(kept)}
    state = {}
    for name, value in network.state_dict().items():
        block = re.match(r"transformer_blocks\.\d+\.", name)
        if block is None:
            state[name] = value
        elif block[0] in places:
            state[places[block[0]] + name[block.end() :]] = value
    return state


Kept = TypeVar("Kept", Codes, Details)


def _kept(path: Path, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
    """Returns what `make` makes, from the file that an earlier run kept it in, if there is one."""
    if not path.is_file():
        with atomic_write(path) as file:
            torch.save(vars(make()), file)
    return kind(**torch.load(path, weights_only=True))
