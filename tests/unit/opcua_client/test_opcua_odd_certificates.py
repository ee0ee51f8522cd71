"""Certificates as company CAs, old devices and attackers make them: limits, old hashes, renewals, partial lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from opcua_client.facts import read_facts
from opcua_client.store import Found, FoundList, Store, parse_crl
from opcua_client.validation import Problem, Rules, problems, same_host
from opcua_pki import URI, Made, authority, crl, make, resigned
from process_image.quality import quality_name

RULES = Rules(policy="Basic256Sha256", host="127.0.0.1", application_uri=URI, now=datetime.now(UTC))
DNS, URL = x509.DNSName, x509.UniformResourceIdentifier


def store(trusted: Sequence[bytes], issuers: Sequence[bytes] = (), crls: Sequence[bytes] = ()) -> Store:
    def found(ders: Sequence[bytes]) -> tuple[Found, ...]:
        return tuple(Found(path=Path(str(i)), facts=read_facts(der)) for i, der in enumerate(ders))

    lists = tuple(FoundList(path=Path(f"{i}.crl"), crl=parse_crl(one)) for i, one in enumerate(crls))
    return Store(folder=Path(), trusted=found(trusted), issuers=found(issuers), crls=lists)


def judged(leaf: bytes, held: Store, **rules: object) -> list[Problem]:
    return list(problems([read_facts(leaf)], held, replace(RULES, **rules)))  # type: ignore[arg-type]


def names(found: Sequence[Problem]) -> list[str]:
    return [quality_name(problem.quality) for problem in found]


def limited(permitted: Sequence[x509.GeneralName] = (), excluded: Sequence[x509.GeneralName] = (), *,
            critical: bool = True) -> Made:
    limits = x509.NameConstraints(list(permitted) or None, list(excluded) or None)
    return authority("Root", extensions=[(limits, critical)])


def directory(*organisations: str) -> x509.DirectoryName:
    return x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organisations]))


NETWORK = x509.IPAddress(ip_network("127.0.0.0/8"))
OTHER = x509.IPAddress(ip_network("10.0.0.0/8"))
LIMITS = {
    "its network": (([NETWORK], []), ""),
    "another network": (([OTHER], []), "does not allow the name 127.0.0.1 of PLC"),
    "its network excluded": (([], [NETWORK]), "excludes the name 127.0.0.1 of PLC"),
    "its domain": (([DNS("plant.local"), NETWORK], []), ""),
    "another domain": (([DNS("office.local")], []), "does not allow the name plc.plant.local"),
    "a domain that only ends alike": (([DNS("ant.local")], []), "does not allow the name plc.plant.local"),
    "excluded in another spelling": (([], [DNS("PLANT.local")]), "excludes the name plc.plant.local"),
    "its URIs": (([URL(".plant.local")], []), "names such as urn:cpc:test:server, which can't be held"),
    "people's addresses": (([x509.RFC822Name("plant.local")], []), ""),
    "another directory": (([directory("Others")], []), "does not allow the name"),
    "its directory excluded": (([], [directory("other"), x509.DirectoryName(x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, "plc")]))]), "excludes the name"),
}


@pytest.mark.parametrize("critical", [True, False], ids=["critical", "not critical"])
@pytest.mark.parametrize("case", LIMITS)
def test_a_ca_issues_for_the_names_alone_that_it_may_issue_for(case: str, critical: bool) -> None:
    (permitted, excluded), says = LIMITS[case]
    root = limited(permitted, excluded, critical=critical)
    leaf = make("PLC", root, hosts=["127.0.0.1", "plc.plant.local"])
    found = judged(leaf.der, store([root.der], crls=[crl(root)]))
    assert names(found) == (["BadCertificateIssuerUseNotAllowed"] if says else [])
    assert not says or says in found[0].what
    assert not says or "by another CA" in found[0].advice


def test_a_dot_at_the_end_of_a_uris_host_leads_around_no_limit() -> None:
    root, uri = limited(excluded=[URL(".plant.local")]), "https://plc.plant.local./server"
    found = judged(make("PLC", root, uri=uri).der, store([root.der], crls=[crl(root)]), application_uri=uri)
    assert names(found) == ["BadCertificateIssuerUseNotAllowed"]
    assert f"excludes the name {uri}" in found[0].what


def test_limits_of_a_root_hold_below_its_intermediate_and_for_that_one() -> None:
    root = limited(excluded=[DNS("plant.local")])
    middle = authority("Middle", root)
    leaf = make("PLC", middle, hosts=["127.0.0.1", "x.plant.local"])
    held = store([root.der], [middle.der], [crl(root), crl(middle)])
    assert names(judged(leaf.der, held)) == ["BadCertificateIssuerUseNotAllowed"]
    strict = limited([x509.DirectoryName(make("PLC").certificate.subject)])
    middle = authority("Middle", strict)
    held = store([strict.der], [middle.der], [crl(strict), crl(middle)])
    (found,) = judged(make("PLC", middle).der, held)
    assert "of Middle [" in found.what


@pytest.mark.parametrize(("last", "digest", "name"), [(4, hashes.MD5(), "md5"), (5, hashes.SHA1(), "sha1")])
def test_old_hashes_are_refused_by_name_and_a_root_needs_none(
    last: int, digest: hashes.HashAlgorithm, name: str
) -> None:
    alone, root = make("PLC"), authority("Root")
    old = resigned(alone.der, alone.key, last, digest)
    assert names(judged(old, store([old])))[0] == "BadCertificatePolicyCheckFailed"
    assert f"signed with {name}" in judged(old, store([old]))[0].what
    leaf = make("PLC", root)
    below = resigned(leaf.der, root.key, last, digest)
    found = judged(below, store([root.der], crls=[crl(root)]))
    assert names(found)[0] == "BadCertificatePolicyCheckFailed"
    assert f"signed with {name}" in found[0].what
    # What a root signs itself with proves nothing in any case: that it stands in the folder does.
    assert judged(leaf.der, store([resigned(root.der, root.key, last, digest)], crls=[crl(root)])) == []
    weak = resigned(crl(root), root.key, last, digest, is_list=True)
    (unknown,) = judged(leaf.der, store([root.der], crls=[weak]))
    assert quality_name(unknown.quality) == "BadCertificateRevocationUnknown"
    assert f"0.crl is signed with {name}" in unknown.what


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("old_days", [(-100, -1), (2, 100)], ids=["expired", "not yet valid"])
def test_a_ca_that_has_got_a_new_certificate_is_taken_by_the_one_that_is_valid(
    newest_first: bool, old_days: tuple[int, int]
) -> None:
    old, new = authority("Root", begin=old_days[0], end=old_days[1]), authority("Root")
    pair = [new.der, old.der] if newest_first else [old.der, new.der]
    leaf = make("PLC", new)
    assert judged(leaf.der, store(pair, crls=[crl(new)])) == []
    assert names(judged(leaf.der, store([old.der], crls=[crl(old)]))) == ["BadCertificateIssuerTimeInvalid"]


def test_of_two_ways_to_a_root_the_trusted_one_is_taken() -> None:
    """The plant's CA is self-signed and was signed by the company's as well; one of the two is trusted."""
    company = authority("Company")
    own, crossed = authority("Plant CA"), authority("Plant CA", company)
    leaf = make("PLC", own)
    lists = [crl(own), crl(company)]
    assert judged(leaf.der, store([company.der], [own.der, crossed.der], lists)) == []
    assert judged(leaf.der, store([own.der], [company.der, crossed.der], lists)) == []
    assert names(judged(leaf.der, store([], [own.der, crossed.der, company.der], lists))) == [
        "BadCertificateUntrusted"]


def scope(*, full_name: Sequence[str] = (), **says: object) -> x509.IssuingDistributionPoint:
    values: dict[str, object] = {
        "relative_name": None, "only_contains_user_certs": False, "only_contains_ca_certs": False,
        "only_some_reasons": None, "indirect_crl": False, "only_contains_attribute_certs": False, **says,
        "full_name": [URL(url) for url in full_name] or None}
    return x509.IssuingDistributionPoint(**values)  # type: ignore[arg-type]


HERE, THERE = "http://ca.plant.local/1.crl", "http://ca.plant.local/2.crl"
REASONS = frozenset([x509.ReasonFlags.key_compromise])


@pytest.mark.parametrize(("made", "good"), [
    (scope(full_name=[HERE]), True), (scope(full_name=[THERE]), False), (scope(full_name=[THERE, HERE]), True),
    (scope(only_contains_user_certs=True), True), (scope(only_contains_ca_certs=True), False),
    (scope(only_contains_attribute_certs=True), False), (scope(indirect_crl=True), False),
    (scope(only_some_reasons=REASONS), False),
])
def test_a_list_for_some_certificates_counts_for_those(made: x509.IssuingDistributionPoint, good: bool) -> None:
    root = authority("Root")
    points = x509.CRLDistributionPoints([x509.DistributionPoint([URL(HERE)], None, None, None)])
    leaf = make("PLC", root, extensions=[(points, False)])
    found = judged(leaf.der, store([root.der], crls=[crl(root, scope=made)]))
    assert names(found) == ([] if good else ["BadCertificateRevocationUnknown"])
    revoked = judged(leaf.der, store([root.der], crls=[crl(root, leaf, scope=made)]))
    assert ("BadCertificateRevoked" in names(revoked)) == good


@pytest.mark.parametrize("narrowed", [
    {"delta": True}, {"scope": scope(only_contains_ca_certs=True)}, {"scope": scope(full_name=[THERE])},
])
def test_a_partial_list_clears_nobody_where_a_careless_ca_marks_it_as_not_critical(narrowed: dict[str, Any]) -> None:
    root = authority("Root")
    leaf, partial = make("PLC", root), crl(root, critical=False, **narrowed)
    (found,) = judged(leaf.der, store([root.der], crls=[partial]))
    assert quality_name(found.quality) == "BadCertificateRevocationUnknown"
    assert "a complete one is needed" in found.what
    assert judged(leaf.der, store([root.der], crls=[partial, crl(root)])) == []
    assert names(judged(leaf.der, store([root.der], crls=[crl(root, leaf, critical=False, **narrowed)]))) == [
        "BadCertificateRevoked"]


def test_a_certificate_that_the_entry_names_needs_nothing_of_its_ca() -> None:
    old = authority("Root", begin=-100, end=-1, bits=1024)
    leaf = make("PLC", old)
    assert judged(leaf.der, store([], [old.der]), pinned=True) == []
    assert names(judged(leaf.der, store([], [old.der], [crl(old, leaf)]), pinned=True)) == ["BadCertificateRevoked"]
    assert names(judged(make("PLC", old, begin=-9, end=-1).der, store([], [old.der]), pinned=True)) == [
        "BadCertificateTimeInvalid"]


def test_several_application_uris_and_a_flag_of_self_signed_ones_are_taken_and_wildcards_are_not() -> None:
    several = make("PLC", uri="urn:first", names=[URL(URI), URL("urn:third")])
    assert judged(several.der, store([several.der])) == []
    none = make("PLC", uri="")
    assert "is for no application" in judged(none.der, store([none.der]))[0].what
    flagged = make("PLC", ca=None, extensions=[(x509.BasicConstraints(True, None), True)])
    assert judged(flagged.der, store([flagged.der])) == []
    star = make("PLC", hosts=["*.plant.local"])
    (found,) = judged(star.der, store([star.der]), host="plc.plant.local")
    assert quality_name(found.quality) == "BadCertificateHostNameInvalid"
    assert "a * stands for no host" in found.what
    assert same_host("Pümpe.local", "xn--pmpe-0ra.local")


@pytest.mark.parametrize(("extension", "good"), [
    (x509.InhibitAnyPolicy(0), True), (x509.PolicyConstraints(0, None), False),
    (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.311.21.1"), b"\x02\x01\x00"), False)])
def test_critical_extensions_of_a_ca_are_understood_or_refuse(extension: x509.ExtensionType, good: bool) -> None:
    root = authority("Root", extensions=[(extension, True)])
    leaf = make("PLC", root)
    found = names(judged(leaf.der, store([root.der], crls=[crl(root)])))
    assert found == ([] if good else ["BadCertificateIssuerUseNotAllowed"])
    calm = authority("Root", extensions=[(extension, False)])
    assert judged(make("PLC", calm).der, store([calm.der], crls=[crl(calm)])) == []
