"""What a sampler of a workflow is told: by its own inputs, and by the nodes that it takes its parts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.provenance.readers.graph import Graph, Node
from sfumato.provenance.recipe import Recipe, number_in, shown, whole_list

# Nodes that are one list of noise levels, or one sampler, by ComfyUI's names for these.
SCHEDULE_NODES = {
    "KarrasScheduler": "karras",
    "ExponentialScheduler": "exponential",
    "PolyexponentialScheduler": "polyexponential",
    "BetaSamplingScheduler": "beta",
    "AlignYourStepsScheduler": "align_your_steps",
    "SDTurboScheduler": "trailing",
}
SAMPLER_NODES = {
    "SamplerEulerAncestral": "euler_ancestral",
    "SamplerEulerAncestralCFGPP": "euler_ancestral_cfg_pp",
    "SamplerDPMPP_2M_SDE": "dpmpp_2m_sde",
    "SamplerDPMPP_3M_SDE": "dpmpp_3m_sde",
    "SamplerDPMPP_SDE": "dpmpp_sde",
    "SamplerDPMPP_2S_Ancestral": "dpmpp_2s_ancestral",
    "SamplerDPMAdaptative": "dpm_adaptive",
    "SamplerLMS": "lms",
    "SamplerER_SDE": "er_sde",
    "SamplerSASolver": "sa_solver",
}
LEVELS = [0.029, 14.615]  # the least and the greatest of 1.x, 2.x and XL, which the nodes have unless they are changed
OPTIONS = {"solver_type": "solver"}  # named otherwise here


def inputs_of(graph: Graph, sampler: Node) -> dict[str, Any]:
    """The inputs of a sampler, with those of the nodes that it takes its parts from."""
    inputs = dict(sampler.inputs)
    for name in ("sampler", "sigmas", "noise", "guider"):
        node = graph.linked(sampler.inputs.get(name))
        for _ in range(5):  # a list of levels may pass through nodes that change it
            if node is None:
                break
            inputs = {**_meant(node), **node.inputs, **inputs}
            node = graph.linked(node.inputs.get("sigmas"))
    return inputs


def _meant(node: Node) -> dict[str, Any]:
    """What a node is by its kind alone."""
    if node.kind in SCHEDULE_NODES:
        xl = node.inputs.get("model_type") == "SDXL"
        return {"scheduler": SCHEDULE_NODES[node.kind] + ("_xl" if xl else "")}
    return {"sampler_name": SAMPLER_NODES[node.kind]} if node.kind in SAMPLER_NODES else {}


def tune(recipe: Recipe, graph: Graph, sampler: Node) -> None:
    """Take what such nodes say of their sampler or list of levels; what cannot be honoured is lost."""
    for node in (graph.linked(sampler.inputs.get(name)) for name in ("sampler", "sigmas")):
        if node is None or node.kind not in SCHEDULE_NODES.keys() | SAMPLER_NODES.keys():
            continue
        for name, value in node.inputs.items():
            recipe.option(OPTIONS.get(name, name), graph.value(value, (name,)))
        if node.kind == "SDTurboScheduler" and recipe.options.get("steps") != 1:
            recipe.lost.append("SDTurboScheduler's list of noise levels, of which the last is left to one step")
        if node.kind == "AlignYourStepsScheduler" and node.inputs.get("model_type") not in ("SD1", "SDXL"):
            recipe.lost.append(f"AlignYourStepsScheduler's list for {shown(node.inputs.get('model_type'))}")
        ends = [number_in(graph.value(node.inputs.get(f"sigma_{end}"), ())) for end in ("min", "max")]
        if None not in ends and [round(end or 0, 3) for end in ends] != LEVELS:
            recipe.lost.append(f"{node.kind}: noise levels from {ends[0]:g} to {ends[1]:g}; the model's own are taken")


def share_of(graph: Graph, inputs: Mapping[str, Any]) -> tuple[int, int] | None:
    """How many steps are taken of how many; None for all of them."""
    steps = number_in(graph.value(inputs.get("steps"), ("steps",)))
    if steps is None or steps < 1:
        return None
    denoise = number_in(graph.value(inputs.get("denoise", 1), ("denoise",)))
    start = number_in(graph.value(inputs.get("start_at_step", 0), ("start_at_step",))) or 0
    if denoise is not None and 0 < denoise < 1:
        return int(steps), whole_list(int(steps), denoise)
    return (max(0, int(steps - start)), int(steps)) if start > 0 else None
