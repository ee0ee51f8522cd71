"""What an endpoint file says, as frozen, typed models.

Parsed once, at the edge: everything behind these models is checked, named, resolved (paths, secrets) and free of XML.
Times are seconds, addresses are zero-based protocol addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from .consumer_models import ConsumerSettings, DeviceAttributes
from .dnp3_models import Dnp3Map, Dnp3Outstation
from .opcua_points import OpcUaField, OpcUaPoint, node_points
from .rule_models import CommandRules, CommandSettings
from .subscribing import NOTHING_SAID, Subscribing
from .transports import SerialLine, TlsSettings, Transport

if TYPE_CHECKING:
    from .mqtt_models import MqttSource  # it builds on this module


class ReadFunction(IntEnum):
    """Function codes that read (MODBUS Application Protocol V1.1b3, clause 6)."""

    COILS = 1
    DISCRETE_INPUTS = 2
    HOLDING_REGISTERS = 3
    INPUT_REGISTERS = 4

    @property
    def is_bits(self) -> bool:
        """Whether the table holds single bits and not registers."""
        return self in (ReadFunction.COILS, ReadFunction.DISCRETE_INPUTS)


class WriteFunction(IntEnum):
    """Function codes that write, as an endpoint file may name them."""

    SINGLE_COIL = 5
    SINGLE_REGISTER = 6
    MULTIPLE_COILS = 15
    MULTIPLE_REGISTERS = 16


class Datatype(StrEnum):
    """How the registers of an endpoint become a value."""

    BOOL = "bool"
    INT8_HIGH = "int8high"
    INT8_LOW = "int8low"
    UINT8_HIGH = "uint8high"
    UINT8_LOW = "uint8low"
    INT16 = "int16"
    UINT16 = "uint16"
    INT32 = "int32"
    UINT32 = "uint32"
    INT64 = "int64"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BCD16 = "bcd16"
    BCD32 = "bcd32"
    STRING = "string"
    """UTF-8 (ASCII is a part of it) of `quantity` registers, high byte first, ended by the first NUL."""
    BYTES = "bytes"
    BITFIELD = "bitfield"
    """`bits` bits of one register from bit `offset` on, an unsigned number."""

    @property
    def registers(self) -> int:
        """Registers of one value; 0 where the quantity says it (string, bytes)."""
        if self in (Datatype.STRING, Datatype.BYTES):
            return 0
        if self.value.endswith("64"):
            return 4
        return 2 if self.value.endswith("32") else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class ModbusPoint:
    """One value of a Modbus device: an endpoint, or one element of an endpoint that holds several."""

    name: str
    """Unique within the device: the file's name, `name#2` for a second occurrence, `name[i]` for an element."""
    read_function: ReadFunction
    """The function that reads it; for a write function the matching one."""
    write_function: WriteFunction | None = None
    """The function that writes it, None where it can't be written."""
    address: int
    """First register or bit, 0 to 65535."""
    registers: int = 1
    """Registers that the value spans; 1 for coils and discrete inputs."""
    bit: int | None = None
    """Bit in the register (0 = least significant), None for the whole register."""
    bits: int = 1
    """Width of a bit field from `bit` on; 1 for a single bit."""
    datatype: Datatype = Datatype.UINT16
    order: str = "ABCD"
    """Byte order on the wire; A is the most significant byte. For 64 bits likewise by register."""
    scale: float = 1.0
    """Engineering value = raw * scale + valueoffset."""
    valueoffset: float = 0.0
    scalefactor: int | None = None
    """Address of a register of the same function whose int16 n multiplies by 10**n (SunSpec sunssf)."""
    unit: str = ""
    minimum: float | None = None
    """In engineering units; outside is UncertainEngineeringUnitsExceeded."""
    maximum: float | None = None
    invalid: tuple[int, ...] = ()
    """Raw bit patterns, zero-extended to the width of the type, that mean "not available"."""
    invalid_nan: bool = False
    """Whether NaN means "not available" (floating types)."""
    enum: tuple[tuple[int, str], ...] = ()
    """Texts of raw values."""
    interval: float | None = None
    """Scan class in seconds; None = the device's."""
    verify: bool = True
    """Whether a write is read back and compared; False for pulses and for points that can't be read."""
    allow_rmw: bool = False
    """Whether a part of a register may be written by reading, changing and writing the whole of it."""
    step: float | None = None
    """Values that are written must be multiples of it, counted from `minimum` (or 0); engineering units."""
    max_step: float | None = None
    """Largest change that one write may bring, engineering units; None = any."""
    moves: str = ""
    """How its value moves where the device is simulated, such as `sine 10 20 60`; empty = as type and range suggest."""
    description: str = ""
    line: int = 0
    """Line of the endpoint in its file."""

    @property
    def writable(self) -> bool:
        """Whether the file names a write function."""
        return self.write_function is not None

    @property
    def scaled(self) -> bool:
        """Whether the engineering value differs from the raw number."""
        return self.scale != 1.0 or self.valueoffset != 0.0 or self.scalefactor is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ModbusServer:
    """One Modbus unit behind ip:port or on a serial line."""

    alias: str
    """Unique over the service."""
    ipaddr: str
    """IPv4, IPv6 or host name; empty on a serial line of this machine."""
    port: int = 502
    """0 on a serial line of this machine."""
    transport: Transport = Transport.TCP
    serial: SerialLine | None = None
    """The line, where the transport has one (rtu, ascii, rtu-over-tcp)."""
    tls: TlsSettings | None = None
    """With transport tls."""
    unit_id: int = 1
    """0 to 255; 0 and 255 address the device itself."""
    interval: float | None = None
    """Scan class of points that name none, seconds; None = the run's default; 0 = back to back."""
    timeout: float = 1.0
    """Seconds from the request to its whole answer, and for connecting."""
    retries: int = 0
    """Further attempts of a request within the same poll."""
    retry_interval: float = 30.0
    """Longest pause between attempts to reconnect or to probe a demoted unit, seconds."""
    delay: float = 0.0
    """Pause between an answer and the next request, seconds."""
    max_registers: int = 125
    """Most registers in one request; bits are limited to 16 times this, at most 2000."""
    max_gap: int = 0
    """Most unwanted registers (or bits) that may be read to join two blocks."""
    in_flight: int = 1
    """Requests that may be under way at once on the connection for this unit."""
    accept_any_unit_id: bool = False
    """Quirk: take an answer whatever unit id it carries."""
    accept_transaction_zero: bool = False
    """Quirk: take an answer with transaction id 0; only with in_flight 1."""
    identify: bool = False
    """Whether the device is asked what it is after connecting, shown as `$identity`."""
    description: str = ""
    points: tuple[ModbusPoint, ...] = ()
    """In file order, expanded: one for each value."""
    file: Path = Path()
    line: int = 0

    @property
    def place(self) -> str:
        """Where the unit is, for people: `host:port`, or the device file of its line."""
        if self.serial is not None and self.serial.device is not None:
            return str(self.serial.device)
        return f"[{self.ipaddr}]:{self.port}" if ":" in self.ipaddr else f"{self.ipaddr}:{self.port}"

    @property
    def connection(self) -> tuple[Transport, str, TlsSettings | None]:
        """Equal for units that share one connection or one line: what one may, by its certificate, another may not."""
        return self.transport, self.place.casefold() if self.ipaddr else self.place, self.tls


