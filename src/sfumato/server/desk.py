"""Checks requests before any job exists."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from sfumato.hub.local_models import locate
from sfumato.loading.resolve import Overrides, opened_model
from sfumato.server.composite import Composite
from sfumato.server.config import Config
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds import find_kind
from sfumato.server.safety.names import check_names
from sfumato.spec import Spec


class Desk:
    """Checks requests, for which it reads only the headers of model files."""

    def __init__(self, inputs: Inputs, config: Config):
        self.inputs, self._config = inputs, config

    def spec(self, model: str) -> Spec:
        """What a model is, by its name. Raises SfumatoError for a name that is none, and for a broken file."""
        parts = Composite.of(model)
        path, variant = locate(parts.model)
        return _spec(parts, path, variant, path.stat().st_mtime_ns)

    def checked(self, request: JobRequest) -> JobRequest:
        """Returns the complete request. Raises SfumatoError if it cannot be carried out, Forbidden if it may not be."""
        check_names(request, self._config.licences)
        kind = find_kind(request.kind)
        request = kind.checked(request, self)
        for model in kind.models(request):
            check_names(JobRequest(model=model), self._config.licences)
        return request

    def weight(self, request: JobRequest) -> int:
        """Returns how many pixels a checked request draws."""
        count, pixels = find_kind(request.kind).size(request, self)
        return count * pixels


@lru_cache(maxsize=64)
def _spec(parts: Composite, path: Path, variant: str | None, changed: int) -> Spec:
    """`changed` makes a file that was replaced another one."""
    vae = None if parts.vae is None else locate(parts.vae, "vae")[0]
    texts = [locate(one, "text encoder")[0] for one in parts.text_encoders]
    overrides = Overrides(variant, cast(Any, parts.prediction), parts.zero_snr)
    with opened_model(path, vae, texts, overrides) as resolved:
        return resolved.spec
