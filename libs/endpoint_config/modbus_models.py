"""What an endpoint file says of Modbus units, as frozen, typed models: see `models`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

from .transports import SerialLine, TlsSettings, Transport


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
