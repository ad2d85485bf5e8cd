"""What the server keeps, what it throws away, and what it writes of its work."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.server.app import create_app
from sfumato.server.config import Config
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.jobs.store import Store
from sfumato.server.logs import LOGGER, write_logs
from sfumato.server.queue import Queue


def test_old_pictures_that_nothing_names_are_removed(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path / "inputs")
    named, listed, old, new = (
        inputs.add(Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue", "white", "tan")
    )
    with Store(tmp_path / "jobs.sqlite") as store:
        request = JobRequest(options={"control": [{"model": "canny", "image": named}]})
        store.add(request, user="", dialect="api")
        assert store.inputs() == {named}
        (tmp_path / "uploads.json").write_text(json.dumps({"ada": {"input/a.png": listed}}))
        for name in (named, listed, old):
            os.utime(inputs.path(name), (0, time.time() - 8 * 86_400))
        queue = Queue(Config(folder=tmp_path))
        queue.store = store
        assert queue._prune() == 1
    assert [inputs.path(name).exists() for name in (named, listed, old, new)] == [True, True, False, True]


def test_a_picture_that_is_sent_again_is_kept(tmp_path: Path) -> None:
    inputs, image = Inputs(tmp_path), Image.new("RGB", (8, 8))
    name = inputs.add(image)
    os.utime(inputs.path(name), (0, 0))
    assert inputs.add(image) == name and inputs.prune((), 60) == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_logs_have_no_prompts_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    log = logging.getLogger(LOGGER)
    before = log.handlers, log.propagate, log.level
    write_logs(as_json)
    try:
        with Store(tmp_path / "jobs.sqlite") as store:
            job, _ = store.add(JobRequest(prompt="a secret"), user="ada", dialect="api")
        for config in (Config(folder=tmp_path), Config(folder=tmp_path, log_prompts=True)):
            log.info("job queued", extra=Queue(config)._told(job))
    finally:
        log.handlers, log.propagate = before[:2]
        log.setLevel(before[2])
    first, second = capsys.readouterr().err.splitlines()
    assert "secret" not in first and "a secret" in second and job.id in first and "ada" in first
    if as_json:
        assert json.loads(second)["event"] == "job queued" and json.loads(second)["prompt"] == "a secret"


def test_a_checker_that_is_required_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="emoji comes without a safety checker"):
        create_app(Config(folder=tmp_path, safety="model"))
    with pytest.raises(SfumatoError, match="no safety checker"):
        create_app(Config(folder=tmp_path, safety=str(tmp_path / "none")))
