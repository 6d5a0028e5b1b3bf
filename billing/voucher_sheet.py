"""Vouchers to hand out: a page to print on A4, and a CSV file. Made while the codes are still known."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable
from typing import Final

from billing.vouchers import BatchView, spaced
from rating.money import format_amount

_STYLE: Final = """
@page { size: A4; margin: 12mm; }
* { box-sizing: border-box; }
body { font: 11pt/1.4 system-ui, sans-serif; margin: 0; color: #111; }
main { display: grid; grid-template-columns: 1fr 1fr; gap: 6mm; }
.voucher { border: 1px dashed #888; border-radius: 3mm; padding: 7mm; break-inside: avoid; min-height: 58mm;
  display: flex; flex-direction: column; justify-content: space-between; }
.brand { font-weight: 600; }
.worth { font-size: 24pt; font-weight: 700; }
.code { font: 600 13pt/1.3 ui-monospace, monospace; letter-spacing: .04em; white-space: nowrap; }
.small { font-size: 8.5pt; color: #555; }
@media screen { body { padding: 10mm; background: #f3f4f6; } .voucher { background: #fff; } }
"""


def sheet(batch: BatchView, codes: Iterable[str], *, brand: str) -> str:
    """Return a whole HTML page that needs nothing else."""
    worth = f"{format_amount(batch.face_micros, decimals=2)} {batch.currency}"
    until = f"Valid until {batch.expires_at:%Y-%m-%d %H:%M} UTC" if batch.expires_at else "Valid once"
    cards = "\n".join(
        f'<section class="voucher"><div class="brand">{html.escape(brand)}</div>'
        f'<div class="worth">{html.escape(worth)}</div><div class="code">{html.escape(spaced(code))}</div>'
        f'<div class="small">{html.escape(until)} · {html.escape(batch.name)} · …{html.escape(code[-4:])}</div>'
        "</section>"
        for code in codes
    )
    title = html.escape(f"{batch.name}: {batch.number} vouchers of {worth}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body><main>\n{cards}\n</main></body></html>\n"
    )


def sheet_csv(batch: BatchView, codes: Iterable[str]) -> str:
    """Return a line for each code: code, worth, currency, the day it expires."""
    out = io.StringIO()
    written = csv.writer(out, lineterminator="\n")
    written.writerow(("code", "worth", "currency", "expires_at"))
    until = batch.expires_at.isoformat().replace("+00:00", "Z") if batch.expires_at else ""
    written.writerows((spaced(code), format_amount(batch.face_micros), batch.currency, until) for code in codes)
    return out.getvalue()
