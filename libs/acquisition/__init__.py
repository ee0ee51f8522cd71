"""What all producers share: their contract, device status, back-off, and the publisher behind the poll loops."""

from acquisition.backoff import Backoff
from acquisition.producer import Health, Producer
from acquisition.publisher import HEARTBEAT_SECONDS, Publisher
from acquisition.status import DeviceStatus, service_points, system_points

__all__ = [
    "HEARTBEAT_SECONDS", "Backoff", "DeviceStatus", "Health", "Producer", "Publisher", "service_points",
    "system_points",
]
