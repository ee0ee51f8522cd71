"""The steps of Part 4, clause 6.1.3, where no server is needed to show them; and hostile certificates do no harm."""

from __future__ import annotations

import base64
import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from endpoint_config.models import OpcUaServer, SecurityMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opcua_client.endpoints import Endpoint
from opcua_client.errors import OpcUaError, Untrusted
from opcua_client.facts import LARGEST, Facts, facts_of, read_facts, split_chain
from opcua_client.store import Found, FoundList, Store, parse_crl
from opcua_client.trust import check_server_certificate
from opcua_client.validation import Problem, Rules, build_chain, problems, same_host
from opcua_pki import URI, Made, Pki, authority, crl, key, make
from process_image.quality import quality_name

NOW = datetime.now(UTC)
RULES = Rules(policy="Basic256Sha256", host="127.0.0.1", application_uri=URI, now=NOW)
SHA1 = base64.b64decode(
    "MIIDKjCCAhKgAwIBAgIUW9JhRRVpa3utxyLKyNcT/a2z99UwDQYJKoZIhvcNAQEFBQAwEjEQMA4GA1UEAwwHT2xkIFBMQzAgFw0yNjExMjEwNj"
    "Q1MzhaGA8yMTI2MTAyODA2NDUzOFowEjEQMA4GA1UEAwwHT2xkIFBMQzCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBAPkJPlPxbjPF"
    "Nroq0/c2CDPNDLqeHkRWrHGdF7yxcZcYpoH4cqSXfBNfg5flDjuEs+nFleNPTDstZt7SZZ9rotxsjD8OB05KZxOBdV8iTCuTnqN0j1bikNkEhu"
    "bJS3dox3TvHPcywhR8eXu1tR0+1OHNq+tPrCqAEYkrSEj0wJGG78829OAf8gpEUG+6klvlWT5pSke6Y0C/NRldnmc8Owm9zlLBtlEdk8ThQQhI"
    "HcWLaibUDiE9A2Gw4RkApGD6B0rFKXvLgmaiQqbUZ7B0PW6IYZA4C+0+L8WkdJnkJNl6FBgBZeexdneqEkmiwz+2NDQDynbb0GeUhnS2NpNHAC"
    "sCAwEAAaN2MHQwHQYDVR0OBBYEFBfICaw+iDrAHAZNEHyqHa6dpWrcMB8GA1UdIwQYMBaAFBfICaw+iDrAHAZNEHyqHa6dpWrcMCQGA1UdEQQd"
    "MBuGE3VybjpjcGM6dGVzdDpzZXJ2ZXKHBH8AAAEwDAYDVR0TAQH/BAIwADANBgkqhkiG9w0BAQUFAAOCAQEANurha3gM7Soee6vlOEpBfscbd4"
    "8hU3bxTtVu6aKQgKq7CdsjL9ljMasigKmc3VHXUy6vZ/Vc4tIROfwvnddOwG76GDsJ4XQWs+DRtwpeBeQle3ZVKiy3CjSI8Vt62jBtBK2itBkZ"
    "Q9eL5DdEFCIl5xZUOQpSDKBCY44GhxcRH5Xe7X/8rI06rSyo7AjQHDM+h4I1Gc8TIhY3zHVSe+Ytg4L9uTUxUFCXXx405ZLtfXkefmTjbvnxRo"
    "xaX0HXzsu9KLVA/7QFJHtWnKHhPJRDSrChuLF2AWdRq54sgHp/yr+iNCr6F5hFLFIzUckMUmVXWgYTV7RREKsOuNqH0t/gDw=="
)
"""Self-signed with SHA-1, which the library at hand no longer makes."""


def store(*trusted: Made, issuers: tuple[Made, ...] = (), crls: tuple[bytes, ...] = ()) -> Store:
    def found(made: tuple[Made, ...]) -> tuple[Found, ...]:
        return tuple(Found(path=Path(one.name), facts=read_facts(one.der)) for one in made)

    lists = tuple(FoundList(path=Path(f"{i}.crl"), crl=parse_crl(one)) for i, one in enumerate(crls))
    return Store(folder=Path(), trusted=found(trusted), issuers=found(issuers), crls=lists)


