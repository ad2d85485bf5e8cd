"""The training methods. The command `sfumato train`, its help and the table in docs/training.md derive from this list.

To add a method, write `methods/NAME.py` with a recipe (a frozen dataclass), a task (see `task.Task`) and a function
`make(cfg: RECIPE, ...)` that builds the task, and add an entry here. This file imports no method, so that help needs no
torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_type_hints

if TYPE_CHECKING:
    from sfumato.train.task import MethodTask

Need = Literal["U-Net", "no scene prior"]


@dataclass(frozen=True)
class Input:
    """An input of a method besides recipe and data: an option of its command, and a keyword of its `make`."""

    name: str
    kind: type[str] | type[Path]
    help: str
    metavar: str | None = None


@dataclass(frozen=True)
class Method:
    """A training method as users see it.

    `learns`, `batch`, `loss` and `export` complete the sentences of its help: what is trained, on which batches, by
    which loss, and what lies in RUN/export afterwards. `module` is its file under `methods`, by default named like the
    method. A method with `own_pictures` asks its data only for `samples`, so a user's pictures will do as well.
    `recipe` is the name of the recipe that ships for all models; without one, the user must give a recipe.
    `result` is the kind of what lies in RUN/export, as `hub.local_models` calls kinds, if one draws with it.
    `needs` are what not every model fulfils.
    `former` marks the old name of another command, which help and docs leave out.
    """

    name: str
    learns: str
    batch: str
    loss: str
    export: str
    module: str = ""
    inputs: tuple[Input, ...] = ()
    own_pictures: bool = False
    recipe: str = ""
    result: str = ""
    needs: tuple[Need, ...] = ()
    former: bool = False

    @property
    def help(self) -> str:
        """The command's help, one sentence a line."""
        return f"Train {self.learns}.\n\nBatch: {self.batch}. Loss: {self.loss}. RUN/export: {self.export}."

    @property
    def file(self) -> str:
        """The name of its module under `methods`."""
        return self.module or self.name.replace("-", "_")

    def load(self) -> tuple[type, Callable[..., MethodTask]]:
        """Returns the recipe's class and `make(recipe, data, folder, device, **inputs)`; imports torch."""
        make = importlib.import_module(f"sfumato.train.methods.{self.file}").make
        return get_type_hints(make)["cfg"], make


MODEL = Input("model", str, "Model to tune: a path, or a name such as emoji; else the recipe's.")
INIT = Input("init", str, "Model to change: a path, or a name such as emoji; else the recipe's.")
LEARNS_ON = Input("init", str, "Model with a scene prior to continue from, such as emoji; its other parts are copied.")
ADAPTER = Input("adapter", Path, "Variant to continue from.", "FILE")
DEPTH_NET = Input(
    "depth_net", Path, "Export folder of `sfumato train depth-net`; a depth variant contains this network."
)
CONCAT = (INIT, ADAPTER, DEPTH_NET)

