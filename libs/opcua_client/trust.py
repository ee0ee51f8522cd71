"""Whom we trust: the decision about a server's certificate, which the library would leave out.

A certificate that the server's entry names is trusted for that server alone. Else it, or a CA in its chain, must stand
in the trust folder. Without either there is no secured connection: what can't be decided is refused (OPC UA Part 4,
clause 6.1.3). What was refused is kept for a person to look at.
"""

from __future__ import annotations

import logging
import shlex
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from endpoint_config import OpcUaServer
from process_image.quality import quality_name

from opcua_client.certificates import der, load_certificate
from opcua_client.endpoints import POLICIES, Endpoint, address
from opcua_client.errors import Untrusted
from opcua_client.facts import Facts, shown
from opcua_client.qualities import BAD_CERTIFICATE_INVALID, BAD_CERTIFICATE_UNTRUSTED
from opcua_client.store import Store, read_store, reject, sent_chain
from opcua_client.validation import Problem, Rules, problems

OPERATION = "server certificate"
_log = logging.getLogger("opcua_client")


def check_server_certificate(
    server: OpcUaServer, endpoint: Endpoint, now: datetime | None = None
) -> x509.Certificate:
    """The certificate that a server offers, if it is to be trusted; Untrusted with the reason if not.

    The offered certificate is DER, perhaps a chain. Files are read again at each call. Misconfigured where the entry
    names a certificate that can't be read, or where the trust folder is not there.
    """
    try:
        sent = sent_chain(endpoint.certificate)
    except ValueError as error:
        raise Untrusted(OPERATION, f"the server offers none that can be read ({shown(str(error))})",
                        "look into the server's configuration", quality=BAD_CERTIFICATE_INVALID) from error
    pinned = server.server_certificate is not None
    _check_pinned(server, sent[0], endpoint)
    store = _store(server, pinned=pinned)
    rules = Rules(policy=POLICIES.get(server.security_policy, ""), host=address(server.url)[0],
                  application_uri=endpoint.application_uri, now=now or datetime.now(UTC), pinned=pinned)
    found = list(problems(sent, store, rules))
    waived = {problem.waiver for problem in found if problem.waiver and getattr(server, problem.waiver)}
    for problem in found:
        if problem.waiver in waived:
            _log.warning("%s: %s: %s: %s, and %s waives that", server.alias, OPERATION, quality_name(problem.quality),
                         problem.what, problem.waiver)
    left = [problem for problem in found if problem.waiver not in waived]
    if left:
        raise _refusal(server, endpoint, left)
    return sent[0].certificate


def _store(server: OpcUaServer, *, pinned: bool) -> Store:
    """The trust folder as it is now; a certificate that the entry names needs none."""
    folder = server.pki
    if folder is None:
        if pinned:
            return Store(folder=Path())
        raise Untrusted(OPERATION, "the entry names neither server_certificate nor trust_folder",
                        "name the server's certificate, or a trust folder that holds it",
                        quality=BAD_CERTIFICATE_UNTRUSTED)
    if pinned and not (folder / "trusted" / "certs").is_dir():
        return Store(folder=folder)
    return read_store(folder)


def _check_pinned(server: OpcUaServer, offered: Facts, endpoint: Endpoint) -> None:
    """The certificate that the entry names is trusted, and no other."""
    if server.server_certificate is None or der(load_certificate(server.server_certificate)) == offered.der:
        return
    raise _refusal(server, endpoint, [Problem(
        quality=BAD_CERTIFICATE_UNTRUSTED, what=f"{offered} is not the one in {server.server_certificate}",
        advice="if the server has got a new one, put it into that file")])


def _refusal(server: OpcUaServer, endpoint: Endpoint, found: list[Problem]) -> Untrusted:
    """The first problem as error, the others named; the certificate is kept with it."""
    first, *others = found
    also = "".join(f"; also {quality_name(problem.quality)}" for problem in others[:3])
    advice = first.advice
    if server.pki is not None:
        reject(server.pki, endpoint.certificate, server=server.alias, url=server.url,
               why="; ".join(f"{quality_name(problem.quality)}: {problem.what}" for problem in found))
        if "cpc certs" in advice:
            advice += f" --pki {shlex.quote(str(server.pki))}"
    return Untrusted(OPERATION, first.what + also, advice, quality=first.quality)
