"""What clients of AUTOMATIC1111's web UI send to draw. What they leave out, or send as null, is None here."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sfumato.errors import SfumatoError

Int = Annotated[int, Field(ge=-(2**63), lt=2**64)]
"""A whole number that no sum of a few of them takes beyond what a float can hold."""


class Body(BaseModel):
    """A body of a request; keys that are not known are ignored, as the web UI ignores them."""

    model_config = ConfigDict(allow_inf_nan=False, protected_namespaces=())


class DrawBody(Body):
    """What /txt2img and /img2img have in common. Steps, scale and size are by default the model's own."""

    prompt: str | None = ""
    negative_prompt: str | None = ""
    styles: list[str] | None = None
    seed: Int | None = -1
    subseed: Int | None = -1
    subseed_strength: float | None = 0
    seed_resize_from_h: Int | None = -1
    seed_resize_from_w: Int | None = -1
    sampler_name: str | None = None
    sampler_index: str | None = Field(None, description="The old name of sampler_name.")
    scheduler: str | None = None
    batch_size: Int | None = Field(1, description="Pictures of one job.")
    n_iter: Int | None = Field(1, description="How many jobs; seeds count on.")
    steps: Int | None = None
    cfg_scale: float | None = None
    width: Int | None = None
    height: Int | None = None
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool | None = None
    do_not_save_grid: bool | None = None
    eta: float | None = None
    s_min_uncond: float | None = None
    s_churn: float | None = None
    s_tmax: float | None = None
    s_tmin: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool | None = True
    refiner_checkpoint: str | None = None
    refiner_switch_at: float | None = None
    denoising_strength: float | None = None
    script_name: str | None = None
    script_args: list[Any] | None = None
    alwayson_scripts: dict[str, Any] | None = None
    send_images: bool | None = True
    save_images: bool | None = False
    infotext: str | None = Field(None, description="A picture's settings, which count where the request says nothing.")
    force_task_id: str | None = None
    comments: dict[str, Any] | None = None

    def said(self, name: str) -> bool:
        """Whether the client gave a value for a field."""
        return name in self.model_fields_set and getattr(self, name) is not None

    def changed(self, **fields: Any) -> Self:
        """The body with other values of some fields. Raises SfumatoError for values that a field cannot have."""
        told = {name: getattr(self, name) for name in self.model_fields_set}
        try:
            return type(self).model_validate({**told, **fields})
        except ValidationError as error:
            first = error.errors()[0]
            raise SfumatoError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    @property
    def overrides(self) -> dict[str, Any]:
        return self.override_settings or {}


class Txt2ImgBody(DrawBody):
    """A body of /sdapi/v1/txt2img."""

    enable_hr: bool | None = False
    firstphase_width: Int | None = 0
    firstphase_height: Int | None = 0
    hr_scale: float | None = 2
    hr_upscaler: str | None = None
    hr_second_pass_steps: Int | None = 0
    hr_resize_x: Int | None = 0
    hr_resize_y: Int | None = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str | None = ""
    hr_negative_prompt: str | None = ""


class Img2ImgBody(DrawBody):
    """A body of /sdapi/v1/img2img."""

    init_images: list[str] | None = None
    resize_mode: Int | None = 0
    image_cfg_scale: float | None = None
    mask: str | None = None
    mask_blur: Int | None = None
    mask_blur_x: Int | None = 4
    mask_blur_y: Int | None = 4
    mask_round: bool | None = True
    inpainting_fill: Int | None = 0
    inpaint_full_res: bool | None = True
    inpaint_full_res_padding: Int | None = 0
    inpainting_mask_invert: Int | None = 0
    initial_noise_multiplier: float | None = None
    include_init_images: bool | None = False


class DrawReply(BaseModel):
    """What both reply: pictures in base64, the request as it was understood, and a JSON text about the pictures."""

    images: list[str] | None
    parameters: dict[str, Any]
    info: str
