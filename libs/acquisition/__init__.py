"""What all producers share: their contracts, device status, back-off, and the publisher behind the poll loops."""

from acquisition.backoff import Backoff
from acquisition.producer import Health, Producer
from acquisition.publisher import HEARTBEAT_SECONDS, Publisher
from acquisition.status import DeviceStatus, Extra, identity_point, service_points, system_points, tls_point
from acquisition.writing import Value, WritablePoint, WriteOutcome, WriteRequest, WriteResult, Writing

__all__ = [
    "HEARTBEAT_SECONDS", "Backoff", "DeviceStatus", "Extra", "Health", "Producer", "Publisher", "Value",
    "WritablePoint", "WriteOutcome", "WriteRequest", "WriteResult", "Writing", "identity_point", "service_points",
    "system_points", "tls_point",
]