def names(found: list[Problem]) -> list[str]:
    return [quality_name(problem.quality) for problem in found]


def judged(leaf: Made, held: Store, rules: Rules = RULES) -> list[str]:
    return names(list(problems([read_facts(leaf.der)], held, rules)))


def test_all_problems_are_told_in_the_order_of_the_standard() -> None:
    wrong = make("PLC", authority("Root"), begin=-9, end=-1, hosts=["elsewhere"], uri="urn:else", uses=(), bits=1024)
    held = store(issuers=(authority("Root"),), crls=(crl(authority("Root"), wrong),))
    assert judged(wrong, held) == [
        "BadCertificatePolicyCheckFailed", "BadCertificateUntrusted", "BadCertificateTimeInvalid",
        "BadCertificateHostNameInvalid", "BadCertificateUriInvalid", "BadCertificateUseNotAllowed",
        "BadCertificateRevoked"]
    assert judged(wrong, store())[0] == "BadCertificateChainIncomplete"


def test_every_problem_says_what_to_do() -> None:
    wrong = make("PLC", authority("Root"), begin=-9, end=-1, hosts=[], uri="", uses=(), bits=1024)
    for problem in problems([read_facts(wrong.der)], store(authority("Root")), RULES):
        assert problem.what
        assert problem.advice


@pytest.mark.parametrize(("policy", "expected"), [
    ("Basic256Sha256", "BadCertificatePolicyCheckFailed"), ("Aes256_Sha256_RsaPss", "BadCertificatePolicyCheckFailed"),
    ("Basic128Rsa15", ""), ("Basic256", "")])
def test_sha1_is_for_the_deprecated_policies_alone(policy: str, expected: str) -> None:
    facts = read_facts(SHA1)
    held = Store(folder=Path(), trusted=(Found(path=Path("old"), facts=facts),))
    rules = replace(RULES, policy=policy, now=facts.begin + timedelta(days=1))
    assert ([name for name in names(list(problems([facts], held, rules))) if name] or [""])[0] == expected
    forged = bytearray(SHA1)
    forged[-3] ^= 1
    assert names(list(problems([read_facts(bytes(forged))], held, rules)))[0] == "BadCertificateInvalid"


@pytest.mark.parametrize(("bits", "policy", "good"), [
    (1024, "Basic128Rsa15", True), (1024, "Aes128_Sha256_RsaOaep", False), (2048, "Basic256", True),
    (3072, "Basic256", False), (3072, "Basic256Sha256", True)])
def test_key_lengths_are_those_of_the_policy(bits: int, policy: str, good: bool) -> None:
    made = make("PLC", bits=bits)
    assert (judged(made, store(made), replace(RULES, policy=policy)) == []) == good


def test_a_critical_extension_that_is_not_understood_is_not_passed_over() -> None:
    made = make("PLC", strange=True)
    assert judged(made, store(made)) == ["BadCertificateUseNotAllowed"]
    strange = authority("Root", strange=True)
    below = make("PLC", strange)
    assert judged(below, store(strange, crls=(crl(strange),))) == ["BadCertificateIssuerUseNotAllowed"]


def test_a_ca_may_limit_how_many_cas_stand_below_it() -> None:
    root = authority("Root", path_length=0)
    middle = authority("Middle", root)
    leaf = make("PLC", middle)
    held = store(root, issuers=(middle,), crls=(crl(root), crl(middle)))
    assert judged(leaf, held) == ["BadCertificateIssuerUseNotAllowed"]


def test_a_ca_with_an_elliptic_key_is_a_ca() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    template = authority("Root")
    builder = x509.CertificateBuilder().subject_name(template.certificate.subject).issuer_name(
        template.certificate.subject).public_key(private.public_key()).serial_number(5).not_valid_before(
        NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=9))
    for extension in template.certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    root = replace(template, certificate=builder.sign(private, hashes.SHA256()))
    leaf = make("PLC", root, signer=private)
    listed = x509.CertificateRevocationListBuilder().issuer_name(root.certificate.subject).last_update(
        NOW - timedelta(days=1)).next_update(NOW + timedelta(days=1)).sign(private, hashes.SHA256())
    assert judged(leaf, store(root, crls=(listed.public_bytes(serialization.Encoding.DER),))) == []
    own = replace(root, certificate=builder.sign(private, hashes.SHA256()))
    assert "BadCertificatePolicyCheckFailed" in judged(own, store(own)), "no application has such a key"


