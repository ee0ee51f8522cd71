"""What an endpoint file says of OPC UA servers, as frozen, typed models: see `models`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .opcua_points import OpcUaField, OpcUaPoint, node_points
from .secret import Secret
from .subscribing import NOTHING_SAID, Subscribing


class SecurityMode(StrEnum):
    """MessageSecurityMode of OPC UA Part 4, clause 7.20."""

    NONE = "None"
    SIGN = "Sign"
    SIGN_AND_ENCRYPT = "SignAndEncrypt"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpcUaNode:
    """One variable of an OPC UA server: one point, or several where it is an array or a structure."""

    name: str
    """Unique within the device: DisplayName, or `name#2` for a second occurrence."""
    namespace_index: int = 0
    namespace_uri: str = ""
    """Where given, the index is looked up by it at each connect."""
    identifier_type: str = "Numeric"
    """Numeric, String, Guid or Opaque."""
    identifier: str
    """As in the file: decimal number, text, GUID, or base64."""
    datatype: str = ""
    """The file's type name (Boolean, SByte ... Double, String, ByteString, DateTime, ...), free in old files."""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    interval: float | None = None
    """Scan class in seconds; None = the server's."""
    writable: bool = False
    description: str = ""
    length: int = 0
    """Elements to take of an array, `name[0]` and on; 0 = a single value."""
    fields: tuple[OpcUaField, ...] = ()
    """The values to take out of a structure, `name.path` each."""
    subscribing: Subscribing = NOTHING_SAID
    """Whether it is polled or subscribed to, and how; what is not said here is as the server's."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Names of points that had to be told apart from others: as derived, and as they are."""
    line: int = 0

    @property
    def points(self) -> tuple[OpcUaPoint, ...]:
        """The points in the order of the image: element by element, within it field by field."""
        return node_points(self)

    @property
    def node_id(self) -> str:
        """The NodeId in string notation (OPC UA Part 6, clause 5.3.1.10)."""
        letter = {"Numeric": "i", "String": "s", "Guid": "g", "Opaque": "b"}[self.identifier_type]
        return f"ns={self.namespace_index};{letter}={self.identifier}"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpcUaServer:
    """One OPC UA server and how to talk to it."""

    alias: str
    url: str
    """`server_app_uri` of the file: the endpoint URL, opc.tcp://host:port/path."""
    client_app_uri: str = ""
    """Application URI that the client presents; must stand in its certificate's SAN."""
    security_policy: str = "SecurityPolicyNone"
    """As in the file, with the prefix SecurityPolicy."""
    security_mode: SecurityMode = SecurityMode.NONE
    server_certificate: Path | None = None
    """The only certificate that is trusted for this server; None = by the trust folder."""
    client_certificate: Path | None = None
    client_private_key: Path | None = None
    trust_folder: Path | None = None
    """Folder with `trusted/certs` for servers whose entry names no certificate; None = see `pki`."""
    partition_pki: Path | None = None
    """The folder that the partition file names for entries without one."""
    waive_host_name: bool = False
    """Whether the server's certificate may be for another host than the URL's."""
    waive_dates: bool = False
    """Whether the certificates of the server and its CAs may have expired, or not be valid yet."""
    waive_revocation_list: bool = False
    """Whether a CA may lack a current revocation list; a certificate that one revokes is refused all the same."""
    username: str = ""
    password: Secret | None = None
    allow_unencrypted_password: bool = False
    """Whether the password may go readable over a channel that is only signed."""
    user_certificate: Path | None = None
    """Certificate of the user who logs in, instead of a name and a password."""
    user_private_key: Path | None = None
    interval: float | None = None
    timeout: float = 4.0
    """Seconds for one request."""
    retry_interval: float = 30.0
    """Longest pause between attempts to reconnect, seconds."""
    subscribing: Subscribing = NOTHING_SAID
    """Whether nodes that say nothing are polled or subscribed to, and how."""
    chunk: int = 1000
    """Most nodes in one read, further limited by the server's own operation limits."""
    description: str = ""
    nodes: tuple[OpcUaNode, ...] = ()
    """Variables in file order; `Object` entries are not among them."""
    objects: int = 0
    """Number of `Object` entries (folders, not read)."""
    file: Path = Path()
    line: int = 0

    @property
    def pki(self) -> Path | None:
        """The folder of certificates: the entry's trust_folder, else the partition's, else `pki` beside the file.

        It holds whom we trust (`trusted`, `issuers`), who we are (`own`) where the entry names no client_certificate,
        and what was refused (`rejected`). None for an entry that stands in no file and names none.
        """
        beside = self.file.absolute().parent / "pki" if self.file.name else None
        return self.trust_folder or self.partition_pki or beside
