"""One MQTT connection, kept: brokers tried in turn, sessions, TLS, names made safe for topics. On paho-mqtt."""

from mqtt_link.link import Link
from mqtt_link.message import Message, Will
from mqtt_link.names import decode_name, encode_name, fill, matches

__all__ = ["Link", "Message", "Will", "decode_name", "encode_name", "fill", "matches"]
