"""The licences that models come under: what they allow, ask and forbid, in our words. The texts themselves rule."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.errors import SfumatoError


@dataclass(frozen=True)
class Licence:
    """A summary of a licence; `url` leads to its text, `id` is short: the name on Hugging Face where there is one."""

    id: str
    title: str
    url: str
    allows: tuple[str, ...]
    asks: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()


RAIL_FORBIDS = (
    "breaking any law",
    "exploiting or harming minors, or trying to",
    "false information, or personal data, meant to harm others",
    "defaming or harassing people",
    "automated decisions about someone's rights or duties",
    "discrimination by behaviour, personality or protected characteristics",
    "using a group's weakness (age, disability, situation) to make people harm themselves or others",
    "medical advice or the reading of medical results",
    "justice, law enforcement, immigration or asylum, such as predicting crime or fraud",
)
RAIL_ASKS = (
    "pass on the licence and its use restrictions with every copy, derivative and hosted service",
    "keep the notices, and mark what you changed",
)

EMBEDDED_LICENCE = "sfumato-emoji"

LICENCES = (
    Licence(
        "creativeml-openrail-m",
        "CreativeML Open RAIL-M",
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        ("any use outside the list below, also commercial", "the pictures are yours, and so is the answer for them"),
        (*RAIL_ASKS, "make a reasonable effort to use the latest version of the model"),
        RAIL_FORBIDS,
    ),
    Licence(
        "openrail++",
        "CreativeML Open RAIL++-M",
        "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        ("any use outside the list below, also commercial", "the pictures are yours, and so is the answer for them"),
        RAIL_ASKS,
        RAIL_FORBIDS,
    ),
    Licence(
        "stabilityai-ai-community",
        "Stability AI Community License",
        "https://stability.ai/community-license-agreement",
        (
            "research and other non-commercial use",
            "commercial use while your yearly revenue is below 1,000,000 US dollars; above it, buy a licence",
            "the pictures are yours, and so is the answer for them",
        ),
        (
            "register with Stability AI before commercial use",
            "pass on the licence and its notice, and show 'Powered by Stability AI' on what you build with it",
        ),
        (
            "training or improving any other foundation model with the model or its pictures",
            "breaking any law or trade control",
            "whatever Stability AI's use policy excludes (https://stability.ai/use-policy), such as sexual content and "
            "all abuse of children, hate and violence, deceiving or impersonating people, weapons",
        ),
    ),
    Licence(
        "mit",
        "MIT License",
        "https://opensource.org/license/mit",
        ("any use, also commercial",),
        ("keep the copyright notice",),
    ),
    Licence(
        EMBEDDED_LICENCE,
        "Apache License 2.0, with the licences of the artwork it learnt from",
        "https://www.apache.org/licenses/LICENSE-2.0",
        ("any use, also commercial",),
        (
            "keep the notices",
            "a picture as good as a copy of an emoji is under that artwork's licence: MIT (Fluent Emoji), Apache-2.0 "
            "(Noto Emoji), CC-BY-4.0 with credit to Twitter, Inc and other contributors (Twemoji)",
        ),
    ),
)


def licence(name: str) -> Licence:
    """The licence of this id or title. Raises SfumatoError when it is not known."""
    for one in LICENCES:
        if name in (one.id, one.title):
            return one
    known = ", ".join(one.id for one in LICENCES)
    raise SfumatoError(f"there is no licence {name!r} here; known are {known}")