class SecurityMode(StrEnum):
    """MessageSecurityMode of OPC UA Part 4, clause 7.20."""

    NONE = "None"
    SIGN = "Sign"
    SIGN_AND_ENCRYPT = "SignAndEncrypt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """A text that is never shown: repr and str are stars."""

    value: str = field(repr=False)
    source: str = field(default="", repr=False, compare=False)
    """Where it came from (`${VARIABLE}`, or `file:` and a path), empty where it stands in the file itself."""

    def __str__(self) -> str:
        """Stars, whatever the value."""
        return "***"

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self.value


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something wrong (or worth a warning) in a file."""

    file: Path
    line: int
    """1-based; 0 where no line can be named."""
    message: str
    """`what is wrong; what is allowed`."""

    def __str__(self) -> str:
        """The form of every error on stderr: FILE:LINE: message."""
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointFile:
    """One file, read and checked."""

    file: Path
    kind: str
    """`modbus`, `opcua`, `partition`, `rules` or `dnp3-map`; empty where the root element does not tell."""
    modbus: tuple[ModbusServer, ...] = ()
    opcua: tuple[OpcUaServer, ...] = ()
    mqtt: tuple[MqttSource, ...] = ()
    partition: Partition | None = None
    rules: CommandRules | None = None
    dnp3_map: Dnp3Map | None = None
    dnp3: tuple[Dnp3Outstation, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()

    @property
    def points(self) -> int:
        """Values acquired; neither system points nor `Object` nodes."""
        return (sum(len(s.points) for s in self.modbus) + sum(len(n.points) for s in self.opcua for n in s.nodes)
                + sum(len(u.points) for s in self.mqtt for u in s.units) + sum(len(one.points) for one in self.dnp3))


@dataclass(frozen=True, kw_only=True, slots=True)
class Audience:
    """A consumer group with a segment of its own for a service."""

    name: str
    """Part of the names: SERVICE_shm_NAME, SERVICE_semaphore_NAME; empty for the service's own segment."""
    group: str | None = None
    """Group that may read; None = the primary group of the writer."""
    mode: int = 0o640
    """File mode of the segment; the semaphore gets 0660 of the same owner and group."""
    include: tuple[str, ...] = ()
    """Patterns (fnmatch, on alias/name) of points; empty = all."""
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One acquisition service: its files, and who may read what it publishes."""

    kind: str
    """`modbus` or `opcua`."""
    files: tuple[Path, ...] = ()
    audiences: tuple[Audience, ...] = (Audience(name=""),)
    """The first is the service's own segment."""
    journal_entries: int = 65536
    repair_after: float = 10.0
    """Seconds until a semaphore that stays taken is repaired."""
    line: int = 0
    """Where it stands in the partition file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """partition.xml: what one partition runs."""

    namespace: str = ""
    """Prefix of every name: `x` gives x_modbus_shm."""
    interval: float = 1.0
    """Default scan class in seconds."""
    services: tuple[Service, ...] = ()
    consumers: tuple[ConsumerSettings, ...] = ()
    """What reads the segments, in the file's order."""
    devices: tuple[DeviceAttributes, ...] = ()
    """Site, type and id of devices, by alias or pattern; see `attributes_of`."""
    commands: CommandSettings | None = None
    """The command gate; None = nothing is writable."""
    state: Path | None = None
    """Folder for what consumers must keep; None = that of systemd or of the user."""
    pki: Path | None = None
    """Folder of certificates for OPC UA servers that name none; None = beside their endpoint file."""
    file: Path = Path()


class ConfigError(Exception):
    """A file can't be used; `faults` says where and why, one line each in str()."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(f) for f in faults))
        self.faults = faults
