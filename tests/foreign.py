"""Picture files as other programs write them, made here: texts in chunks, EXIF, XMP, comments and pixels."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

EXIF_COMMENT, EXIF = ExifTags.Base.UserComment, ExifTags.IFD.Exif


def blank(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, "white")


def png(path: Path, size: tuple[int, int] = (64, 64), **texts: object) -> Path:
    """A PNG with text chunks; what is no text is written as JSON. Names may have `_` for blanks by `name__x`."""
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name.replace("__", " "), text if isinstance(text, str) else json.dumps(text))
    blank(size).save(path, "PNG", pnginfo=chunks)
    return path


def raw_chunk(path: Path, name: str, text: bytes, kind: bytes = b"tEXt", late: bool = False) -> Path:
    """A PNG with a chunk of these very bytes, which may stand behind the pixels."""
    file = io.BytesIO()
    blank().save(file, "PNG")
    raw = file.getvalue()
    body = kind + name.encode() + b"\0" + (b"\0" + zlib.compress(text) if kind == b"zTXt" else text)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    at = raw.index(b"IEND") - 4 if late else 33
    path.write_bytes(raw[:at] + chunk + raw[at:])
    return path


def itxt(path: Path, name: str, text: str) -> Path:
    chunks = PngInfo()
    chunks.add_itxt(name, text)
    blank().save(path, "PNG", pnginfo=chunks)
    return path


def comment(path: Path, raw: bytes | str, ifd0: bool = False) -> Path:
    """A JPEG or WebP with EXIF's UserComment: these bytes, or a text in the first directory."""
    exif = Image.Exif()
    (exif if ifd0 else exif.get_ifd(EXIF))[EXIF_COMMENT] = raw
    blank().save(path, exif=exif)
    return path


def coded(text: str, code: str) -> bytes:
    """A UserComment as programs code it."""
    return {
        "le": b"UNICODE\0" + text.encode("utf-16-le"),
        "be": b"UNICODE\0" + text.encode("utf-16-be"),
        "bom": b"UNICODE\0\xff\xfe" + text.encode("utf-16-le"),
        "ascii": b"ASCII\0\0\0" + text.encode(),
        "zero": bytes(8) + text.encode(),
        "none": text.encode(),
    }[code]


def tag(path: Path, **texts: str) -> Path:
    """A JPEG or WebP with texts in fields of EXIF's first directory."""
    exif = Image.Exif()
    for name, text in texts.items():
        exif[ExifTags.Base[name]] = text
    blank().save(path, exif=exif)
    return path


def xmp(path: Path, data: dict[str, Any]) -> Path:
    """A PNG as Draw Things writes it: JSON in XMP."""
    text = json.dumps(data).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description><xmp:CreatorTool>Draw Things</xmp:CreatorTool>'
        f'<exif:UserComment>\n<rdf:Alt>\n<rdf:li xml:lang="x-default">{text}</rdf:li>\n</rdf:Alt>\n</exif:UserComment>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )
    return itxt(path, "XML:com.adobe.xmp", packet)


def hidden(path: Path, text: str, packed: bool = True, channels: str = "A") -> Path:
    """A PNG whose pixels hold a text in their lowest bits, column by column."""
    body = gzip.compress(text.encode()) if packed else text.encode()
    mark = f"stealth_{'png' if channels == 'A' else 'rgb'}{'comp' if packed else 'info'}".encode()
    bits = np.unpackbits(np.frombuffer(mark + struct.pack(">I", 8 * len(body)) + body, np.uint8))
    pixels = np.full((64, 96, 4 if channels == "A" else 3), 254, np.uint8)
    part = pixels[..., 3:] if channels == "A" else pixels
    flat = part.swapaxes(0, 1).reshape(-1).copy()
    flat[: bits.size] |= bits
    part[...] = flat.reshape(part.swapaxes(0, 1).shape).swapaxes(0, 1)
    Image.fromarray(pixels).save(path)
    return path


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


GRAPH: dict[str, Any] = {
    "3": node("KSampler", seed=7, steps=20, cfg=7.5, sampler_name="euler", scheduler="normal", denoise=1,
              model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="sd\\m.safetensors"),
    "5": node("EmptyLatentImage", width=512, height=768, batch_size=1),
    "6": node("CLIPTextEncode", text="a house", clip=["4", 1]),
    "7": node("CLIPTextEncode", text="blurry", clip=["4", 1]),
    "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
    "9": node("SaveImage", images=["8", 0], filename_prefix="c"),
}  # fmt: skip
DRAWN = {"seed": 7, "steps": 20, "cfg": 7.5, "sampler": "euler", "width": 512, "height": 768}


