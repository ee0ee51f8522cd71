"""What a gate knows of the time before its start: all of it from the audit log, so that nothing can contradict it."""

from __future__ import annotations

import time
from pathlib import Path

from endpoint_config import CommandRules

from cpc.commands import audit
from cpc.commands.decision import Decider, by_name
from cpc.commands.ledger import REMEMBERED, Ledger


def remembered(folder: Path, rules: CommandRules) -> tuple[Ledger, Decider]:
    """The request ids that were used, how often each rule was, and what was last written to points.

    AuditError where the log can't be read.
    """
    ledger, decider, names = Ledger(), Decider(rules), by_name(rules)
    wall, now = time.time(), time.monotonic()
    for record in audit.read(folder, since=wall - REMEMBERED):
        ledger.take(record)
        decider.rates.recall(record, names, wall, now)
        decider.written.recall(record)
    return ledger, decider