METHODS: tuple[Method, ...] = (
    Method(
        "vae",
        learns="the autoencoder between pictures and latents",
        batch="crops of pictures, now and then whole ones, on plain colours",
        loss="L1, squared error and L1 of differences between neighbours, and the KL divergence",
        export="the autoencoder, one file",
        own_pictures=True,
    ),
    Method(
        "clip",
        learns="the text-and-image model",
        batch="augmented pictures and scenes; names, keywords and requests in every language",
        loss="cross-entropy against classes that pictures and texts share",
        export="both encoders, one file, and the tokenizer",
        own_pictures=True,
    ),
    Method(
        "ldm",
        learns="the denoiser of a latent diffusion model, and its text tower if the recipe says so",
        batch="latents that are encoded once, with new captions each time",
        loss="squared error of the network's output, see train/objective.py",
        export="a complete model, a diffusers folder",
        inputs=(
            Input("init", str, "Model to continue from: a path, or emoji for the one that ships."),
            Input("vae", Path, "Export folder of `sfumato train vae`; default: --init's."),
            Input("clip", Path, "Export folder of `sfumato train clip`; default: --init's."),
            Input("latents", Path, "Folder that keeps encoded pictures; default: the run."),
            Input("parts", str, "Model whose autoencoder and text tower are used; the result is a variant of it."),
        ),
    ),
    Method(
        "codes",
        learns="the codes by which a scene prior remembers pictures, and the network that cuts things out of them",
        batch="pictures on green, decoded from their codes; the same on plain colours, once they are cut out",
        loss="squared and absolute errors of the pictures, and of their alpha",
        export="the codes and the composer's part that reads them, one file",
        inputs=(
            Input("vae", Path, "Export folder of `sfumato train vae`; default: the autoencoder that ships."),
            Input("init", str, "Model with a scene prior whose codes are kept, with new details."),
            Input("latents", Path, "Folder that keeps encoded pictures; default: the run."),
        ),
    ),
    Method(
        "scenes",
        learns="a transformer that draws things in places, and the tokens by which the composer tells it what is where",
        batch="latents of things alone and of composed scenes, with their drafts, no words",
        loss="squared error of the flow",
        export="with --init a complete model, a diffusers folder; else both networks and all codes, one file",
        inputs=(
            Input("vae", Path, "Export folder of `sfumato train vae`; default: the autoencoder that ships."),
            Input("codes", Path, "Export folder of `sfumato train codes`; default: --init's codes."),
            LEARNS_ON,
            Input("latents", Path, "Folder that keeps encoded pictures; default: the run."),
        ),
    ),
    Method(
        "reader",
        learns="a text tower and the reader that finds the things which a prompt names",
        batch="names, keywords and free requests in six languages, no pictures",
        loss="cross-entropy of concepts, numbers, colours, sizes, poses, places, style and ground",
        export="with --init or --scenes a complete model, a diffusers folder; else both networks, one file",
        inputs=(
            LEARNS_ON,
            Input("scenes", Path, "Export folder of `sfumato train scenes`, to complete the model with."),
            Input("vae", Path, "Export folder of `sfumato train vae`; default: the autoencoder that ships."),
        ),
    ),
    Method(
        "depth-net",
        learns="the small network that estimates depth in a picture",
        batch="composed scenes and single things whose depth is known",
        loss="L1 of depth and of its differences between neighbours",
        export="the network, one file",
    ),
    Method(
        "concat",
        learns="low-rank changes by which a model reads a mask or depth, on examples of a data set",
        batch="latents with masks of things, boxes, strokes and sides, or with their depth",
        loss="squared error of the network's output",
        export="a variant, one file",
        inputs=CONCAT,
        result="model",
    ),
    Method(
        "beside",
        learns="a variant; this is the old name of `concat`",
        batch="as `concat`",
        loss="as `concat`",
        export="a variant, one file",
        inputs=CONCAT,
        former=True,
        module="concat",
    ),
    Method(
        "embedding",
        learns="a word for a thing that a model with a scene prior does not know, from pictures of it",
        batch="latents of the given pictures, placed anywhere on plain backgrounds",
        loss="squared error of the flow",
        export="an embedding, one file",
        inputs=(Input("pictures", Path, "Folder with pictures of the thing alone, one in each.", "FOLDER"), INIT),
        result="embedding",
    ),
    Method(
        "lora",
        learns="a LoRA, DoRA, LoHa or LoKr: small differences of a model's weights",
        batch="latents of pictures with captions, in aspect-ratio buckets",
        loss="squared error of the network's output",
        export="a LoRA in kohya's or peft's names, one file",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="lora",
        result="lora",
    ),
    Method(
        "full",
        learns="all weights of the denoiser, and of the text encoders if the recipe says so",
        batch="latents of pictures with captions, in aspect-ratio buckets",
        loss="squared error of the network's output",
        export="the model, a diffusers folder",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="full",
        result="model",
    ),
    Method(
        "dreambooth",
        learns="a LoRA, or all weights, to draw one thing from a few pictures of it without forgetting its class",
        batch="latents of the thing's pictures, and of pictures of its class that the model draws first",
        loss="squared error of the network's output, with a weight for the class",
        export="a LoRA, one file, or the model, a diffusers folder",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="dreambooth",
        result="lora",
    ),
    Method(
        "textual-inversion",
        learns="vectors for a new word that stands for what pictures show; the model's weights stay as they are",
        batch="latents of pictures, with captions that have the word",
        loss="squared error of the network's output",
        export="an embedding, one file",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="textual-inversion",
        result="embedding",
        needs=("no scene prior",),
    ),
    Method(
        "hypernetwork",
        learns="a hypernetwork: small networks before the keys and values of a U-Net's attentions",
        batch="latents of pictures with captions, in aspect-ratio buckets",
        loss="squared error of the network's output",
        export="a hypernetwork in the web UI's format, one file",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="hypernetwork",
        result="hypernetwork",
        needs=("U-Net",),
    ),
    Method(
        "dpo",
        learns="a LoRA that learns a preference, from pairs of pictures of which one was liked more (DPO)",
        batch="latents of both pictures of a pair, with the same noise",
        loss="logistic loss: the error should fall more for the chosen picture than for the other",
        export="a LoRA in kohya's or peft's names, one file",
        inputs=(MODEL, Input("rejected", Path, "Folder of the pictures liked less, named as in --data.", "FOLDER")),
        own_pictures=True,
        recipe="dpo",
        result="lora",
    ),
    Method(
        "controlnet",
        learns="a ControlNet, by which a model follows the edges, lines or colours of a picture",
        batch="latents of pictures with captions, and hints that are made of the pictures",
        loss="squared error of the network's output",
        export="the ControlNet in diffusers' names, one file",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="controlnet",
        result="controlnet",
    ),
    Method(
        "t2i-adapter",
        learns="a T2I-Adapter, a small network by which a model with a U-Net follows the lines or colours of a picture",
        batch="latents of pictures with captions, mostly noisy ones, and hints that are made of the pictures",
        loss="squared error of the network's output",
        export="the T2I-Adapter, a diffusers folder",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="t2i-adapter",
        result="controlnet",
        needs=("U-Net",),
    ),
    Method(
        "ip-adapter",
        learns="an IP-Adapter, by which a model with a U-Net follows a picture as well as the words",
        batch="latents of pictures with captions, and the same pictures encoded by CLIP's vision tower",
        loss="squared error of the network's output",
        export="the IP-Adapter in its authors' names, one file",
        inputs=(MODEL,),
        own_pictures=True,
        result="ip-adapter",
        needs=("U-Net",),
    ),
    Method(
        "inpaint",
        learns="an inpainting model, which sees a mask and the picture around it",
        batch="latents of pictures with captions, and of the same pictures with random holes",
        loss="squared error of the network's output",
        export="the model, a diffusers folder, or a LoRA",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="inpaint",
        result="model",
        needs=("no scene prior",),
    ),
    Method(
        "depth",
        learns="a model that follows the depth of a picture",
        batch="latents of pictures with captions, and their depth, given or estimated by a network",
        loss="squared error of the network's output",
        export="the model, a diffusers folder, or a LoRA",
        inputs=(
            MODEL,
            Input("depths", Path, "Folder of depth pictures (bright is near), named as in --data.", "FOLDER"),
        ),
        own_pictures=True,
        recipe="depth",
        result="model",
    ),
    Method(
        "control",
        learns="a ControlNet; this is the old name of `controlnet`",
        batch="as `controlnet`",
        loss="as `controlnet`",
        export="the ControlNet, one file",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="controlnet",
        former=True,
        module="controlnet",
    ),
    Method(
        "lcm",
        learns="a LoRA, or all weights, by which a model draws in a few steps (latent consistency distillation)",
        batch="latents of pictures with captions, at two neighbouring noise levels",
        loss="pseudo-Huber distance between the estimates before and after a step of the guided model",
        export="a LoRA, one file, or the model, a diffusers folder",
        inputs=(MODEL,),
        own_pictures=True,
        recipe="lcm",
        result="lora",
    ),
    Method(
        "distil",
        learns="low-rank changes by which a model draws in few steps without guidance",
        batch="points on sampling paths of the model itself, with guidance and more steps",
        loss="pseudo-Huber distance of the estimate from the end of the path",
        export="a variant, one file",
        inputs=(INIT, ADAPTER),
        result="model",
    ),
)


def of_pictures_alone() -> list[Method]:
    """Returns the methods that need nothing but pictures with captions and a model, and make what one draws with."""
    fit = [one for one in METHODS if one.own_pictures and one.inputs == (MODEL,) and one.recipe and one.result]
    return [one for one in fit if not one.former]


def table() -> str:
    """Returns the methods as a Markdown table, for docs/training.md."""
    rows = [(f"`sfumato train {m.name}`", m.learns, m.batch, m.loss, m.export) for m in METHODS if not m.former]
    lines = [("command", "what learns", "its batch", "its loss", "RUN/export"), ("---",) * 5, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
