"""The steps that decide about a certificate, in the order and with the codes of OPC UA Part 4, clause 6.1.3.

Nothing here reads a file or a clock, and nothing decides what is waived: `problems` says all that is wrong, the first
one first in the order of the standard, each with what an engineer can do about it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography.x509.oid import ExtendedKeyUsageOID

from opcua_client import qualities
from opcua_client.facts import LONGEST_CHAIN, Facts, shown
from opcua_client.name_constraints import violation
from opcua_client.revocation import look_up
from opcua_client.store import Store

KEY_LENGTHS: dict[str, tuple[int, int]] = {
    "Basic128Rsa15": (1024, 2048), "Basic256": (1024, 2048),
    "Basic256Sha256": (2048, 4096), "Aes128_Sha256_RsaOaep": (2048, 4096), "Aes256_Sha256_RsaPss": (2048, 4096),
}
"""Least and most bits of RSA by policy (Part 7, the policies' own clauses)."""
SHA2 = frozenset(["sha256", "sha384", "sha512"])
"""Hashes of a signature on a certificate that the current policies take."""
OLD_HASHES = SHA2 | {"sha1"}
"""Those that the deprecated policies take as well."""
APPLICATION_USES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
"""Key usage of an application's certificate (Part 6, clause 6.2.2)."""
_NEW = "give the server a new certificate, RSA 2048 with SHA-256"
_USE_NAMES = {"content_commitment": "nonRepudiation", "digital_signature": "digitalSignature",
              "key_encipherment": "keyEncipherment", "data_encipherment": "dataEncipherment"}
HOST, DATES, REVOCATION = "waive_host_name", "waive_dates", "waive_revocation_list"
"""Elements of an endpoint file that waive a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One step that a certificate does not pass."""

    quality: int
    what: str
    advice: str
    waiver: str = ""
    """Element that waives it, empty where nothing does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a certificate is held against."""

    policy: str
    """Short name of the security policy."""
    host: str
    """Host that the client connects to."""
    application_uri: str
    """What the server calls itself."""
    now: datetime
    pinned: bool = False
    """Whether the entry names this very certificate: trusted, for whatever host, with or without its CA."""


def problems(sent: Sequence[Facts], store: Store, rules: Rules) -> Iterator[Problem]:
    """All that is wrong with the first certificate of `sent`; the others that came with it help to follow the chain."""
    leaf = sent[0]
    known = [*(f.facts for f in store.trusted), *(f.facts for f in store.issuers), *sent[1:]]
    known.sort(key=lambda facts: not facts.begin <= rules.now <= facts.end)  # a CA that got a new certificate has two
    chain, broken = build_chain(leaf, known, store.trusts)
    if broken is not None and not (rules.pinned and broken.quality == qualities.BAD_CERTIFICATE_CHAIN_INCOMPLETE):
        yield broken
    judged = chain[:1] if rules.pinned else chain
    yield from _policy(judged, rules)
    if not rules.pinned and not any(store.trusts(facts) for facts in chain):
        yield _untrusted(chain)
    yield from _dates(judged, rules.now)
    if not rules.pinned:
        yield from _host(leaf, rules.host)
    yield from _uri(leaf, rules.application_uri)
    yield from _usage(judged)
    yield from _revocation(chain, store, rules)


def build_chain(leaf: Facts, known: Sequence[Facts], trusts: Callable[[Facts], bool] = lambda _: True
                ) -> tuple[list[Facts], Problem | None]:
    """The certificate and its issuers up to a self-signed one, and what is wrong with that.

    Of several chains the first is taken in which somebody is trusted, else the first that leads to a root. Broken
    chains are given as far as they go.
    """
    best: list[Facts] = [leaf]
    whole: list[Facts] = []
    forged: Facts | None = None
    waiting, seen = [[leaf]], {leaf.der}
    while waiting:
        chain = waiting.pop()
        last = chain[-1]
        if len(chain) > len(best):
            best = chain
        if last.self_issued and (last.signed_by(last) or not last.checkable):  # a root's own signature proves nothing
            if any(trusts(facts) for facts in chain):
                return chain, None
            whole = whole or chain
            continue
        if len(chain) > LONGEST_CHAIN:
            continue
        named = [f for f in known if f.subject == last.issuer and f.der not in seen]
        real = [f for f in named if last.signed_by(f)]
        seen.update(f.der for f in real)  # each is followed once, however many of them sign each other
        if (named or last.self_issued) and not real:
            forged = forged or last
        waiting += [[*chain, f] for f in reversed(real)]
    if whole:
        return whole, None
    if forged is not None and not forged.checkable:
        return best, Problem(
            quality=qualities.BAD_CERTIFICATE_POLICY_CHECK_FAILED, advice=_NEW,
            what=f"{forged} is signed with {forged.hash_name or 'an unknown hash'}, which proves nothing")
    if forged is not None:
        return best, Problem(
            quality=qualities.BAD_CERTIFICATE_INVALID, what=f"the signature on {forged} is wrong",
            advice="somebody may have changed it; get the certificate anew from its maker")
    issuer = shown(best[-1].issuer.rfc4514_string())
    return best, Problem(
        quality=qualities.BAD_CERTIFICATE_CHAIN_INCOMPLETE, what=f"the CA ({issuer}) that issued {best[-1]} is unknown",
        advice="get the CA's certificate: cpc certs trust CA.der, with --issuer if not all that it issued is trusted")


def _policy(chain: Sequence[Facts], rules: Rules) -> Iterator[Problem]:
    least, most = KEY_LENGTHS.get(rules.policy, (2048, 4096))
    hashes = OLD_HASHES if least < 2048 else SHA2
    for place, facts in enumerate(chain):
        if place == 0 and facts.key_bits == 0:
            what = "its key is no RSA key"
        elif place == 0 and not least <= facts.key_bits <= most:
            what = f"its key has {facts.key_bits} bits, {rules.policy} takes {least} bits to {most} bits"
        elif place and 0 < facts.key_bits < least:
            what = f"the key of its issuer {facts} has {facts.key_bits} bits, {rules.policy} takes {least} and more"
        elif facts.hash_name not in hashes and (place == 0 or not facts.self_issued):
            what = f"{facts} is signed with {facts.hash_name or 'an unknown hash'}, {rules.policy} takes " \
                   f"{', '.join(sorted(hashes))}"
        else:
            continue
        yield Problem(quality=qualities.BAD_CERTIFICATE_POLICY_CHECK_FAILED, what=what,
                      advice=_NEW)


def _untrusted(chain: Sequence[Facts]) -> Problem:
    leaf = chain[0]
    how = "self-signed" if leaf.self_issued else f"issued by {chain[-1].name}"
    return Problem(quality=qualities.BAD_CERTIFICATE_UNTRUSTED, what=f"{leaf}, {how}, is not in trusted/certs",
                   advice=f"compare it with the device's, then cpc certs trust {leaf.thumbprint[:12]}")


def _dates(chain: Sequence[Facts], now: datetime) -> Iterator[Problem]:
    for place, facts in enumerate(chain):
        if now > facts.end:
            what = f"{facts} expired on {facts.end:%Y-%m-%d}"
        elif now < facts.begin:
            what = f"{facts} is not valid before {facts.begin:%Y-%m-%d %H:%M} UTC"
        else:
            continue
        quality = qualities.BAD_CERTIFICATE_ISSUER_TIME_INVALID if place else qualities.BAD_CERTIFICATE_TIME_INVALID
        yield Problem(quality=quality, what=what, advice="renew it, and check the clocks of both sides", waiver=DATES)


def _host(leaf: Facts, host: str) -> Iterator[Problem]:
    if any(same_host(host, name) for name in leaf.hosts):
        return
    names = ", ".join(shown(name) for name in leaf.hosts[:4]) or "no host"
    if any("*" in name for name in leaf.hosts):
        names += " (a * stands for no host in OPC UA)"
    yield Problem(quality=qualities.BAD_CERTIFICATE_HOST_NAME_INVALID, waiver=HOST,
                  what=f"{leaf} is for {names} and not for {shown(host)}",
                  advice="connect by a name that stands in it, or say waive_host_name in the entry")


def same_host(one: str, other: str) -> bool:
    """Whether two host names or addresses are the same, in whatever spelling; there are no wildcards."""
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return _spelled(one) == _spelled(other)


def _spelled(host: str) -> str:
    """A host name as certificates have it, whose letters are ASCII (RFC 5280, clause 7.2)."""
    plain = host.rstrip(".").casefold()
    try:
        return plain if plain.isascii() else plain.encode("idna").decode()
    except UnicodeError:
        return plain


def _uri(leaf: Facts, application_uri: str) -> Iterator[Problem]:
    """The certificate must be this application's own; the first URI is the application's (Part 6, clause 6.2.2)."""
    if application_uri and application_uri in leaf.uris:
        return
    uris = ", ".join(shown(uri) for uri in leaf.uris[:3]) or "no application"
    yield Problem(quality=qualities.BAD_CERTIFICATE_URI_INVALID,
                  what=f"{leaf} is for {uris}, the server calls itself {shown(application_uri) or 'nothing'}",
                  advice="give the server a certificate with its own application URI")


def _usage(chain: Sequence[Facts]) -> Iterator[Problem]:
    leaf, issuers = chain[0], chain[1:]
    what = _leaf_misuse(leaf)
    if what:
        yield Problem(quality=qualities.BAD_CERTIFICATE_USE_NOT_ALLOWED, what=f"{leaf} {what}",
                      advice="give the server an application certificate of OPC UA")
    for below, facts in enumerate(issuers):
        what = _issuer_misuse(facts, below)
        if what:
            yield Problem(quality=qualities.BAD_CERTIFICATE_ISSUER_USE_NOT_ALLOWED, what=f"the issuer {facts} {what}",
                          advice="have the certificate issued by a real CA")
    broken = violation(chain)
    if broken is not None:
        yield Problem(quality=qualities.BAD_CERTIFICATE_ISSUER_USE_NOT_ALLOWED,
                      what=f"the issuer {broken[0]} {broken[1]}",
                      advice="have the certificate issued for names that this CA may issue for, or by another CA")


def _leaf_misuse(leaf: Facts) -> str:
    if leaf.strange:
        return f"has a critical extension that is not known here ({leaf.strange[0]})"
    if leaf.is_ca and not leaf.self_issued:
        return "is the certificate of a CA"
    lacking = [_USE_NAMES[use] for use in APPLICATION_USES if leaf.uses is not None and use not in leaf.uses]
    if lacking:
        return f"may not be used for {', '.join(lacking)}"
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH.dotted_string, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string}
    return "is no server's (extended key usage)" if leaf.purposes is not None and not wanted & leaf.purposes else ""


