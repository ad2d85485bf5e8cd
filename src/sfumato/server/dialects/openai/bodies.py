"""The bodies of requests, as OpenAI's API has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import FormData, UploadFile

from sfumato.errors import SfumatoError

MAX_SIDE = 4096
MAX_IMAGES = 10
Size = Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{1,3}x[1-9][0-9]{1,3})$", examples=["auto", "256x256"])]


class Asked(BaseModel):
    """The fields of all requests. Other fields, such as style and moderation, change nothing."""

    model_config = ConfigDict(extra="ignore")
    model: str | None = Field(None, max_length=255, description="A model of this server; OpenAI's names mean its own.")
    n: int | None = Field(None, ge=1, le=MAX_IMAGES)
    size: Size | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: str | None = Field(None, max_length=512)


class Drawn(Asked):
    """The further fields of requests with a prompt."""

    prompt: str = Field(max_length=100_000)
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.background == "transparent":
            raise ValueError("models here draw no transparency; send background auto or opaque")
        if self.output_compression is not None and self.output_format not in ("jpeg", "webp"):
            raise ValueError("output_compression is for output_format jpeg or webp")
        return self


class Generation(Drawn):
    """A request for pictures from words."""


class Edit(Drawn):
    """A request to draw a picture anew, or only the part that is transparent in its mask or in itself."""


class Variation(Asked):
    """A request for variations of a picture."""


Body = TypeVar("Body", bound=Asked)


def read_form(form: FormData, body: type[Body]) -> Body:
    """Returns the fields of a form without its files. Raises SfumatoError for wrong fields."""
    fields: dict[str, Any] = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    try:
        return body.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SfumatoError(f"{where}: {first['msg']}" if where else str(first["msg"])) from None


async def read_file(form: FormData, name: str, needed: bool = True) -> bytes | None:
    """Returns the file "name" or "name[]" of a form. Raises SfumatoError if it is missing, or if there are several."""
    files = [one for key in (name, f"{name}[]") for one in form.getlist(key) if isinstance(one, UploadFile)]
    if len(files) > 1:
        raise SfumatoError(f"{len(files)} files are called {name}; models here look at one picture, so send one")
    if not files and needed:
        raise SfumatoError(f"{name} is missing; send a file of PNG, JPEG or WebP as multipart/form-data")
    return await files[0].read() if files else None


def form_schema(body: type[Asked], *files: str) -> dict[str, Any]:
    """Returns OpenAPI's description of a form with these fields and files; the first file is required."""
    schema = body.model_json_schema()
    file = {"type": "string", "format": "binary"}
    schema["properties"] |= dict.fromkeys(files, file)
    schema["required"] = [*schema.get("required", []), files[0]]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
