"""OpcUaClient: one server, asked by hand, one value at a time, from code that knows nothing of asyncio."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from acquisition import WriteOutcome, WriteResult
from endpoint_config import OpcUaNode, OpcUaServer, Secret, SecurityMode
from process_image.quality import BAD_NODE_ID_UNKNOWN, quality_name

from opcua_client.datatypes import Wire, shown_id
from opcua_client.decoding import Columns, Reader
from opcua_client.encoding import EPOCH_TICKS, NodeId, parse_node_id, read_body, read_value_id
from opcua_client.errors import Unreachable
from opcua_client.loops import new_event_loop
from opcua_client.methods import call_method
from opcua_client.plan import namespace_index, node_id_at
from opcua_client.services import settled
from opcua_client.session import Session, open_session
from opcua_client.skipping import IS_ARRAY
from opcua_client.values import text_of, widen
from opcua_client.writing import Setting, write_node

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a server said of one node."""

    value: bool | int | float | str | bytes | datetime | None
    """The value in Python's own type; None where there is none, or for arrays and structures."""
    quality: int
    """The server's StatusCode."""
    source_time: int
    """Nanoseconds since 1970 UTC, the server's time where the value has none of its own, 0 = none."""
    datatype: str
    """Built-in type as the standard spells it; `[]` behind it marks an array."""

    @property
    def quality_name(self) -> str:
        """The StatusCode's symbolic name."""
        return quality_name(self.quality)


