"""The one owner of reconnection: a new channel for every attempt, one session at a time, closed when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Protocol

from acquisition import Backoff, DeviceStatus
from endpoint_config import OpcUaServer

from opcua_client.channel import Channel
from opcua_client.encoding import parse_node_id, read_body, read_value_id
from opcua_client.errors import OpcUaError, Silent, Unanswered, Unreachable
from opcua_client.session import CLOSE_SECONDS, Session, greet, open_session

QUICK_PAUSE = 0.5
"""Longest pause (s) after a TCP connection that did not come about: one SYN costs the server nothing."""
FIRST_SPACING, LONGEST_SPACING = 0.25, 2.0
"""Seconds from one session's begin to the next one's, growing while sessions are short: never a session flood."""
SHORT_SESSION = 5.0
"""Seconds; a session that lasts longer is no sign of a fault."""
SETTLED = 60.0
"""Seconds after which a session is no sequel of the one before."""
RENEW_AT = 0.75
"""Part of the channel token's lifetime after which it is renewed (Part 4, clause 5.5.2.1)."""
KEEP_ALIVE_AT = 1 / 3
"""Part of the session's timeout without a request after which a small one is sent."""
LOOK = 1.0
"""Longest time in seconds between two looks at timers while a session is up."""
SERVER_STATE = "i=2259"
QUICK_CONNECT = 0.5
"""Seconds for most TCP connections: a new SYN finds a host that came up sooner than the kernel's repeated ones."""
PATIENT_EVERY = 8
"""One attempt of so many waits for the whole timeout, for lines with a longer way."""
GRACE = 0.3
"""Seconds in which a server that greets a second connection must answer on the first, too."""
OPINION_PAUSE = 0.25
"""Seconds between two second connections that were not greeted."""

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
        self._attempts = 0
        self._trust = server.timeout
        """Seconds without any answer after which the server is asked by a second connection whether it lives; longer
        after each session that ended so, because a server may be that slow."""
        self._last_answer = 0.0
        self.waiting_since = 0.0
        """Monotonic time at which the oldest unanswered request was sent, 0 = none."""

    def note_sent(self) -> None:
        """A request went out: the session needs no other sign of life."""
        self._last_sent = time.monotonic()

    def note_answered(self) -> None:
        """Something was answered: server and connection are alive."""
        self._last_answer = time.monotonic()

    def _silent_for(self) -> float:
        """Seconds since the server has answered nothing at all though something was asked."""
        if not self.waiting_since:
            return 0.0
        return time.monotonic() - max(self.waiting_since, self._last_answer)

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
            self._attempts = 0
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
            if isinstance(end, Unanswered):
                session.channel.leave()
            self._tell(end)
        finally:
            await _close(session, CLOSE_SECONDS if polite else 0.0)

    async def _establish(self) -> Session:
        """One attempt; after `timeout` it is told as unanswered, and still gets the whole patience."""
        self._attempts += 1
        connect = self._server.timeout
        if self._attempts % PATIENT_EVERY:
            connect = min(connect, QUICK_CONNECT)
        attempt = asyncio.ensure_future(
            open_session(self._server, connect_timeout=connect, patience=self._patience)
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
        """Hold the next session off while sessions break soon after they began, unless because the server went down."""
        lived = time.monotonic() - self._began
        if lived >= SHORT_SESSION or await self._is_down():
            self._short = 0
            return
        self._short += 1
        spacing = min(FIRST_SPACING * 1.5**self._short, LONGEST_SPACING)
        await asyncio.sleep(max(self._began + spacing - time.monotonic(), 0.0))

    async def _is_down(self) -> bool:
        """Whether nobody greets at the server: it restarts, and ends no sessions out of spite.

        A listener outlives its killed process by a moment, so that a connection alone says nothing.
        """
        patience = min(self._server.timeout, QUICK_CONNECT)
        try:
            await greet(self._server, patience, patience)
        except Unreachable:
            return True
        except OpcUaError:
            return False
        return False

    async def _watch(self, session: Session) -> OpcUaError:
        """Look after a session until it ends; the reason is returned."""
        channel = session.channel
        self._fatal = asyncio.get_running_loop().create_future()
        self.waiting_since = 0.0
        self.note_sent()
        self._told = ""
        _log.info("%s: session open", self._server.alias)
        self._status.note_connected(True)
        self._listener.session_up(session)
        tasks = [asyncio.ensure_future(self._upkeep(channel)), asyncio.ensure_future(self._silence())]
        try:
            await asyncio.wait({channel.lost, self._fatal, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if self._fatal.done():
                return self._fatal.result()
            if channel.lost.done():
                return Unreachable("session", "the connection was lost", "it is opened again")
            return next(task.result() for task in tasks if task.done())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _upkeep(self, channel: Channel) -> OpcUaError:
        """Renew the channel and send signs of life until one of them fails; the reason is returned."""
        renew_at = time.monotonic() + channel.channel_seconds * RENEW_AT
        alive = read_body([read_value_id(parse_node_id(SERVER_STATE))])
        while True:
            await asyncio.sleep(min(LOOK, max(renew_at - time.monotonic(), 0.0)))
            now = time.monotonic()
            try:
                if now >= renew_at:
                    await channel.renew()
                    renew_at = time.monotonic() + channel.channel_seconds * RENEW_AT
                if now - self._last_sent > channel.session_seconds * KEEP_ALIVE_AT:
                    self.note_sent()
                    channel.read(alive, self._server.timeout)
            except OpcUaError as error:
                return error

    async def _silence(self) -> OpcUaError:
        """Wait until nothing is answered any more on this connection, for long or though the server is alive.

        A server that hangs is waited for on the session that it has: it goes on where it stopped. A connection that
        something on the way has lost would be waited for in vain, so a second one is tried, which takes no session.
        """
        while True:
            await asyncio.sleep(min(LOOK, self._trust / 4))
            if time.monotonic() - self._began > SETTLED:
                self._trust = self._server.timeout
            silent = self._silent_for()
            if silent > self._patience:
                return Unanswered("read", f"no answer for {self._patience:g} s", "the server may hang")
            if silent > self._trust and await self._greeted() and self._silent_for() > self._trust:
                self._trust = min(self._trust * 2, self._patience)
                return Silent("read", "this connection is dead, the server is alive", "it is opened again")

    async def _greeted(self) -> bool:
        """Whether the server greets another connection; it then has GRACE seconds to answer on the first."""
        try:
            await greet(self._server, min(self._server.timeout, QUICK_CONNECT), self._server.timeout)
        except OpcUaError:
            await asyncio.sleep(OPINION_PAUSE)
            return False
        await asyncio.sleep(GRACE)
        return True

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


