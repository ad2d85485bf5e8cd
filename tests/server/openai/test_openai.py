"""OpenAI's own client draws here."""

from __future__ import annotations

import base64
import io

import httpx
import openai
import pytest
from PIL import Image

from sfumato.server.dialects.openai.bodies import Generation, Variation
from sfumato.server.dialects.openai.replies import Wanted
from sfumato.server.dialects.openai.requests import drawn_size
from sfumato.spec import Defaults, Spec


@pytest.fixture
def ai(server: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=server + "/v1", api_key="none", max_retries=0, timeout=300)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def png(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "PNG")
    file.seek(0)
    file.name = "picture.png"
    return file


def test_pictures_in_base64_and_by_address(ai: openai.OpenAI) -> None:
    reply = ai.images.generate(prompt="a red heart", model="gpt-image-1", n=2, size="128x64", quality="low")
    images = [opened(base64.b64decode(one.b64_json or "")) for one in reply.data or ()]
    assert [image.size for image in images] == [(128, 64)] * 2 and "a red heart" in images[0].text["parameters"]
    assert reply.size == "128x64" and reply.output_format == "png" and reply.quality == "low"
    reply = ai.images.generate(
        prompt="a red heart", model="dall-e-2", size="64x64", quality="low", output_format="webp", output_compression=50
    )
    url = (reply.data or [])[0].url or ""
    got = httpx.get(url, timeout=120)
    assert got.headers["content-type"] == "image/webp" and opened(got.content).size == (64, 64)
    assert opened(got.content).format == "WEBP"
    assert httpx.get(url[:-1] + ("0" if url[-1] != "0" else "1"), timeout=120).status_code == 404
    assert httpx.get(url.replace("until=", "until=9"), timeout=120).status_code == 404


def test_previews_come_before_pictures(ai: openai.OpenAI) -> None:
    events = [*ai.images.generate(
        prompt="a cat", model="gpt-image-1", size="128x128", output_format="jpeg", stream=True, partial_images=2,
        quality="max",
    )]  # fmt: skip
    kinds = [event.type for event in events]
    assert kinds[-1] == "image_generation.completed" and kinds.count("image_generation.completed") == 1
    assert all(kind == "image_generation.partial_image" for kind in kinds[:-1]) and len(kinds) <= 3
    assert [event.partial_image_index for event in events[:-1]] == [*range(len(events) - 1)]
    for event in events:
        image = opened(base64.b64decode(event.b64_json))
        assert image.format == "JPEG" and image.size == (128, 128)


def test_what_is_transparent_in_the_mask_is_drawn_anew(ai: openai.OpenAI) -> None:
    image = Image.new("RGB", (128, 128), "blue")
    mask = Image.new("RGBA", (128, 128), "black")
    mask.paste((0, 0, 0, 0), (64, 0, 128, 128))
    reply = ai.images.edit(image=png(image), mask=png(mask), prompt="a cat", model="gpt-image-1", quality="low")
    drawn = opened(base64.b64decode((reply.data or [])[0].b64_json or "")).convert("RGB")
    assert drawn.size == (128, 128) and drawn.getpixel((10, 64)) == (0, 0, 255)
    assert drawn.crop((64, 0, 128, 128)).getcolors(4) is None


def test_whole_pictures_are_changed(ai: openai.OpenAI) -> None:
    image = Image.new("RGB", (100, 60), "blue")
    reply = ai.images.edit(image=[png(image)], prompt="a cat", model="dall-e-2", response_format="b64_json")
    assert opened(base64.b64decode((reply.data or [])[0].b64_json or "")).size == (100, 60)
    varied = ai.images.create_variation(image=png(image), n=1, size="256x256", response_format="b64_json")
    assert opened(base64.b64decode((varied.data or [])[0].b64_json or "")).size == (256, 256)


def test_models(ai: openai.OpenAI) -> None:
    assert "emoji" in [one.id for one in ai.models.list()]
    assert ai.models.retrieve("emoji").owned_by == "sfumato" and ai.models.retrieve("dall-e-3").id == "dall-e-3"
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("nowhere")


def test_errors_are_the_clients_own(ai: openai.OpenAI) -> None:
    image, small = png(Image.new("RGB", (64, 64))), png(Image.new("RGBA", (8, 8)))
    calls = [
        lambda: ai.images.generate(prompt="a cat", model="nowhere"),
        lambda: ai.images.generate(prompt="a cat", n=11),
        lambda: ai.images.generate(prompt="a cat", size="huge"),  # type: ignore[arg-type]
        lambda: ai.images.generate(prompt="a cat", background="transparent"),
        lambda: ai.images.generate(prompt="a cat", output_compression=50),
        lambda: ai.images.generate(prompt="x" * 200_000),
        lambda: ai.images.edit(image=image, prompt="a cat", mask=b"no picture"),
        lambda: ai.images.edit(image=[image, image], prompt="a cat"),
        lambda: ai.images.edit(image=image, mask=small, prompt="a cat"),
        lambda: ai.images.create_variation(image=b"no picture"),
    ]
    for call in calls:
        with pytest.raises(openai.BadRequestError) as caught:
            call()
        assert caught.value.type == "invalid_request_error" and caught.value.message, caught.value


def test_sizes_are_those_that_a_model_draws_best() -> None:
    spec = Spec(family="x", title="x", defaults=Defaults(width=256, height=256))
    assert drawn_size(None, spec) == {}
    assert drawn_size((1024, 1024), spec) == drawn_size((256, 256), spec) == {"width": 256, "height": 256}
    wide = drawn_size((1792, 1024), spec)
    assert wide["width"] > wide["height"] and not any(side % spec.multiple for side in wide.values())


def test_addresses_are_given_where_openai_gives_them() -> None:
    assert Wanted.by(Generation(prompt="x", model="dall-e-3"), None).url
    assert Wanted.by(Generation(prompt="x"), None).url
    assert not Wanted.by(Generation(prompt="x", model="gpt-image-1"), None).url
    assert not Wanted.by(Variation(response_format="b64_json"), None).url
    kept = Wanted((1, 2), "webp", 30, True, "low")
    assert Wanted.of(kept.to_json()) == kept
