"""The invariants as questions to SQL: each row of an answer is something wrong. `billing.books` asks them.

Most can be asked of a window, what is new since the last check, so that a nightly check reads each posting once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GUARDS = (
    *("posting", "ledger_transaction", "audit", "cdr", "charge", "correction"),
    *("exchange_rate", "call_cost", "charge_use"),
)
"""The tables whose history triggers protect."""


WITHIN = re.compile(r"\{(transaction|cdr|outbox):([a-z_.]+)\}")
ENDS = ("after", "until")


@dataclass(frozen=True, slots=True)
class Look:
    """A question to SQL whose every row is something wrong; `says` is filled with the row.

    `{transaction:…}`, `{cdr:…}`, `{outbox:…}` stand for "and this id is within the window": see `Window`. A question
    without one is asked of everything, in a full check only. `about`: what `whose` names, the row's column of that
    number: a transaction, a wallet or a call.
    """

    invariant: int
    says: str
    sql: str
    about: str = ""
    whose: int = 0
    whole: bool = False
    """It reads everything: `billing.nightly` has its own way to ask it of what is new."""

    @property
    def windowed(self) -> bool:
        """Whether it can be asked of a window."""
        return WITHIN.search(self.sql) is not None

    def within(self, window: Window | None) -> str:
        """Return the question, of a window or of everything."""
        return WITHIN.sub("" if window is None else r"AND \2 > :\1_after AND \2 <= :\1_until", self.sql)


@dataclass(frozen=True, slots=True)
class Window:
    """What is new since a check: ids of transactions, records and outbox rows, each (after, until]."""

    transaction: tuple[int, int]
    cdr: tuple[int, int]
    outbox: tuple[int, int]

    def parameters(self) -> dict[str, int]:
        """Return what a question within this window is asked with."""
        spans = {"transaction": self.transaction, "cdr": self.cdr, "outbox": self.outbox}
        return {f"{name}_{end}": value for name, span in spans.items() for end, value in zip(ENDS, span, strict=True)}


LOOKS = (
    Look(
        1,
        "Transaction {0} does not sum to zero in {1}: {2} micro-units are left over.",
        """SELECT transaction_id, currency, sum(amount_micros) FROM posting WHERE 1 = 1 {transaction:transaction_id}
           GROUP BY transaction_id, currency HAVING sum(amount_micros) <> 0 ORDER BY transaction_id""",
        about="transaction",
    ),
    Look(
        1,
        "All postings in {0} together do not sum to zero: {1} micro-units are left over.",
        "SELECT currency, sum(amount_micros) FROM posting GROUP BY currency HAVING sum(amount_micros) <> 0",
        whole=True,
    ),
    Look(
        1,
        "Transaction {0} ({1}) has no postings.",
        """SELECT t.id, t.operation FROM ledger_transaction t LEFT JOIN posting p ON p.transaction_id = t.id
           WHERE p.id IS NULL {transaction:t.id} ORDER BY t.id""",
    ),
    Look(
        1,
        "Posting {0} is in {1}, its wallet {2} in {3}.",
        """SELECT p.id, p.currency, w.id, w.currency FROM posting p JOIN wallet w ON w.id = p.wallet_id
           WHERE p.currency <> w.currency {transaction:p.transaction_id} ORDER BY p.id""",
        about="wallet",
        whose=2,
    ),
    Look(
        2,
        "Wallet {0} says its balance is {1}, its postings sum to {2} micro-units.",
        """SELECT w.id, w.balance_micros, coalesce(sum(p.amount_micros), 0)
           FROM wallet w LEFT JOIN posting p ON p.wallet_id = w.id WHERE w.kind IN ('money', 'bundle')
           GROUP BY w.id, w.balance_micros HAVING w.balance_micros <> coalesce(sum(p.amount_micros), 0)
           ORDER BY w.id""",
        whole=True,
        about="wallet",
    ),
    Look(
        2,
        "Wallet {0} keeps a balance or a number, though it is a {1} wallet.",
        """SELECT id, kind FROM wallet WHERE kind NOT IN ('money', 'bundle') AND (balance_micros <> 0 OR seq <> 0)
           ORDER BY id""",
    ),
    Look(
        2,
        "The live credit store is to be told posting {1} of wallet {0}, which the ledger does not have so.",
        """SELECT o.wallet_id, o.seq FROM outbox o
           LEFT JOIN posting p ON p.wallet_id = o.wallet_id AND p.seq = o.seq
           WHERE (p.id IS NULL OR p.amount_micros <> o.amount_micros) {outbox:o.id} ORDER BY o.id""",
        about="wallet",
    ),
    Look(
        12,
        "Posting {0} of wallet {1} has no number.",
        """SELECT p.id, w.id FROM posting p JOIN wallet w ON w.id = p.wallet_id
           WHERE w.kind IN ('money', 'bundle') AND p.seq IS NULL {transaction:p.transaction_id} ORDER BY p.id""",
        about="wallet",
        whose=1,
    ),
    Look(
        12,
        "Wallet {0} has counted {1} postings, but has {2}, numbered {3} to {4}.",
        """SELECT w.id, w.seq, count(p.id), coalesce(min(p.seq), 0), coalesce(max(p.seq), 0)
           FROM wallet w LEFT JOIN posting p ON p.wallet_id = w.id WHERE w.kind IN ('money', 'bundle')
           GROUP BY w.id, w.seq
           HAVING count(p.id) <> w.seq OR count(p.seq) <> w.seq OR coalesce(max(p.seq), 0) <> w.seq
              OR coalesce(min(p.seq), 1) <> 1 ORDER BY w.id""",
        whole=True,
        about="wallet",
    ),
    Look(
        5,
        "Transaction {0}: the charges of its call and its postings on wallet {1} differ by {2} micro-units.",
        """SELECT transaction_id, wallet_id, sum(amount) FROM (
             SELECT c.transaction_id, h.wallet_id, -h.amount_micros AS amount
             FROM charge h JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT c.transaction_id, h.to_wallet_id, h.amount_micros
             FROM charge h JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT c.transaction_id, u.wallet_id, -u.amount_micros
             FROM charge_use u JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT c.transaction_id, u.to_wallet_id, u.amount_micros
             FROM charge_use u JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT c.transaction_id, k.wallet_id, -k.amount_micros
             FROM call_cost k JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT c.transaction_id, k.to_wallet_id, k.amount_micros
             FROM call_cost k JOIN cdr c USING (call_id) WHERE 1 = 1 {transaction:c.transaction_id}
             UNION ALL
             SELECT p.transaction_id, p.wallet_id, -p.amount_micros FROM posting p
             JOIN ledger_transaction t ON t.id = p.transaction_id WHERE t.kind = 'call' {transaction:t.id}
           ) AS both_sides GROUP BY transaction_id, wallet_id HAVING sum(amount) <> 0 ORDER BY transaction_id""",
        about="wallet",
        whose=1,
    ),
    Look(
        5,
        "Transaction {0} ({1}) charges for a call that has no record.",
        """SELECT t.id, t.operation FROM ledger_transaction t LEFT JOIN cdr c ON c.transaction_id = t.id
           WHERE t.kind = 'call' AND c.call_id IS NULL {transaction:t.id} ORDER BY t.id""",
        about="transaction",
    ),
    Look(
        5,
        "The record of call {0} says it cost {1}, its charge says {2} micro-units.",
        """SELECT c.call_id, c.cost_micros, coalesce(h.amount_micros, 0) FROM cdr_key k
           JOIN cdr c ON c.call_id = k.call_id AND c.ended_at = k.ended_at
           LEFT JOIN charge h ON h.call_id = c.call_id AND h.level = 0
           WHERE c.cost_micros <> coalesce(h.amount_micros, 0) {cdr:k.id} ORDER BY c.call_id""",
        about="call",
    ),
    Look(
        5,
        "Call {0} has charges of {1} micro-units that were never posted.",
        """SELECT c.call_id, sum(h.amount_micros) FROM cdr_key k
           JOIN cdr c ON c.call_id = k.call_id AND c.ended_at = k.ended_at JOIN charge h ON h.call_id = k.call_id
           WHERE c.transaction_id IS NULL AND h.amount_micros <> 0 {cdr:k.id} GROUP BY c.call_id ORDER BY c.call_id""",
        about="call",
    ),
    Look(
        5,
        "Call {0} has {1} records where its key says there is one.",
        """SELECT k.call_id, count(c.call_id) FROM cdr_key k LEFT JOIN cdr c ON c.call_id = k.call_id
           WHERE 1 = 1 {cdr:k.id} GROUP BY k.call_id, k.ended_at
           HAVING count(c.call_id) <> 1 OR min(c.ended_at) <> k.ended_at ORDER BY k.call_id""",
        about="call",
    ),
    Look(
        5,
        "The record of call {0} has no key: it could be written a second time.",
        """SELECT c.call_id FROM cdr c LEFT JOIN cdr_key k ON k.call_id = c.call_id WHERE k.id IS NULL
           ORDER BY c.call_id""",
        whole=True,
        about="call",
    ),
    Look(
        5,
        "Transaction {0}: the corrections of its call and its postings on wallet {1} differ by {2} micro-units.",
        """SELECT transaction_id, wallet_id, sum(amount) FROM (
             SELECT transaction_id, wallet_id, before_micros - after_micros AS amount
             FROM correction WHERE 1 = 1 {transaction:transaction_id}
             UNION ALL
             SELECT transaction_id, to_wallet_id, after_micros - before_micros
             FROM correction WHERE 1 = 1 {transaction:transaction_id}
             UNION ALL
             SELECT p.transaction_id, p.wallet_id, -p.amount_micros FROM posting p
             JOIN ledger_transaction t ON t.id = p.transaction_id
             WHERE (t.kind = 'correction' OR t.id IN (SELECT transaction_id FROM correction)) {transaction:t.id}
           ) AS both_sides GROUP BY transaction_id, wallet_id HAVING sum(amount) <> 0 ORDER BY transaction_id""",
        about="wallet",
        whose=1,
    ),
    Look(
        5,
        "Correction {0} of call {1} begins at {2} micro-units, but what stood before it is {3}.",
        """SELECT id, call_id, before_micros, stood FROM (
             SELECT n.id, n.call_id, n.before_micros, coalesce(
               lag(n.after_micros) OVER (PARTITION BY n.call_id, n.level ORDER BY n.id), h.amount_micros) AS stood
             FROM correction n LEFT JOIN charge h ON h.call_id = n.call_id AND h.level = n.level
           ) AS chain WHERE stood IS NULL OR before_micros <> stood ORDER BY id""",
        about="call",
        whose=1,
    ),
    Look(
        5,
        "Correction {0} of call {1} takes correction {2} back, but not to what stood before that.",
        """SELECT n.id, n.call_id, o.id FROM correction n JOIN correction o ON o.id = n.undoes_id
           WHERE n.after_micros <> o.before_micros OR n.call_id <> o.call_id OR n.level <> o.level
              OR n.run_id <> o.run_id ORDER BY n.id""",
        about="call",
        whose=1,
    ),
)

GUARDS_ON = {
    "sqlite": "SELECT DISTINCT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE '%_no_delete'",
    "postgresql": """SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                     WHERE t.tgname LIKE '%_is_history' AND t.tgenabled = 'O'
                     AND c.relnamespace = current_schema()::regnamespace""",
}


MONTHS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE 1 = 0",
    "postgresql": """SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     JOIN pg_class o ON o.oid = i.inhparent
                     WHERE o.relname IN ('cdr', 'posting') AND c.relnamespace = current_schema()::regnamespace
                     ORDER BY c.relname""",
}


CHARGES_WITHIN = (
    (
        "a charge",
        """SELECT h.call_id, h.amount_micros, h.facts FROM cdr_key k JOIN charge h ON h.call_id = k.call_id
           WHERE k.id > :cdr_after AND k.id <= :cdr_until""",
    ),
    (
        "what its carrier charges",
        """SELECT h.call_id, h.amount_micros, h.facts FROM cdr_key k JOIN call_cost h ON h.call_id = k.call_id
           WHERE k.id > :cdr_after AND k.id <= :cdr_until""",
    ),
    (
        "a correction",
        """SELECT call_id, after_micros, facts FROM correction
           WHERE transaction_id > :transaction_after AND transaction_id <= :transaction_until""",
    ),
)
