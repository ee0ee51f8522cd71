"""What others publish over MQTT, as points of a segment: a producer like those that poll."""

from mqtt_ingest.manager import MqttIngestManager
from mqtt_ingest.messages import REASONS, Reading, RefusedMessage, parse

__all__ = ["REASONS", "MqttIngestManager", "Reading", "RefusedMessage", "parse"]
