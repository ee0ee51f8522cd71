"""Between the gate and the service that owns a point: orders and reports, JSON, one a packet of a private socket.

Both ends are this project's, of one version and one user; still each is checked, for a bug in one must not become a
write in the other.
"""

from __future__ import annotations

import json
import time
from typing import Any

from acquisition import WriteOutcome, WriteRequest, WriteResult
from command_channel import MessageError
from command_channel.messages import from_json, to_json

MOST_BYTES = 65536
"""Largest packet."""


def encode_order(number: int, request: WriteRequest) -> bytes:
    """An order to write; `number` is never used again by this gate process.

    Its deadline goes as a time of the monotonic clock, which all processes of a machine share: a service that was
    stopped meanwhile must not write what the gate has given up.
    """
    return _pack({"order": number, "point": request.point, "value": to_json(request.value), "verify": request.verify,
                  "tolerance": request.tolerance, "until": time.monotonic() + request.deadline})


def decode_order(packet: bytes) -> tuple[int, WriteRequest]:
    """Number and request, whose deadline is what is left of it, below 0 where it is over; MessageError for
    everything else."""
    document = _unpack(packet)
    try:
        return int(document["order"]), WriteRequest(
            point=str(document["point"]), value=from_json(document["value"]), verify=bool(document["verify"]),
            tolerance=float(document["tolerance"]), deadline=float(document["until"]) - time.monotonic())
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"an order that is none: {error}") from error


def encode_report(number: int, result: WriteResult) -> bytes:
    """What became of an order."""
    document: dict[str, Any] = {"order": number, "outcome": result.outcome.value, "message": result.message[:2000],
                                "quality": result.quality, "sent": result.sent}
    for name in ("previous", "read"):
        value = getattr(result, name)
        if value is not None:
            try:
                document[name] = to_json(value)
            except MessageError:
                document["message"] += f" ({name} {value})"
    return _pack(document)


def decode_report(packet: bytes) -> tuple[int, WriteResult]:
    """Number and result; MessageError for everything else."""
    document = _unpack(packet)
    try:
        values = {name: None if document.get(name) is None else from_json(document[name])
                  for name in ("previous", "read")}
        return int(document["order"]), WriteResult(
            outcome=WriteOutcome(document["outcome"]), message=str(document["message"]),
            quality=int(document["quality"]), sent=bool(document["sent"]), **values)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a report that is none: {error}") from error


def _pack(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _unpack(packet: bytes) -> dict[str, Any]:
    try:
        document = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise MessageError("not JSON") from error
    if not isinstance(document, dict):
        raise MessageError("not a JSON object")
    return document
