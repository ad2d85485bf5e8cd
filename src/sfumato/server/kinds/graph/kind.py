"""Graphs of nodes as ComfyUI has them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sfumato.errors import SfumatoError
from sfumato.server.composite import Composite, with_encoders
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind
from sfumato.server.kinds.graph.cache import Cache
from sfumato.server.kinds.graph.check import GraphError, Plan, Problem, Step, planned
from sfumato.server.kinds.graph.nodes import ALL
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.work import worked_on

assert ALL


class Graph(Kind):
    """`how` has the `graph` in the API format, with names of sent pictures where it loads pictures, and `targets`.

    It may have `texts`, which go into the files of the pictures, by their keywords.
    What nodes gave is kept for the next graph.
    """

    def __init__(self) -> None:
        self.cache = Cache()

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        plan = _plan(request)
        parts = parts_of(plan)
        check_models(plan, parts, desk)
        return request if parts is None else request.but(model=parts.name)

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        plan = _plan(request)
        run = Run(bench, parts_of(plan), request.options, done, texts=request.how.get("texts") or {})
        return Begun(worked_on(plan, run, self.cache))

    def models(self, request: JobRequest) -> Iterable[str]:
        steps = _plan(request).steps.values()
        return [step.inputs[name] for step in steps for name in ("ckpt_name", "unet_name") if name in step.inputs]

    def size(self, request: JobRequest, desk: Desk) -> tuple[int, int]:
        """The pixels of all latents that are drawn on, as far as the graph says them."""
        sizes = []
        for step in _plan(request).steps.values():
            if step.node.name.startswith("Empty") and "batch_size" in step.inputs:
                width, height, count = (step.inputs.get(name) for name in ("width", "height", "batch_size"))
                if isinstance(width, int) and isinstance(height, int):
                    sizes.append((count if isinstance(count, int) else 1, width * height))
        return max(sizes, key=lambda one: one[0] * one[1], default=(1, 512 * 512))

    def forget(self) -> int:
        kept = self.cache.bytes
        self.cache.clear()
        return kept


def _plan(request: JobRequest) -> Plan:
    return planned(request.how.get("graph"), request.how.get("targets"))


TEXT_LOADERS = {
    "CLIPLoader": ("clip_name",),
    "DualCLIPLoader": ("clip_name1", "clip_name2"),
    "TripleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3"),
}
"""The nodes that load text encoders, and their inputs that name them."""


def check_models(plan: Plan, parts: Composite | None, desk: Desk) -> None:
    """Raises GraphError for files that are no models and for parts that do not fit the graph's model."""
    problems = []
    for step in plan.steps.values():
        try:
            if (named := _loaded(step, parts)) is not None:
                desk.spec(named.name)
        except SfumatoError as error:
            problems.append(Problem(step.key, "custom_validation_failed", "The model cannot be loaded", str(error)))
    if problems:
        lost = {one.node: plan.ends for one in problems}
        found = replace(plan, problems=tuple(problems), lost=lost)
        raise GraphError("prompt_outputs_failed_validation", "Prompt outputs failed validation", problems, found)


def _loaded(step: Step, parts: Composite | None) -> Composite | None:
    """The model that a loader gives or changes; None for other nodes, and for names that come from other nodes."""
    name = step.node.name
    file = step.inputs.get("ckpt_name" if name == "CheckpointLoaderSimple" else "vae_name")
    if name == "CheckpointLoaderSimple":
        return Composite(file) if isinstance(file, str) else None
    if parts is None or name not in (*TEXT_LOADERS, "UNETLoader", "VAELoader"):
        return None
    if name == "VAELoader":
        return replace(parts, vae=file) if isinstance(file, str) else None
    texts = tuple(step.inputs[one] for one in TEXT_LOADERS.get(name, ()))
    return with_encoders(parts, *texts) if all(isinstance(one, str) for one in texts) else None


def parts_of(plan: Plan) -> Composite | None:
    """The model that the loaders of a graph name together: the first checkpoint or network, and its parts.

    None where the graph loads no such.
    """

    def named(node: str, *inputs: str) -> tuple[str, ...]:
        found = (step.inputs.get(name) for step in plan.steps.values() if step.node.name == node for name in inputs)
        return tuple(value for value in found if isinstance(value, str))

    whole = named("CheckpointLoaderSimple", "ckpt_name")
    if whole:
        return Composite(whole[0])
    network = named("UNETLoader", "unet_name")
    if not network:
        return None
    texts = tuple(name for node, inputs in TEXT_LOADERS.items() for name in named(node, *inputs))
    vae = named("VAELoader", "vae_name")
    return replace(Composite(network[0]), vae=vae[0] if vae else None, text_encoders=tuple(dict.fromkeys(texts)))