def graph(*changes: dict[str, Any], without: tuple[str, ...] = (), **sampler: Any) -> dict[str, Any]:
    """The graph above with other inputs of its sampler, further nodes, or without some."""
    made = copy.deepcopy(GRAPH)
    made["3"]["inputs"] |= sampler
    for change in changes:
        made |= copy.deepcopy(change)
    return {key: one for key, one in made.items() if key not in without}


def upscaled(latent: bool = True, seed: int = 7, steps: int = 8, denoise: float = 0.5, **inputs: Any) -> dict[str, Any]:
    """Nodes of a second pass over the graph's picture, and what saves that."""
    between = {
        "14": node("LatentUpscale", upscale_method="bilinear", width=1024, height=1536, crop="no", samples=["3", 0])
    }
    if not latent:
        between = {
            "20": node("UpscaleModelLoader", model_name="4x.pth"),
            "21": node("ImageUpscaleWithModel", upscale_model=["20", 0], image=["8", 0]),
            "22": node("ImageScale", upscale_method="lanczos", width=1024, height=1536, crop="no", image=["21", 0]),
            "14": node("VAEEncode", pixels=["22", 0], vae=["4", 2]),
        }
    sampler = {"seed": seed, "steps": steps, "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal",
               "denoise": denoise, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0],
               "latent_image": ["14", 0]} | inputs  # fmt: skip
    return between | {
        "16": node("KSampler", **sampler),
        "17": node("VAEDecode", samples=["16", 0], vae=["4", 2]),
        "18": node("SaveImage", images=["17", 0], filename_prefix="d"),
    }


def infotext(
    prompt: str = "a house", negative: str = "blurry", line: str = "", version: str | None = "v1.10.1", **fields: object
) -> str:
    """What a web UI writes; `fields` have `_` for blanks and replace the usual ones, None leaves one out."""
    usual: dict[str, object] = {"Steps": 20, "Sampler": "Euler", "CFG scale": 7.5, "Seed": 7, "Size": "512x768",
                                "Model hash": "0123456789", "Model": "m"}  # fmt: skip
    usual |= {name.replace("_", " "): value for name, value in fields.items()}
    listed = [f"{name}: {value}" for name, value in usual.items() if value is not None]
    settings = ", ".join([*listed, *([line] if line else []), *([f"Version: {version}"] if version else [])])
    return "\n".join([prompt, *([f"Negative prompt: {negative}"] if negative else []), settings])


SWARM = {"sui_image_params": {
    "prompt": "a house", "negativeprompt": "blurry", "seed": 7, "steps": 20, "cfgscale": 7.5, "width": 512,
    "height": 768, "sampler": "euler_ancestral", "scheduler": "karras", "model": "m"},
    "sui_models": [{"name": "m.safetensors", "param": "model", "hash": "0xabcd"}]}  # fmt: skip
FOOOCUS = {
    "prompt": "a house", "negative_prompt": "blurry", "guidance_scale": 7.5, "steps": 20, "seed": "7",
    "resolution": "(512, 768)", "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "base_model": "m",
    "metadata_scheme": "fooocus", "version": "Fooocus v2.4.3"}  # fmt: skip
RUINED = {
    "Prompt": "a house", "Negative": "blurry", "steps": 20, "cfg": 7.5, "width": 512, "height": 768, "seed": 7,
    "sampler_name": "euler", "scheduler": "karras", "base_model_name": "m.safetensors", "software": "RuinedFooocus",
    "loras": [], "denoise": None}  # fmt: skip
SPACE = {
    "prompt": "a house", "negative_prompt": "blurry", "resolution": "512 x 768", "guidance_scale": 7.5,
    "num_inference_steps": 20, "seed": 7, "sampler": "DPM++ 2M Karras", "Model": "m", "use_upscaler": None}  # fmt: skip
TENSOR_ART = {
    "prompt": "a house", "negativePrompt": "blurry", "width": 512, "height": 768, "steps": 20, "cfgScale": 7.5,
    "seed": "7", "ksamplerName": "euler", "schedule": "karras", "baseModel": {"modelFileName": "m"}}  # fmt: skip
MATRIX = {
    "PositivePrompt": "a house", "NegativePrompt": "blurry", "Steps": 20, "Sampler": "Euler Ancestral Karras",
    "CfgScale": 7.5, "Seed": 7, "Height": 768, "Width": 512, "ModelName": "m.safetensors"}  # fmt: skip