class OpcUaClient:
    """A connection to one server; its methods block. Not for several threads at once."""

    def __init__(
        self, server_app_uri: str, *, client_app_uri: str = "", security_policy: str = "SecurityPolicyNone",
        security_mode: str | SecurityMode = SecurityMode.NONE, server_certificate: str | Path | None = None,
        client_certificate: str | Path | None = None, client_private_key: str | Path | None = None,
        trust_folder: str | Path | None = None, username: str = "", password: str = "", timeout: float = 4.0,
        alias: str = "", user_certificate: str | Path | None = None, user_private_key: str | Path | None = None,
        waive_host_name: bool = False, waive_dates: bool = False, waive_revocation_list: bool = False,
        allow_unencrypted_password: bool = False,
    ) -> None:
        """The arguments are those of a `server` element in an endpoint file; `timeout` (s) is for each request."""
        self._server = OpcUaServer(
            alias=alias or server_app_uri, url=server_app_uri, client_app_uri=client_app_uri,
            security_policy=security_policy, security_mode=SecurityMode(security_mode),
            server_certificate=_path(server_certificate), client_certificate=_path(client_certificate),
            client_private_key=_path(client_private_key), trust_folder=_path(trust_folder), username=username,
            password=Secret(value=password) if password else None, timeout=timeout,
            user_certificate=_path(user_certificate), user_private_key=_path(user_private_key),
            waive_host_name=waive_host_name, waive_dates=waive_dates, waive_revocation_list=waive_revocation_list,
            allow_unencrypted_password=allow_unencrypted_password,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: Session | None = None

    @classmethod
    def of(cls, server: OpcUaServer) -> Self:
        """A client for an entry of an endpoint file."""
        client = cls(server.url)
        client._server = server
        return client

    def connect(self) -> None:
        """Open a session; OpcUaError (errors.py) with the reason where that fails. Harmless when connected."""
        if self._session is not None:
            return
        self._start_loop()
        timeout = self._server.timeout
        try:
            self._session = self._do(open_session(self._server, connect_timeout=timeout, patience=timeout))
        except BaseException:
            self._stop_loop()
            raise

    def disconnect(self) -> None:
        """Close the session; harmless when there is none."""
        session, self._session = self._session, None
        if session is not None:
            self._do(session.close())
        self._stop_loop()

    def read_value(self, node_id: str | OpcUaNode) -> Reading:
        """Read one node, named by its NodeId or as an endpoint file does, also by namespace URI.

        A bad status is in the reading; OpcUaError means that there was no answer to read.
        """
        return self._do(self._read(node_id))

    def write_value(self, node_id: str | OpcUaNode, value: Any, *, verify: bool = True,
                    tolerance: float = 0.0) -> WriteResult:
        """Write one node, once, in the type that it has at the server, and read it back.

        `value` may be a list for an array. The result says what became of it (acquisition.WriteOutcome): verified,
        written, not-verified with what was read, refused (it does not fit), failed with the server's status, or
        timed-out. OpcUaError means that nothing was sent because there is no connection, or the NodeId is none.
        """
        return self._do(self._write(node_id, value, verify=verify, tolerance=tolerance))

    def call_method(self, object_id: str, method_id: str, *arguments: Any) -> list[Any]:
        """Call a method of an object, once, with arguments in the types that it declares; its output arguments.

        OpcUaError where they do not fit, and with the server's status where it refuses. Nothing is repeated: after
        Unanswered it is not known whether the method ran.
        """
        return self._do(self._call(object_id, method_id, arguments))

    async def _write(self, node: str | OpcUaNode, value: Any, *, verify: bool, tolerance: float) -> WriteResult:
        session = self._connected("write")
        label = f"{self._server.alias}: write {node if isinstance(node, str) else shown_id(node)}"
        wanted = _wanted(node, session)
        if wanted is None:
            return WriteResult(outcome=WriteOutcome.FAILED, quality=BAD_NODE_ID_UNKNOWN,
                               message=f"{label}: the server has no such namespace; check NamespaceUri")
        return await write_node(session.channel, Setting(
            node=wanted, value=value, label=label, array=isinstance(value, (list, tuple)), verify=verify,
            tolerance=tolerance, timeout=self._server.timeout,
        ))

    async def _call(self, object_id: str, method_id: str, arguments: Sequence[Any]) -> list[Any]:
        session = self._connected("call")
        return await call_method(session.channel, parse_node_id(object_id), parse_node_id(method_id), arguments,
                                 self._server.timeout)

    def _connected(self, operation: str) -> Session:
        if self._session is None:
            raise Unreachable(operation, "not connected", "call connect() first")
        return self._session

    async def _read(self, node: str | OpcUaNode) -> Reading:
        session = self._connected("read")
        wanted = _wanted(node, session)
        if wanted is None:
            return Reading(value=None, quality=BAD_NODE_ID_UNKNOWN, source_time=0, datatype="Null")
        body = read_body([read_value_id(wanted)])
        sent = session.channel.read(body, self._server.timeout)
        return reading(Reader(1).read(await settled(sent, self._server.timeout, "read")))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise Unreachable("request", "not connected", "call connect() first")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _start_loop(self) -> None:
        """The channel must be looked after between calls, so its loop has a thread of its own."""
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="opcua-client", daemon=True)
        self._thread.start()

    def _stop_loop(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Disconnect."""
        self.disconnect()


def _wanted(node: str | OpcUaNode, session: Session) -> NodeId | None:
    """A node's id at this server, None where the server does not have its namespace."""
    if isinstance(node, str):
        return parse_node_id(node)
    index = namespace_index(node, session.namespaces)
    return None if index is None else node_id_at(node, index)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def reading(columns: Columns) -> Reading:
    """The first value of an answer in Python's own types."""
    layout = columns.layout
    code = int(layout.codes[0])
    wire = Wire.of(code)
    ticks = int(columns.ticks[0])
    picoseconds = 0 if columns.picoseconds is None else min(int(columns.picoseconds[0]), 9_999)
    source = (ticks - EPOCH_TICKS) * 100 + picoseconds // 100 if ticks > 0 else 0
    payload = columns.body[layout.value_at[0] : layout.value_end[0]]
    return Reading(
        value=None if code & IS_ARRAY else _value(wire, payload, columns),
        quality=int(columns.status[0]), source_time=source,
        datatype=wire.spelled + ("[]" if code & IS_ARRAY else ""),
    )


def _value(wire: Wire, payload: bytes, columns: Columns) -> bool | int | float | str | bytes | datetime | None:
    if wire in (Wire.NULL, Wire.EXTENSIONOBJECT, Wire.DATAVALUE, Wire.VARIANT, Wire.DIAGNOSTICINFO):
        return None
    if wire is Wire.DATETIME:
        return _datetime(struct.unpack("<q", payload)[0])
    if wire is Wire.BOOLEAN:
        return payload != b"\0"
    if wire <= Wire.DOUBLE or wire is Wire.STATUSCODE:
        number: int | float = widen(columns.words, wire)[0].item()
        return number
    return text_of(payload, wire)


def _datetime(ticks: int) -> datetime | None:
    """UTC; None for the null time and what Python's calendar does not hold."""
    try:
        return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10) if ticks > 0 else None
    except OverflowError:
        return None

