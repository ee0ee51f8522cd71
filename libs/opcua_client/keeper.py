"""The one owner of reconnection: a new channel for every attempt, one session at a time, closed when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from acquisition import Backoff, DeviceStatus
from endpoint_config import OpcUaServer

from opcua_client.encoding import parse_node_id, read_body, read_value_id
from opcua_client.errors import OpcUaError, Unanswered, Unreachable
from opcua_client.session import CLOSE_SECONDS, Session, open_session

QUICK_PAUSE = 0.5
"""Longest pause (s) after a TCP connection that did not come about: one SYN costs the server nothing."""
FIRST_SPACING, LONGEST_SPACING = 0.25, 2.0
"""Seconds from one session's begin to the next one's, growing while sessions are short: never a session flood."""
SHORT_SESSION = 5.0
"""Seconds; a session that lasts longer is no sign of a fault."""
RENEW_AT = 0.75
"""Part of the channel token's lifetime after which it is renewed (Part 4, clause 5.5.2.1)."""
KEEP_ALIVE_AT = 1 / 3
"""Part of the session's timeout without a request after which a small one is sent."""
LOOK = 1.0
"""Longest time in seconds between two looks at timers while a session is up."""
SERVER_STATE = "i=2259"

_log = logging.getLogger("opcua_client")


class Listener(Protocol):
    """Who is told about sessions."""

    def session_up(self, session: Session) -> None:
        """A session can be read."""

    def session_down(self, error: OpcUaError) -> None:
        """There is none, because of `error`; told again when the reason changes."""


class Keeper:
    """Keeps one server's session."""

    def __init__(self, server: OpcUaServer, status: DeviceStatus, listener: Listener, *,
                 quick_pause: float = QUICK_PAUSE) -> None:
        """`quick_pause` may be longer where very many servers are polled."""
        self._server = server
        self._status = status
        self._listener = listener
        self._quick = Backoff(min(quick_pause, server.retry_interval))
        self._slow = Backoff(server.retry_interval)
        self._patience = max(server.timeout, server.retry_interval)
        self._fatal: asyncio.Future[OpcUaError] | None = None
        self._last_sent = 0.0
        self._short = 0
        self._told = ""
        self._began = 0.0
        self.waiting_since = 0.0
        """Monotonic time at which the oldest unanswered request was sent, 0 = none."""

    def note_sent(self) -> None:
        """A request went out: the session needs no other sign of life."""
        self._last_sent = time.monotonic()

    def give_up(self, error: OpcUaError) -> None:
        """The session can't go on, says who uses it."""
        if self._fatal is not None and not self._fatal.done():
            self._fatal.set_result(error)

    async def run(self) -> None:
        """Keep a session until cancelled."""
        while True:
            try:
                session = await self._establish()
            except OpcUaError as error:
                await self._failed(error)
                continue
            self._began = time.monotonic()
            self._quick.reset()
            self._slow.reset()
            await self._use(session)
            await self._space()

    async def _use(self, session: Session) -> None:
        """Look after a session until it ends, and close it; politely where somebody can hear it."""
        polite = True
        try:
            end = await self._watch(session)
            polite = not isinstance(end, (Unreachable, Unanswered))
            self._tell(end)
        finally:
            await _close(session, CLOSE_SECONDS if polite else 0.0)

    async def _establish(self) -> Session:
        """One attempt; after `timeout` it is told as unanswered, and still gets the whole patience."""
        attempt = asyncio.ensure_future(
            open_session(self._server, connect_timeout=self._server.timeout, patience=self._patience)
        )
        try:
            done, _ = await asyncio.wait({attempt}, timeout=self._server.timeout)
            if not done:
                error = Unanswered("connect", "the server does not answer", "it may hang, or be another kind of server")
                self._tell(error)
            return await attempt
        except asyncio.CancelledError:
            attempt.cancel()
            raise

    async def _failed(self, error: OpcUaError) -> None:
        self._tell(error)
        quick = isinstance(error, Unanswered) or (isinstance(error, Unreachable) and error.operation == "connect")
        await asyncio.sleep((self._quick if quick else self._slow).pause())

    async def _space(self) -> None:
        """Hold the next session off while sessions break soon after they began."""
        lived = time.monotonic() - self._began
        self._short = self._short + 1 if lived < SHORT_SESSION else 0
        spacing = min(FIRST_SPACING * 1.5**self._short, LONGEST_SPACING) if self._short else 0.0
        await asyncio.sleep(max(spacing - lived, 0.0))

    async def _watch(self, session: Session) -> OpcUaError:
        """Look after a session until it ends; the reason is returned."""
        channel = session.channel
        self._fatal = asyncio.get_running_loop().create_future()
        self.waiting_since = 0.0
        self.note_sent()
        renew_at = time.monotonic() + channel.channel_seconds * RENEW_AT
        alive = read_body([read_value_id(parse_node_id(SERVER_STATE))])
        self._told = ""
        _log.info("%s: session open", self._server.alias)
        self._status.note_connected(True)
        self._listener.session_up(session)
        while True:
            look = min(LOOK, max(renew_at - time.monotonic(), 0.0))
            await asyncio.wait({channel.lost, self._fatal}, timeout=look, return_when=asyncio.FIRST_COMPLETED)
            now = time.monotonic()
            if self._fatal.done():
                return self._fatal.result()
            if channel.lost.done():
                return Unreachable("session", "the connection was lost", "it is opened again")
            if self.waiting_since and now - self.waiting_since > self._patience:
                return Unanswered("read", f"no answer for {self._patience:g} s", "the server may hang")
            try:
                if now >= renew_at:
                    await channel.renew()
                    renew_at = time.monotonic() + channel.channel_seconds * RENEW_AT
                if now - self._last_sent > channel.session_seconds * KEEP_ALIVE_AT:
                    self.note_sent()
                    channel.read(alive, self._server.timeout)
            except OpcUaError as error:
                return error

    def _tell(self, error: OpcUaError) -> None:
        """There is no session, and this is why; logged when it is news."""
        text = f"{self._server.alias}: {error}"
        if text != self._told:
            self._told = text
            _log.warning("%s", text)
        self._status.note_failure(text, connected=False)
        self._listener.session_down(error)


async def _close(session: Session, seconds: float) -> None:
    """Close without letting a second cancellation leave the socket open."""
    try:
        if seconds > 0:
            await session.close(seconds)
    finally:
        session.channel.abort()