def test_restrictions_that_a_certificate_lacks_restrict_nothing() -> None:
    made = make("PLC", uses=None, purposes=(), ca=None)
    assert judged(made, store(made)) == []


@pytest.mark.parametrize(("one", "other", "same"), [
    ("plc1", "PLC1", True), ("plc1.", "plc1", True), ("10.0.0.1", "10.0.0.1", True), ("::1", "0:0:0:0:0:0:0:1", True),
    ("fe80::1", "FE80::1", True), ("plc1", "*", False), ("a.plant", "*.plant", False), ("plc1", "plc1.plant", False),
    ("10.0.0.1", "10.0.0.10", False), ("localhost", "127.0.0.1", False), ("", "plc1", False)])
def test_hosts_are_compared_as_names_and_addresses_and_never_by_pattern(one: str, other: str, same: bool) -> None:
    assert same_host(one, other) is same


def test_an_address_counts_also_where_it_stands_as_a_name() -> None:
    made = make("PLC", hosts=[])
    builder = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI), x509.DNSName("10.0.0.7")])
    signed = x509.CertificateBuilder().subject_name(made.certificate.subject).issuer_name(
        made.certificate.subject).public_key(made.key.public_key()).serial_number(1).not_valid_before(
        NOW - timedelta(days=1)).not_valid_after(NOW + timedelta(days=1)).add_extension(builder, critical=False)
    named = replace(made, certificate=signed.sign(made.key, hashes.SHA256()))
    assert judged(named, store(named), replace(RULES, host="10.0.0.7")) == []


@pytest.mark.parametrize(("lists", "expected"), [
    (lambda root: (crl(root, delta=True),), ["BadCertificateRevocationUnknown"]),
    (lambda root: (crl(root, begin=1, end=5),), ["BadCertificateRevocationUnknown"]),
    (lambda root: (crl(root, begin=-9, end=-1), crl(root)), []),
    (lambda root: (crl(root), crl(root, begin=-9, end=-1)), []),
    (lambda root: (crl(authority("Other")), crl(root)), []),
    (lambda root: (), ["BadCertificateRevocationUnknown"]),
])
def test_which_revocation_lists_count(lists: object, expected: list[str]) -> None:
    root = authority("Root")
    assert judged(make("PLC", root), store(root, crls=lists(root))) == expected  # type: ignore[operator]


def test_a_list_of_a_ca_that_may_not_sign_lists_counts_for_nothing() -> None:
    root = authority("Root", uses=("key_cert_sign",))
    leaf = make("PLC", root, serial=77)
    assert judged(leaf, store(root, crls=(crl(root, leaf),))) == ["BadCertificateRevocationUnknown"]


def test_revocation_goes_by_issuer_and_serial_number_and_not_by_the_number_alone() -> None:
    one, other = authority("One"), authority("Other")
    leaf, namesake = make("PLC", one, serial=77), make("PLC", other, serial=77)
    assert judged(leaf, store(one, crls=(crl(one), crl(other, namesake)))) == []


def test_of_two_cas_of_one_name_the_one_that_signed_is_found() -> None:
    real, other = authority("Root"), authority("Root", bits=3072)
    leaf = make("PLC", real)
    for held in (store(other, real, crls=(crl(real),)), store(real, other, crls=(crl(real),))):
        assert judged(leaf, held) == []
    assert "BadCertificateInvalid" in judged(leaf, store(other))


def test_issuers_that_sign_each_other_end_the_search_soon() -> None:
    """Certificates of one name and one key that all sign each other: without care as many paths as permutations."""
    ring = [authority("Ring", signer=key("ring"), serial=n + 1) for n in range(9)]
    a = authority("Ring A", ring[0])
    circle = [replace(a, certificate=authority("Ring A", replace(ring[0], key=a.key), serial=n + 1).certificate)
              for n in range(9)]
    facts = [facts_of(one.certificate) for one in (*ring, *circle)]
    began = time.monotonic()
    chain, problem = build_chain(read_facts(make("PLC", a).der), facts)
    assert time.monotonic() - began < 5
    assert len(chain) < 12
    assert problem is not None


