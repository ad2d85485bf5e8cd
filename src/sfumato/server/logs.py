"""The server's log on standard error: lines of text, or of JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER = "sfumato.server"
_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    """Writes one line for each record: the message, then its other fields."""

    def __init__(self, as_json: bool):
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        more = {name: value for name, value in vars(record).items() if name not in _USUAL}
        if record.exc_info:
            more["error"] = self.formatException(record.exc_info)
        if self._as_json:
            said = {"time": when, "level": record.levelname.lower(), "event": record.getMessage(), **more}
            return json.dumps(said, default=str)
        return " ".join([when, record.getMessage(), *(f"{name}={value!r}" for name, value in more.items())])


def write_logs(as_json: bool = False) -> None:
    """Sends the server's log to standard error from now on; with `as_json` as one JSON object per line."""
    log = logging.getLogger(LOGGER)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(as_json))
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
