"""What can go wrong on the way to a value, one class for each thing that is done about it."""

from __future__ import annotations

from process_image.quality import (
    BAD_COMMUNICATION_ERROR,
    BAD_DECODING_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_TIMEOUT,
    quality_name,
)

from opcua_client.qualities import BAD_CONFIGURATION_ERROR, BAD_SECURITY_CHECKS_FAILED


class OpcUaError(Exception):
    """Something failed; str() reads `operation: what; what to do`."""

    quality: int = BAD_INTERNAL_ERROR
    """StatusCode that the records of the points concerned get."""

    def __init__(self, operation: str, what: str, advice: str = "", *, quality: int | None = None) -> None:
        super().__init__(f"{operation}: {what}; {advice}" if advice else f"{operation}: {what}")
        self.operation = operation
        self.what = what
        self.advice = advice
        if quality is not None:
            self.quality = quality


class Unreachable(OpcUaError):
    """No TCP connection, or it was lost: cheap to try again soon."""

    quality = BAD_COMMUNICATION_ERROR


class Unanswered(OpcUaError):
    """The server holds the connection and says nothing in time."""

    quality = BAD_TIMEOUT


class Silent(Unanswered):
    """The connection says nothing though its server answers others: something on the way lost it."""


class Malformed(OpcUaError):
    """The answer is not what OPC UA Part 6 allows; nothing of it is used."""

    quality = BAD_DECODING_ERROR


class Untrusted(OpcUaError):
    """The server (or what it offers) is refused by our decision, not by the server's."""

    quality = BAD_SECURITY_CHECKS_FAILED


class Misconfigured(OpcUaError):
    """The entry in the endpoint file, or a file that it names, can't be used as it is."""

    quality = BAD_CONFIGURATION_ERROR


class Refused(OpcUaError):
    """The server answered with a bad service result, which becomes the quality."""

    def __init__(self, operation: str, code: int, advice: str = "") -> None:
        super().__init__(operation, f"the server answers {quality_name(code)}", advice, quality=code)

    def advised(self, advice: str) -> Refused:
        """The same with another advice."""
        return Refused(self.operation, self.quality, advice)
