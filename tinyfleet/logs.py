"""Structured logs: a fixed phrase and fields, one line each, for people or as JSON.

    log.info("update refused", extra=fields(run=run_id, reason=reason))

prints `2026-11-21T07:30:00.123Z INFO aggregator update refused run=k3f9 reason="late"`.
"""

from __future__ import annotations

import json
import logging
import math
import time
from typing import Any

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_OWN = ("time", "level", "logger", "message", "traceback")  # docs/operations.md has them


def fields(**values: Any) -> dict[str, Any]:
    """The fields of a log line, for `extra=`."""
    return {"fields": values}


def configure_logs(level: str, format: str) -> None:
    """Send all logs to standard error. level: one of LEVELS; format: one of FORMATS."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class PhraseFormatter(logging.Formatter):
    """`phrase key=value ...`, for where time, level and logger stand already."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in _fields(record).items())
        phrase = record.getMessage().replace("\n", "\\n")
        line = f"{self.begin(record)}{phrase}{pairs}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    def begin(self, record: logging.LogRecord) -> str:
        """What stands before the phrase."""
        return ""


class TextFormatter(PhraseFormatter):
    """`time LEVEL logger phrase key=value ...`; values with spaces are quoted."""

    def begin(self, record: logging.LogRecord) -> str:
        return f"{_time(record)} {record.levelname} {record.name} "


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields, a traceback if any.

    What JSON has no value for (paths, NaN) is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for key, value in _fields(record).items():
            entry[f"{key}_" if key in _OWN else key] = _json_value(value)
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    found = getattr(record, "fields", {})
    return found if isinstance(found, dict) else {}


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _json_value(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if isinstance(value, bool | int | None) else str(value)


def _quoted(value: Any) -> str:
    text = str(value)
    is_plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if is_plain else json.dumps(text)
