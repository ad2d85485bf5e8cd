"""Nodes of well-known packs and of ComfyUI itself that are not here, to say where a node comes from."""

from __future__ import annotations

# Beginnings of nodes' names, the longest first that fits, with what brings them.
PACKS = {
    "IPAdapter": "ComfyUI_IPAdapter_plus; --ip-adapter is what sfumato has",
    "PrepImageForClipVision": "ComfyUI_IPAdapter_plus",
    "ADE_": "ComfyUI-AnimateDiff-Evolved",
    "AnimateDiff": "ComfyUI-AnimateDiff-Evolved",
    "VHS_": "ComfyUI-VideoHelperSuite",
    "FaceDetailer": "ComfyUI-Impact-Pack",
    "DetailerForEach": "ComfyUI-Impact-Pack",
    "Impact": "ComfyUI-Impact-Pack",
    "SAMLoader": "ComfyUI-Impact-Pack",
    "UltralyticsDetectorProvider": "ComfyUI-Impact-Subpack",
    "BboxDetector": "ComfyUI-Impact-Pack",
    "KSampler (Efficient)": "efficiency-nodes-comfyui",
    "Efficient Loader": "efficiency-nodes-comfyui",
    "Eff. Loader": "efficiency-nodes-comfyui",
    "UltimateSDUpscale": "ComfyUI_UltimateSDUpscale",
    "CR ": "ComfyUI_Comfyroll_CustomNodes",
    "WAS_": "was-node-suite-comfyui",
    "Image Save": "was-node-suite-comfyui",
    "Text Concatenate": "was-node-suite-comfyui",
    "ControlNetPreprocessor": "comfyui_controlnet_aux",
    "AIO_Preprocessor": "comfyui_controlnet_aux",
    "CannyEdgePreprocessor": "comfyui_controlnet_aux",
    "DepthAnything": "comfyui_controlnet_aux",
    "DWPreprocessor": "comfyui_controlnet_aux",
    "OpenposePreprocessor": "comfyui_controlnet_aux",
    "LineArtPreprocessor": "comfyui_controlnet_aux",
    "MiDaS": "comfyui_controlnet_aux",
    "ACN_": "ComfyUI-Advanced-ControlNet",
    "ControlNetLoaderAdvanced": "ComfyUI-Advanced-ControlNet",
    "easy ": "ComfyUI-Easy-Use",
    "ttN ": "ComfyUI_tinyterraNodes",
    "Power Lora Loader": "rgthree-comfy",
    "Seed (rgthree)": "rgthree-comfy",
    "Any Switch (rgthree)": "rgthree-comfy",
    "UnetLoaderGGUF": "ComfyUI-GGUF",
    "CLIPLoaderGGUF": "ComfyUI-GGUF",
    "DualCLIPLoaderGGUF": "ComfyUI-GGUF",
    "InstantID": "ComfyUI_InstantID",
    "ApplyInstantID": "ComfyUI_InstantID",
    "ReActor": "comfyui-reactor-node",
    "INPAINT_": "comfyui-inpaint-nodes",
    "InpaintCrop": "ComfyUI-Inpaint-CropAndStitch",
    "InpaintStitch": "ComfyUI-Inpaint-CropAndStitch",
    "DynamicThresholding": "sd-dynamic-thresholding",
    "Tiled": "ComfyUI-TiledDiffusion",
    "ShowText": "ComfyUI-Custom-Scripts",
    "MathExpression": "ComfyUI-Custom-Scripts",
    "BNK_": "ComfyUI_ADV_CLIP_emb",
    "LayerMask": "ComfyUI_LayerStyle",
    "LayerUtility": "ComfyUI_LayerStyle",
    "ImageResize+": "ComfyUI_essentials",
    "MaskPreview+": "ComfyUI_essentials",
    "GetImageSize+": "ComfyUI_essentials",
    "FluxGuidance": "ComfyUI, for Flux, whose models are not here",
    "ModelSamplingFlux": "ComfyUI, for Flux, whose models are not here",
    "FreeU": "ComfyUI; FreeU is not here",
    "HyperTile": "ComfyUI; HyperTile is not here",
    "PatchModelAddDownscale": "ComfyUI; Deep Shrink is not here",
    "unCLIP": "ComfyUI; sfumato draws variations of a picture by its own API",
    "CLIPVision": "ComfyUI; nodes that see pictures by CLIP are not here",
    "StyleModel": "ComfyUI; style models are not here",
    "GLIGEN": "ComfyUI; GLIGEN is not here",
    "PhotoMaker": "ComfyUI; PhotoMaker is not here",
    "SVD_": "ComfyUI, for video, which is not here",
    "ImageOnlyCheckpointLoader": "ComfyUI, for video, which is not here",
    "StableCascade": "ComfyUI, for Stable Cascade, whose models are not here",
    "SD_4XUpscale_Conditioning": "ComfyUI; `sfumato upscale` has the x4 upscaler",
    "ModelMerge": "ComfyUI; `sfumato merge` merges models",
    "CLIPMerge": "ComfyUI; `sfumato merge` merges models",
    "CheckpointSave": "ComfyUI; `sfumato convert` writes models",
    "SaveAnimated": "ComfyUI, for video, which is not here",
    "PrimitiveNode": "ComfyUI's editor, which leaves it out of the API format",
}


def pack_of(name: str) -> str:
    """What brings a node of this name, in words."""
    for beginning in sorted(PACKS, key=len, reverse=True):
        if name.startswith(beginning):
            return f"it comes with {PACKS[beginning]}"
    if "rgthree" in name:
        return "it comes with rgthree-comfy"
    return "it is of no pack that is known here"
