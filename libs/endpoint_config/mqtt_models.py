"""What partition.xml and ingest files say of MQTT, as frozen, typed models. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .consumer_models import ConsumerSettings
from .secret import Secret


@dataclass(frozen=True, kw_only=True)
class MqttTls:
    """Encryption; the broker's certificate and name are always checked."""

    ca: Path | None = None
    """Certificates of the authorities that are trusted (PEM); None = those of the system."""
    certificate: Path | None = None
    """Our own certificate with its chain (PEM), for brokers that ask for one."""
    key: Path | None = None
    """Its private key (PEM); None = it stands in the same file."""


@dataclass(frozen=True, kw_only=True)
class MqttConnection:
    """How a broker is reached."""

    brokers: tuple[tuple[str, int], ...] = (("127.0.0.1", 1883),)
    """Host and port, in the order in which they are tried."""
    version: str = "5"
    """`5` or `3.1.1`."""
    client_id: str
    """Unique at the broker."""
    keepalive: int = 30
    """Seconds of silence after which a ping is sent; the broker takes a client for dead after 1.5 times this."""
    timeout: float = 5.0
    """Seconds for connecting, TLS handshake and the broker's answer, each."""
    retry_interval: float = 30.0
    """Longest pause between attempts to connect."""
    session_expiry: int = 86400
    """Seconds for which the broker keeps the session of a client that is gone."""
    username: str = ""
    password: Secret | None = None
    token_file: Path | None = None
    """File with a token that is sent as the password; read anew at each attempt, for tokens expire."""
    tls: MqttTls | None = None
    """None = not encrypted."""


@dataclass(frozen=True, kw_only=True)
class MqttRule:
    """How points are published; the first rule that matches a point holds for it."""

    kind: str = "telemetry"
    """`telemetry`, `status` or `billing`: decides the default QoS (0, 1, 2)."""
    include: tuple[str, ...] = ()
    """Patterns of full names; empty = all points of devices, without system points."""
    exclude: tuple[str, ...] = ()
    topic: str = ""
    """Template; empty = that of the consumer."""
    qos: int = 0
    retain: bool = False
    deadband: float = 0.0
    """Least change of the value, in its unit, that is reported."""
    deadband_percent: float = 0.0
    """The same in percent of the value reported last."""
    maximum_silence: float = 0.0
    """A value is reported again after so many seconds without a report; 0 = never."""
    every: float = 0.0
    """Seconds between reports of the values as they stand then; 0 = report every change."""
    format: str = "json"
    """`json`: a message for each value; `compact`: one for each device and cycle, with arrays."""
    store: bool = True
    """Whether a message that can't be sent is kept."""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class MqttAggregate:
    """One number of many points, at an interval."""

    topic: str
    """Template; {site} and {devicetype} make one message for each of theirs."""
    name: str
    """What `sensor_type` says."""
    function: str
    """`sum`, `mean`, `minimum` or `maximum`."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    interval: float = 60.0
    unit: str = ""
    """Empty = that of the points, where they agree."""
    qos: int = 0
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class MqttStore:
    """What can't be sent waits on disk."""

    megabytes: float = 512.0
    """Most that it takes; beyond, the oldest messages are dropped and counted."""
    hours: float = 168.0
    """Age after which a message is dropped and counted."""
    drain_rate: float = 1000.0
    """Stored messages a second that are sent beside live ones."""
    order: str = "strict"
    """`strict`: what comes while there is a backlog goes behind it, so each point's values arrive in order; `live`: it
    is sent at once, and the backlog beside it in its own order."""


@dataclass(frozen=True, kw_only=True)
class MqttSettings(ConsumerSettings):
    """The `mqtt` element: a publisher."""

    connection: MqttConnection
    node: str
    """Name of this machine in topics."""
    topic: str = "devices/{id}/{point}"
    compact_topic: str = "devices/{id}"
    status_topic: str = "devices/{id}/status"
    heartbeat_topic: str = "system/heartbeat/{node}"
    heartbeat: float = 30.0
    """Seconds between messages there."""
    window: int = 500
    """Most messages that are on their way without the broker's acknowledgement, and most that a kill repeats."""
    rules: tuple[MqttRule, ...] = (MqttRule(),)
    aggregates: tuple[MqttAggregate, ...] = ()
    store: MqttStore = MqttStore()
    origins: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """Where each setting came from, by its name: `line N` or the environment variable; others are defaults."""


@dataclass(frozen=True, kw_only=True)
class MqttForward:
    """Values of a topic that are to be written to a point."""

    topic: str
    """Filter of a subscription."""
    point: str
    """Full name of the point."""
    key: str = "value"
    """Key of the JSON payload that holds the value."""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class MqttCommands(ConsumerSettings):
    """The `mqtt_commands` element: commands from a broker to the command gate."""

    connection: MqttConnection
    node: str
    """Name of this machine in topics."""
    set_topic: str = "devices/{id}/{point}/set"
    """Template; answers go to it with `/result` behind."""
    forwards: tuple[MqttForward, ...] = ()
    origins: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """Where each setting came from, by its name: `line N` or the environment variable; others are defaults."""

    @property
    def set_filter(self) -> str:
        """The subscription that takes every topic of `set_topic`."""
        return "/".join("+" if "{" in level else level for level in self.set_topic.split("/"))


@dataclass(frozen=True, kw_only=True)
class MqttPoint:
    """One value that somebody publishes: a `sensor_type`."""

    name: str
    datatype: str = "float64"
    """As `Point.type` of the image."""
    size: int = 64
    """Bytes of its text slot (string)."""
    unit: str = ""
    minimum: float | None = None
    """In its unit; outside is UncertainEngineeringUnitsExceeded."""
    maximum: float | None = None
    description: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class MqttUnit:
    """Something that publishes: a `unit_id`."""

    id: str
    alias: str
    """Its device; the id where the file gives none."""
    points: tuple[MqttPoint, ...]
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class MqttSource:
    """A broker, what is subscribed to there, and which units are known."""

    alias: str
    """Device of the counters; unique."""
    connection: MqttConnection
    topics: tuple[tuple[str, int], ...]
    """Topic filters with their QoS."""
    units: tuple[MqttUnit, ...] = ()
    max_age: float = 3600.0
    """Seconds; what is older is not taken, nor what is as far ahead as an hour."""
    max_bytes: int = 65536
    """Largest payload that is taken."""
    file: Path = Path()
    line: int = 0
