"""Structured logs: one JSON object a line, of the fields that the caller gave and nothing else."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """A record as one line: instant, level, event, and its `fields`. Messages of other libraries are left out.

    >>> record = logging.LogRecord("fedscore", 20, "", 0, "answered", None, None)
    >>> json.loads(JsonLines().format(record))["event"]
    'answered'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        ours = record.name.startswith("fedscore")
        said = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage() if ours else record.name,
        }
        return json.dumps(said | getattr(record, "fields", {}), ensure_ascii=False)


def to_stderr() -> None:
    """Sends the logs of the service and its server to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("fedscore.decisions", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
