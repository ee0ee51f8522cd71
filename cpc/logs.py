"""The log: one line an event on stderr, readable and yet in parts: time, level, source, what happened, key=value.

Values with blanks are quoted as JSON strings, line breaks are escaped, so a line is always one event. Secrets are no
business of the log: what holds one (endpoint_config.Secret) prints as stars.
"""

from __future__ import annotations

import json
import logging
import sys
import time

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""What `--log-level` takes."""

_NOISY = ("asyncua", "asyncio", "pymodbus", "uaprotocol")
"""Libraries whose INFO says nothing to an operator; their warnings are shown with --log-level debug."""


def set_up(level: str, *, traceback: bool = False) -> None:
    """Send the root logger's events to stderr, from `level` on; tracebacks only where asked for."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line(traceback=traceback))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    logging.captureWarnings(True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING if level == "debug" else logging.CRITICAL)


def event(log: logging.Logger, level: int, what: str, /, **details: object) -> None:
    """Log one event with its details as key=value; None is left out."""
    if log.isEnabledFor(level):
        log.log(level, "%s", " ".join([what, *(f"{k}={_word(v)}" for k, v in details.items() if v is not None)]))


def _word(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


class _Line(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO supervisor: started service=modbus pid=4711`."""

    def __init__(self, *, traceback: bool) -> None:
        super().__init__()
        self._traceback = traceback

    def format(self, record: logging.LogRecord) -> str:
        """One line, which names the exception if there is one; the traceback below it where that is wanted."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {record.name}: {text}"
        if record.exc_info and (error := record.exc_info[1]) is not None:
            line += f" error={_word(f'{type(error).__name__}: {error}')}"
            if self._traceback:
                line += "\n" + self.formatException(record.exc_info)
        return line
