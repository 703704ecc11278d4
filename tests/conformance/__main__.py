"""`make conformance`: Samba's smbtorture against our server, held against the record.

SUITES names suites or single tests, with blanks between them; RECORD=1 rewrites the record; SMBD=1 runs smbd live
beside ours instead of using its recorded results; LOG=1 shows our server's log. Ends with 1 when a test that is
recorded as passing does not pass, or when our server's log tells of a worker that died or of an internal error.
"""

from __future__ import annotations

import logging
import os
import sys

from smbserver.own_server import unwind_on_sigterm
from smbserver.own_smbd import SmbdMissing
from tests.conformance import record, smbtorture
from tests.conformance.accounts import Accounts, accounts
from tests.conformance.network import enter_own_network
from tests.conformance.our_server import Faults, our_server
from tests.conformance.samba_server import samba_server
from tests.conformance.shares import folder
from tests.conformance.smbtorture import SUCCESS, Result
from tests.conformance.suites import Suite, by_server, chosen
from tests.conformance.table import table

Results = dict[str, Result]


def main() -> int:
    """Runs, prints, compares."""
    logging.basicConfig(level=logging.ERROR)  # smb.conf holds words for smbd alone
    unwind_on_sigterm()
    may_block = enter_own_network()
    suites = chosen(os.environ.get("SUITES", "").split(), may_block=may_block)
    who = accounts()
    ours, faulty = run_ours(suites, who)
    yardstick = record.load(record.YARDSTICK)
    if os.environ.get("SMBD"):
        yardstick = run_smbd(suites, who)
    results = list(ours.values())
    print(*table(results, yardstick), sep="\n")
    expected = record.load(record.EXPECTED)
    lost, gained = record.lost(expected, results), record.gained(expected, results)
    for result in gained:
        print(f"passes now: {result.test}")
    for result in lost:
        print(f"PASSES NO MORE: {result.test}: {result.reason}")
    if os.environ.get("RECORD"):
        record.save(record.EXPECTED, expected, results)
        return int(faulty)
    return int(bool(lost) or faulty)


def run_ours(suites: list[Suite], who: Accounts) -> tuple[Results, bool]:
    """Results, and whether the server's log tells of faults."""
    results: Results = {}
    faulty = False
    for options, served in by_server(suites).items():
        with folder() as place, our_server(place, who, options) as server:
            faults = Faults(server)
            for suite in served:
                results |= run_suite(suite, server.port, who, "ours")
                for fault, times in faults.new().items():
                    faulty = True
                    print(f"FAULT in {suite.name}, {times} times: {fault}", flush=True)
            if os.environ.get("LOG"):
                print(server.log.read_text(errors="replace"))
    return results, faulty


def run_smbd(suites: list[Suite], who: Accounts) -> Results:
    """smbd's results; none, with the reason, where it cannot run."""
    results: Results = {}
    try:
        for options, served in by_server(suites).items():
            with folder() as place, samba_server(place, who, options) as port:
                for suite in served:
                    results |= run_suite(suite, port, who, "smbd")
    except SmbdMissing as error:
        print(f"smbd is not measured: {error}")
    return results


def run_suite(suite: Suite, port: int, who: Accounts, label: str) -> Results:
    """Tells every test that does not pass, with its reason."""
    results: Results = {}
    for result in smbtorture.run(suite, port, who):
        results[result.test] = result
        if result.verdict != SUCCESS:
            print(f"{label} {result.verdict}: {result.test}: {result.reason}", flush=True)
    return results


if __name__ == "__main__":
    try:
        sys.exit(main())
    except smbtorture.SmbtortureMissing as error:
        sys.exit(f"conformance: {error}")