@pytest.fixture
def entry(tmp_path: Path) -> OpcUaServer:
    return OpcUaServer(alias="A", url="opc.tcp://127.0.0.1:1", security_policy="SecurityPolicyBasic256Sha256",
                       security_mode=SecurityMode.SIGN, trust_folder=tmp_path / "pki")


def offered(blob: bytes) -> Endpoint:
    return Endpoint(url="opc.tcp://h:1", policy="", mode=2, certificate=blob, application_uri=URI, tokens=())


MUTATIONS = st.lists(st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat"]), st.integers(0, 4000),
                               st.integers(0, 255)), min_size=1, max_size=6)


def mutated(blob: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    octets = bytearray(blob)
    for how, where, what in changes:
        at = where % (len(octets) + 1)
        if how == "flip" and at < len(octets):
            octets[at] ^= what or 1
        elif how == "cut":
            del octets[at : at + what]
        elif how == "insert":
            octets[at:at] = bytes([what])
        elif how == "repeat":
            octets += octets[at : at + 50]
    return bytes(octets)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=MUTATIONS)
def test_a_changed_certificate_is_refused_with_a_reason_and_nothing_else(
    entry: OpcUaServer, changes: list[tuple[str, int, int]]
) -> None:
    root = authority("Root")
    if not (entry.trust_folder or Path()).exists():
        Pki(entry.trust_folder or Path()).put("trusted/certs", make("PLC"), root).put("trusted/crl", crl(root))
    whole = make("PLC", root, serial=9).der
    blob = mutated(whole, changes)
    if split(blob) == split(whole):
        return  # changed behind its end
    with pytest.raises(OpcUaError) as caught:
        check_server_certificate(entry, offered(blob))
    assert str(caught.value).isprintable()


def split(blob: bytes) -> bytes:
    try:
        return split_chain(blob)[0]
    except ValueError:
        return blob


def test_a_certificate_of_ten_megabytes_is_refused_before_it_is_looked_at(entry: OpcUaServer) -> None:
    began = time.monotonic()
    for blob in (bytes(10 << 20), b"\x30\x84\x00\xa0\x00\x00" + bytes(10 << 20), make("PLC").der * 20_000):
        assert len(blob) > LARGEST
        with pytest.raises(Untrusted, match="bytes") as caught:
            check_server_certificate(entry, offered(blob))
        assert quality_name(caught.value.quality) == "BadCertificateInvalid"
    assert time.monotonic() - began < 2


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_garbage_is_a_value_error_and_nothing_else(blob: bytes) -> None:
    for read in (read_facts, split_chain):
        try:
            read(blob)
        except ValueError as error:
            assert str(error)


@pytest.mark.campaign
def test_a_hundred_thousand_changed_certificates_and_lists_trust_nobody() -> None:
    """Single and double changes of a certificate and of a list, with everything else in order."""
    root = authority("Root")
    leaf, listed, dice = make("PLC", root, serial=9), crl(root), random.Random(4)
    held = store(root, crls=(listed,))
    assert judged(leaf, held) == []
    for _ in range(100_000):
        changes = [(dice.choice(["flip", "cut", "insert"]), dice.randrange(4000), dice.randrange(256))
                   for _ in range(dice.randint(1, 2))]
        try:
            facts: Facts = read_facts(split_chain(mutated(leaf.der, changes))[0])
        except ValueError:
            continue
        assert facts.der == leaf.der or names(list(problems([facts], held, RULES)))
    for _ in range(20_000):
        changes = [("flip", dice.randrange(len(listed)), dice.randrange(256))]
        try:
            other = FoundList(path=Path("x.crl"), crl=parse_crl(mutated(listed, changes)))
        except Exception:  # noqa: BLE001 - what the store does with a list that can't be read is tested elsewhere
            continue
        assert names(list(problems([read_facts(leaf.der)], replace(held, crls=(other,)), RULES))) == [
            "BadCertificateRevocationUnknown"]
