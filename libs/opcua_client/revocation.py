"""Whether a CA has taken a certificate back, by its signed revocation lists (RFC 5280, clause 6.3; no network)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtensionOID

from opcua_client.facts import UNREADABLE, Facts
from opcua_client.store import FoundList

_BROKEN_HASHES = frozenset(["md2", "md4", "md5", "sha1"])
_HARMLESS = frozenset([ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER])
_PARTIAL = "is a delta or a partial list; a complete one is needed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What the lists say of one certificate."""

    revoked: bool
    known: bool
    """Whether there is a list that can be relied on."""
    why: str = ""
    """Why there is none, or since when it is revoked."""


def look_up(certificate: Facts, issuer: Facts, lists: Iterable[FoundList], now: datetime) -> Verdict:
    """Look for a certificate in its issuer's lists.

    A list counts when the issuer may sign lists and has signed this one, when it is of today, and when it is complete
    (no delta, no part). One that has run out still revokes, but it does not clear anybody; nor does a part that a
    careless CA does not mark as critical.
    """
    why, known = "there is no revocation list of it in trusted/crl or issuers/crl", False
    for found in lists:
        try:
            if found.crl.issuer != issuer.subject:
                continue
            fault = _fault(found.crl, issuer, certificate)
            if fault:
                why = f"{found.path.name} {fault}"
                continue
            entry = found.crl.get_revoked_certificate_by_serial_number(certificate.serial)
            if entry is not None:
                return Verdict(revoked=True, known=True, why=f"since {entry.revocation_date_utc:%Y-%m-%d}")
            late = _out_of_date(found.crl, now) or _part(found.crl, certificate)
        except UNREADABLE as error:
            why = f"{found.path.name} can't be read ({type(error).__name__})"
            continue
        if late:
            why = f"{found.path.name} {late}"
        known = known or not late
    return Verdict(revoked=False, known=known, why="" if known else why)


def _fault(crl: x509.CertificateRevocationList, issuer: Facts, certificate: Facts) -> str:
    """Why a list does not count at all for a certificate, empty where it does."""
    if issuer.uses is not None and "crl_sign" not in issuer.uses:
        return f"counts for nothing: {issuer.name} may not sign lists"
    if any(extension.critical and extension.oid not in _HARMLESS and not _covers(extension.value, certificate)
           for extension in crl.extensions):
        return _PARTIAL
    algorithm = crl.signature_hash_algorithm
    if algorithm is None or algorithm.name in _BROKEN_HASHES:
        name = algorithm.name if algorithm is not None else "an unknown hash"
        return f"is signed with {name}, which proves nothing; the CA must sign its lists with SHA-256"
    try:
        genuine = crl.is_signature_valid(issuer.certificate.public_key())  # type: ignore[arg-type]
    except InvalidSignature:
        genuine = False
    return "" if genuine else f"is not signed by {issuer.name}"


def _part(crl: x509.CertificateRevocationList, certificate: Facts) -> str:
    """Whether a list leaves something out, for all that it does not say so as critically as it must (clause 5.2)."""
    narrowing = (x509.DeltaCRLIndicator, x509.IssuingDistributionPoint)
    out = any(isinstance(e.value, narrowing) and not _covers(e.value, certificate) for e in crl.extensions)
    return _PARTIAL if out else ""


def _covers(extension: object, certificate: Facts) -> bool:
    """Whether a list that is for some certificates is for this one (RFC 5280, clauses 5.2.5 and 6.3.3)."""
    if not isinstance(extension, x509.IssuingDistributionPoint):
        return False
    if (extension.indirect_crl or extension.only_contains_attribute_certs or extension.only_some_reasons
            or extension.relative_name):
        return False
    if (extension.only_contains_user_certs and certificate.is_ca) or (
            extension.only_contains_ca_certs and not certificate.is_ca):
        return False
    if not extension.full_name:
        return True
    try:
        points = certificate.certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return False
    named = {name for point in points for name in point.full_name or ()}
    return bool(named & set(extension.full_name))


def _out_of_date(crl: x509.CertificateRevocationList, now: datetime) -> str:
    end = crl.next_update_utc
    if crl.last_update_utc > now:
        return f"begins only on {crl.last_update_utc:%Y-%m-%d %H:%M} UTC"
    if end is not None and end < now:
        return f"ran out on {end:%Y-%m-%d}"
    return ""
