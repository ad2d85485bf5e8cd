"""The depth network's names in the original file: MiDaS' own, of which the manifest has the list."""

from dataclasses import replace

import torch

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.keymap import KeyMap
from sfumato.families import family
from sfumato.families.layouts import midas
from sfumato.families.ldm import DEPTH
from sfumato.nets.dpt import DPT
from sfumato.spec import DPTConfig

TINY = DPTConfig(
    stem=32, stages=(128, 256, 384), depths=(2, 1, 3), positions=3, hidden=64, intermediate=48, layers=8, heads=1,
    neck=(128, 256, 40, 24), fusion=16,
)  # fmt: skip


def test_the_map_inverts_on_real_values() -> None:
    torch.manual_seed(0)
    state = DPT(TINY).state_dict()
    keymap = KeyMap({"depth": tuple(midas.rules(state, DEPTH))})
    theirs = keymap.to_theirs("depth", state)
    ours = keymap.to_ours("depth", theirs.__getitem__)
    assert ours.keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.items())
    assert midas.sizes({name: tuple(tensor.shape) for name, tensor in theirs.items()}, DEPTH) == TINY


def test_maps_of_one_shape_are_not_mixed_up() -> None:
    """What shapes cannot tell apart: MiDaS numbers its fusions from the finest, transformers from the coarsest."""
    names = {
        "neck.fusion_stage.layers.0.residual_layer1.convolution2.bias": "scratch.refinenet4.resConfUnit1.conv2.bias",
        "neck.fusion_stage.layers.3.projection.weight": "scratch.refinenet1.out_conv.weight",
        "neck.convs.3.weight": "scratch.layer4_rn.weight",
        "neck.reassemble_stage.readout_projects.2.0.bias": "pretrained.act_postprocess3.0.project.0.bias",
        "dpt.encoder.layer.7.layernorm_after.weight": "pretrained.model.blocks.7.norm2.weight",
    }
    assert {rule.ours[0]: rule.theirs[0] for rule in midas.rules(names, "")} == names


def test_the_folder_s_config_goes_both_ways() -> None:
    assert diffusers_config.dpt_from(diffusers_config.dpt_to(TINY)) == TINY
    spec = family("sd2_depth").spec.depth
    assert spec is not None
    released = {
        "is_hybrid": True,
        "neck_hidden_sizes": [256, 512, 768, 768],
        "reassemble_factors": [1, 1, 1, 0.5],
        "backbone_out_indices": [2, 5, 8, 11],
        "backbone_config": {"layer_type": "bottleneck", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 9]},
    }
    assert diffusers_config.dpt_from(released) == replace(spec, norm_eps=1e-12)
