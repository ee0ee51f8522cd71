"""`cpc certs list`, `trust` and `reject`: whom the partition trusts, whom it refused and why."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import print_json, printable, table

if TYPE_CHECKING:
    from opcua_client.keeping import Entry, Kept
    from opcua_client.store import FoundList, Unreadable

_TITLES = {"own": "Our own", "trusted": "Trusted", "issuers": "Issuers: only to follow chains",
           "rejected": "Rejected"}


def run(args: Namespace) -> int:
    """Do what `args.action` says."""
    from opcua_client import keeping

    try:
        if args.action == "list":
            return _list(args)
        if args.action == "trust":
            _tell("trusted", keeping.trust(args.pki, args.what, as_issuer=args.issuer), args)
        else:
            _tell("no longer trusted", keeping.distrust(args.pki, args.what), args)
    except keeping.KeepingError as error:
        raise CommandError(f"cpc certs {args.action}: {error}") from error
    except OSError as error:
        raise CommandError(f"cpc certs {args.action}: {error.filename or args.pki}: {error.strerror}; run it as the "
                           "user who owns the folder") from error
    return Exit.DONE


def _tell(verdict: str, kept: Sequence[Kept], args: Namespace) -> None:
    for one in kept:
        issuer = one.path.parent.parent.name == "issuers"
        print(f"{'kept to follow chains' if issuer else verdict}: {printable(one.what)}")
        if one.sha256:
            print(f"  SHA-256  {one.sha256}")
        print(f"  file     {one.path}")
    print("It counts from the next connection on; nothing needs a restart." if args.action == "trust" else
          "Connections that are open stay until they end; none is made again.")


def _list(args: Namespace) -> int:
    from opcua_client import keeping, store

    if not args.pki.is_dir():
        raise absent(f"cpc certs list: {args.pki}: no such folder; name one with --pki, or cpc certs make --pki "
                     f"{args.pki}")
    found, bad = keeping.entries(args.pki)
    lists = _lists(args, store, bad)
    now = datetime.now(UTC)
    if args.json:
        print_json({"pki": str(args.pki), "certificates": [_as_json(entry, now) for entry in found],
                    "revocation_lists": [_list_as_json(one, now) for one in lists],
                    "unreadable": [{"file": str(one.path), "why": one.why} for one in bad]})
        return Exit.DONE
    for group, title in _TITLES.items():
        _print_group(title, [entry for entry in found if entry.group == group], now)
    _print_rest(lists, bad, now)
    return Exit.DONE


def _lists(args: Namespace, store: Any, bad: list[Unreadable]) -> list[FoundList]:
    return [one for group in ("trusted", "issuers") for one in store.crls_in(args.pki / group / "crl", bad)]


def _print_group(title: str, entries: Sequence[Entry], now: datetime) -> None:
    print(f"{title}: {len(entries) or 'none'}")
    if not entries:
        return
    rows = [(entry.facts.thumbprint[:16], printable(entry.facts.name), _until(entry.facts.end, now),
             f"{entry.facts.key_bits or 'no RSA'}", printable(", ".join(entry.facts.uris[:1])), str(entry.path.name))
            for entry in entries]
    print("  " + table(["THUMBPRINT", "NAME", "UNTIL", "BITS", "APPLICATION", "FILE"], rows).replace("\n", "\n  "))
    for entry in entries:
        if entry.rejected is not None and entry.rejected.why:
            who = f"{printable(entry.rejected.server)}: " if entry.rejected.server else ""
            print(f"  {entry.facts.thumbprint[:16]} {entry.rejected.when}: {who}{printable(entry.rejected.why)}")
            print(f"    SHA-1   {entry.facts.thumbprint}\n    SHA-256 {entry.facts.sha256}")


def _print_rest(lists: Sequence[FoundList], bad: Sequence[Unreadable], now: datetime) -> None:
    if lists:
        print(f"Revocation lists: {len(lists)}")
        for one in lists:
            end = one.crl.next_update_utc
            until = _until(end, now) if end else "further notice"
            print(f"  {printable(one.crl.issuer.rfc4514_string())}, until {until}, {one.path}")
    for file in bad:
        print(f"not readable, counts for nothing: {file.path}: {file.why}")


def _until(end: datetime, now: datetime) -> str:
    days = (end - now).total_seconds() / 86_400
    return f"{end:%Y-%m-%d}" + (" expired" if days < 0 else f" ({days:.0f} days)" if days < 30 else "")


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _as_json(entry: Entry, now: datetime) -> dict[str, Any]:
    facts, refused = entry.facts, entry.rejected
    made: dict[str, Any] = {
        "group": entry.group, "file": str(entry.path), "name": facts.name, "subject": facts.subject.rfc4514_string(),
        "issuer": facts.issuer.rfc4514_string(), "self_issued": facts.self_issued, "ca": bool(facts.is_ca),
        "application_uris": list(facts.uris), "hosts": list(facts.hosts), "key_bits": facts.key_bits or None,
        "not_before": _stamp(facts.begin), "not_after": _stamp(facts.end),
        "days": round((facts.end - now).total_seconds() / 86_400, 2),
        "thumbprint": facts.thumbprint, "sha256": facts.sha256,
    }
    if refused is not None:
        made |= {"when": refused.when, "why": refused.why, "server": refused.server, "url": refused.url}
    return made


def _list_as_json(one: FoundList, now: datetime) -> dict[str, Any]:
    end = one.crl.next_update_utc
    return {"file": str(one.path), "issuer": one.crl.issuer.rfc4514_string(), "entries": len(one.crl),
            "this_update": _stamp(one.crl.last_update_utc), "next_update": _stamp(end) if end else None,
            "current": one.crl.last_update_utc <= now and (end is None or now <= end)}
