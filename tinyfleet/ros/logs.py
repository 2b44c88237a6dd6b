"""Log lines through rclpy's logger: on the console as ROS prints them, in its files, on /rosout.

What our logger `session` says in the node `/site/agent`, ROS's `site.agent.session` says.
"""

from __future__ import annotations

import logging

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.logging import LoggingSeverity

from tinyfleet.logs import JsonFormatter, PhraseFormatter

_SEVERITIES = {
    "debug": LoggingSeverity.DEBUG,
    "info": LoggingSeverity.INFO,
    "warning": LoggingSeverity.WARN,
    "error": LoggingSeverity.ERROR,
}


def send_logs_to(logger: RcutilsLogger, level: str, format: str) -> None:
    """Send all logs of the process through a node's logger, instead of to standard error.

    level: one of `tinyfleet.logs.LEVELS`; format: of the text, one of `tinyfleet.logs.FORMATS`.
    """
    handler = RosHandler(logger)
    handler.setFormatter(JsonFormatter() if format == "json" else PhraseFormatter())
    logging.basicConfig(handlers=[handler], force=True)
    set_level(logger, level)


def set_level(logger: RcutilsLogger, level: str) -> None:
    """Log from this level on, one of `tinyfleet.logs.LEVELS`, also what rclpy says itself."""
    logging.getLogger().setLevel(level.upper())
    logger.set_level(_SEVERITIES[level])


class RosHandler(logging.Handler):
    """Hands records to children of a node's logger."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger
        self._children: dict[str, RcutilsLogger] = {}

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._log(self._child(record.name), record.levelno, self.format(record))
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)

    def _child(self, name: str) -> RcutilsLogger:
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._logger.get_child(name)
        return child

    def _log(self, logger: RcutilsLogger, level: int, text: str) -> None:
        # A line of code each: rclpy refuses a second severity from one and the same.
        if level >= logging.ERROR:
            logger.error(text)
        elif level >= logging.WARNING:
            logger.warning(text)
        elif level >= logging.INFO:
            logger.info(text)
        else:
            logger.debug(text)