PAYLOAD = {"prompt": "a house", "negative_prompt": "blurry", "steps": 20, "cfg_scale": 7.5, "seed": 7, "width": 512,
           "height": 768, "sampler_name": "Euler"}  # fmt: skip
EASY = {
    "prompt": "a house", "negative_prompt": "blurry", "seed": "7", "num_inference_steps": "20",
    "guidance_scale": "7.5", "sampler_name": "euler_a", "width": "512", "height": "768",
    "use_stable_diffusion_model": "models/stable-diffusion/m.safetensors"}  # fmt: skip
EASY_LABELS = {
    "Prompt": "a house", "Negative__Prompt": "blurry", "Seed": "7", "Steps": "20", "Guidance__Scale": "7.5",
    "Sampler": "euler_a", "Width": "512", "Height": "768", "Stable__Diffusion__model": "m.ckpt"}  # fmt: skip
DRAW_THINGS = {"c": "a house", "uc": "blurry", "model": "m.ckpt", "sampler": "DPM++ 2M Karras", "scale": 7.5,
               "seed": 7, "steps": 20, "strength": 1, "size": "512x768"}  # fmt: skip
NOVEL = {"steps": 20, "sampler": "k_euler_ancestral", "seed": 7, "scale": 7.5, "uc": "blurry", "height": 768,
         "width": 512, "noise_schedule": "karras", "request_type": "PromptGenerateRequest"}  # fmt: skip
INVOKE = {
    "app_version": "4.2.0", "generation_mode": "txt2img", "positive_prompt": "a house", "negative_prompt": "blurry",
    "width": 512, "height": 768, "seed": 7, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 20, "scheduler": "euler",
    "model": {"name": "m", "base": "sd-1"}}  # fmt: skip
INVOKE_2 = {
    "model": "stable diffusion", "model_weights": "m", "app_id": "invoke-ai/InvokeAI", "app_version": "2.3.0",
    "image": {"prompt": [{"prompt": "a house [blurry]", "weight": 1.0}], "steps": 20, "cfg_scale": 7.5, "height": 768,
              "width": 512, "seed": 7, "type": "txt2img", "sampler": "k_lms", "postprocessing": None}}  # fmt: skip
DREAM = '"a house [blurry]" -s 20 -S 7 -W 512 -H 768 -C 7.5 -A k_lms -G 0.9'
NET = {"9c": node("ControlNetApplyAdvanced", strength=0.8, positive=["6", 0], negative=["7", 0], control_net=["10", 0],
                  image=["11", 0]), "10": node("ControlNetLoader", control_net_name="c.pth"),
       "11": node("LoadImage", image="x.png")}  # fmt: skip


def by_nodes(sampler: dict[str, Any], schedule: dict[str, Any]) -> dict[str, Any]:
    """The graph with a sampler and a list of noise levels that are nodes of their own."""
    made = graph({"40": sampler, "41": schedule})
    made["3"] = node(
        "SamplerCustom",
        add_noise=True,
        noise_seed=7,
        cfg=7.5,
        sampler=["40", 0],
        sigmas=["41", 0],
        **{name: GRAPH["3"]["inputs"][name] for name in ("model", "positive", "negative", "latent_image")},
    )
    return made


def base_and_refiner() -> dict[str, Any]:
    shared = {"cfg": 7.5, "sampler_name": "euler", "scheduler": "normal", "steps": 25}
    first = node("KSamplerAdvanced", add_noise="enable", noise_seed=721, start_at_step=0, end_at_step=20,
                 return_with_leftover_noise="enable", model=["4", 0], positive=["6", 0], negative=["7", 0],
                 latent_image=["5", 0], **shared)  # fmt: skip
    second = node("KSamplerAdvanced", add_noise="disable", noise_seed=0, start_at_step=20, end_at_step=10_000,
                  return_with_leftover_noise="disable", model=["70", 0], positive=["71", 0], negative=["72", 0],
                  latent_image=["3", 0], **shared)  # fmt: skip
    further = {"3": first, "69": second, "70": node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
               "71": node("CLIPTextEncode", text="a house", clip=["70", 1]),
               "72": node("CLIPTextEncode", text="blurry", clip=["70", 1])}  # fmt: skip
    made = graph() | further
    made["8"]["inputs"]["samples"] = ["69", 0]
    return made