def _issuer_misuse(facts: Facts, below: int) -> str:
    """`below` is the number of CAs between this one and the certificate."""
    if facts.strange:
        return f"has a critical extension that is not known here ({facts.strange[0]})"
    if not facts.is_ca or (facts.uses is not None and "key_cert_sign" not in facts.uses):
        return "is no CA's certificate"
    if facts.path_length is not None and below > facts.path_length:
        return f"allows {facts.path_length} CAs below it, there are {below}"
    return ""


def _revocation(chain: Sequence[Facts], store: Store, rules: Rules) -> Iterator[Problem]:
    """Each certificate below a CA: is there a list of that CA, and does it stand there? A root has no list."""
    for place, (facts, issuer) in enumerate(itertools.pairwise(chain)):
        verdict = look_up(facts, issuer, store.crls, rules.now)
        if verdict.revoked:
            quality = qualities.BAD_CERTIFICATE_ISSUER_REVOKED if place else qualities.BAD_CERTIFICATE_REVOKED
            yield Problem(quality=quality, what=f"{facts} was revoked by {issuer.name} {verdict.why}",
                          advice="never trust it again; give the server a new certificate")
        elif not verdict.known and not rules.pinned:
            quality = (qualities.BAD_CERTIFICATE_ISSUER_REVOCATION_UNKNOWN if place
                       else qualities.BAD_CERTIFICATE_REVOCATION_UNKNOWN)
            yield Problem(quality=quality, waiver=REVOCATION,
                          what=f"whether {issuer.name} revoked {facts} is unknown: {verdict.why}",
                          advice="get its current list: cpc certs trust CA.crl, or say waive_revocation_list")
