"""OPC UA servers in, records in named shared memory out; sessions by asyncua, trust and decoding by ourselves."""

from opcua_client.certificates import Identity, load_identity, make_certificate, save
from opcua_client.client import OpcUaClient, Reading
from opcua_client.datatypes import Kind, image_points, kind_of
from opcua_client.errors import Malformed, Misconfigured, OpcUaError, Refused, Unanswered, Unreachable, Untrusted
from opcua_client.expiry import certificate_points
from opcua_client.manager import OpcUaClientManager
from opcua_client.subscriber import server_points

__all__ = [
    "Identity", "Kind", "Malformed", "Misconfigured", "OpcUaClient", "OpcUaClientManager", "OpcUaError", "Reading",
    "Refused", "Unanswered", "Unreachable", "Untrusted", "certificate_points", "image_points", "kind_of",
    "load_identity", "make_certificate", "save", "server_points",
]
