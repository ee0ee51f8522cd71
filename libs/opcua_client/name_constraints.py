"""Which names a CA may issue certificates for (RFC 5280, clauses 4.2.1.10 and 6.1.3 b and c).

A CA of a company is often limited to its own domains, networks or directory. Such limits hold for every certificate
below the CA, whether its extension is marked critical or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from opcua_client.facts import UNREADABLE, Facts, shown

_SUPPORTED = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier, x509.DirectoryName)


def violation(chain: Sequence[Facts]) -> tuple[Facts, str] | None:
    """The CA whose limits a certificate below it breaks, and how; None where all are kept. The leaf is the first."""
    for place in range(1, len(chain)):
        try:
            limits = chain[place].certificate.extensions.get_extension_for_oid(ExtensionOID.NAME_CONSTRAINTS).value
        except x509.ExtensionNotFound:
            continue
        if not isinstance(limits, x509.NameConstraints):
            continue
        for below in range(place):
            if below and chain[below].self_issued:  # a CA that renews its key (clause 6.1.3)
                continue
            what = _broken(limits, chain[below])
            if what:
                return chain[place], f"{what} of {chain[below]}"
    return None


def _broken(limits: x509.NameConstraints, facts: Facts) -> str:
    for name in _names(facts):
        outer = [n for n in limits.permitted_subtrees or () if type(n) is type(name)]
        excluded = [n for n in limits.excluded_subtrees or () if type(n) is type(name)]
        if not outer and not excluded:
            continue
        text = shown(_text(name))
        if not isinstance(name, _SUPPORTED) or (isinstance(name, x509.UniformResourceIdentifier) and not _host(name)):
            return f"limits names such as {text}, which can't be held against the limits,"
        if any(_within(name, limit) for limit in excluded):
            return f"excludes the name {text}"
        if outer and not any(_within(name, limit) for limit in outer):
            return f"does not allow the name {text}"
    return ""


def _names(facts: Facts) -> Iterable[x509.GeneralName]:
    """The alternative names, and the subject as a name of the directory."""
    try:
        found = facts.certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        found = None
    yield from found if isinstance(found, x509.SubjectAlternativeName) else ()
    if list(facts.subject):
        yield x509.DirectoryName(facts.subject)


def _text(name: x509.GeneralName) -> str:
    value = name.value
    return value.rfc4514_string() if isinstance(value, x509.Name) else str(value)


def _host(name: x509.GeneralName) -> str:
    """Host of a URI; a URN has none."""
    try:
        return (urlsplit(str(name.value)).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _within(name: x509.GeneralName, limit: x509.GeneralName) -> bool:
    try:
        if isinstance(name, x509.DirectoryName):
            wanted = _rdns(limit.value)
            return _rdns(name.value)[: len(wanted)] == wanted
        if isinstance(name, x509.IPAddress):
            return ip_address(str(name.value)) in ip_network(str(limit.value))
        if isinstance(name, x509.UniformResourceIdentifier):
            return _host_within(_host(name), str(limit.value))
        domain = str(limit.value).casefold().strip(".")
        host = str(name.value).casefold().rstrip(".")
        return not domain or host == domain or host.endswith("." + domain)
    except UNREADABLE:
        return False


def _rdns(name: x509.Name) -> list[frozenset[tuple[str, str]]]:
    """A name of the directory, case and spaces of no account (clause 7.1)."""
    return [frozenset((a.oid.dotted_string, " ".join(str(a.value).casefold().split())) for a in rdn)
            for rdn in name.rdns]


def _host_within(host: str, limit: str) -> bool:
    """Of a URI: a domain with a dot before it stands for its hosts, without one for itself alone."""
    limit = limit.casefold()
    return host.endswith(limit) if limit.startswith(".") else host == limit
