"""Every route of the API with a request that is right in itself: what the tests that walk all routes send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount

from web.api.app import PREFIX

METHODS = ("get", "post", "put", "patch", "delete")
BODIES: dict[str, Any] = {
    "add_account": {"name": "New one"},
    "set_status": {"status": "blocked"},
    "change_account": {"max_calls": 2},
    "add_identity": {"kind": "account_code", "value": "new"},
    "add_transfer": {"from_account_id": 2, "to_account_id": 3, "amount": "1.00"},
    "add_adjustment": {"amount": "1.00", "reason": "test"},
    "add_reversal": {"reason": "test"},
    "add_user": {"login": "new one", "role": "support"},
    "change_user": {"disabled": True},
    "add_key": {"name": "new", "scopes": ["money:read"]},
    "add_tariff": {"name": "new", "currency": "EUR"},
    "make_quote": {"account_id": 3, "to": "442071838750", "seconds": 60},
    "add_webhook": {"url": "https://hooks.example.com/x", "events": ["call.ended"]},
    "import_rates": None,
    "add_topup": {"amount": "1.00"},
    "add_voucher_batch": {"name": "new", "number": 1, "worth": "1.00"},
    "redeem_voucher": {"code": "NONE"},
    "set_limits": {"max_calls": 2},
    "set_commission": {"basis": "revenue", "percent": "5"},
    "pay_commission": {"month": "2026-10"},
    "begin_rerating": {"since": "2026-11-01T00:00:00Z", "until": "2026-11-20T00:00:00Z", "reason": "test"},
    "add_bundle": {"name": "300 minutes", "seconds": 18000, "prefixes": ["49"]},
    "add_volume_plan": {"account_id": 3, "name": "flat", "prefixes": ["49"], "fair_s": 60000},
    "set_exchange_rate": {"from_currency": "USD", "to_currency": "EUR", "value": "0.92"},
    "add_carrier": {"name": "Transatlantic", "tariff": "delta special"},
    "change_carrier": {"tariff": "delta special"},
    "add_fraud_rule": {"kind": "spend_day", "action": "warn", "limit": "50.00"},
    "replace_fraud_ranges": None,
    "undo_last_import": {"version": 2},
    "change_tariff": {"name": "newer"},
    "change_webhook": {"paused": True},
    "change_key": {"name": "newer"},
    "add_mail": {"address": "billing@example.com", "events": ["balance.low"]},
    "change_mail": {"paused": True},
    "set_discount": {"percent": "5"},
    "set_own_rate": {"steps": [{"price": "0.02"}]},
    "set_markup": {"from_tariff_id": 2, "percent": "20"},
    "set_account_margin": {"percent": "10"},
    "set_tariff_margin": {"per_min": "0.002"},
    "set_fraud_range": {"label": "test"},
}
"""A body for each operation that takes one."""

PATHS: dict[str, Any] = {
    "kind": "account_code",
    "value": "anna",
    "call_id": "pbx:1.1",
    "key_id": "callctl-none",
    "month": "2026-10",
    "prefix": "88213",
}
"""What stands in a path where no number does."""

QUERIES: dict[str, dict[str, Any]] = {"import_rates": {"tariff_id": 1}}
"""What must stand in a query."""
RAW = {
    "import_rates": "prefix,destination,connect_fee,price\n49,Germany,0,0.60\n",
    "replace_fraud_ranges": "88213,satellite\n",
}
"""What is sent that is no JSON."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path, as the OpenAPI document has it."""

    name: str
    method: str
    path: str
    scope: str | None
    body: Any
    once: bool
    if_match: bool

    @property
    def query(self) -> dict[str, Any]:
        """Return what must stand in its query."""
        return QUERIES.get(self.name, {})

    @property
    def raw(self) -> str:
        """Return what it takes that is no JSON, "" where it takes JSON or nothing."""
        return RAW.get(self.name, "")

    def address(self, **values: Any) -> str:
        """Return the path with its parameters filled in; what is not given is 1."""
        return re.sub(r"{(\w+)}", lambda found: str(values.get(found[1], PATHS.get(found[1], 1))), self.path)

    @property
    def headers(self) -> dict[str, str]:
        """Return what the operation wants besides a key."""
        return {**({"idempotency-key": "walk"} if self.once else {}), **({"if-match": "*"} if self.if_match else {})}


def api_of(app: FastAPI) -> FastAPI:
    """Return the API inside the app."""
    for route in app.routes:
        if isinstance(route, Mount) and route.path == PREFIX:
            assert isinstance(route.app, FastAPI)
            return route.app
    raise AssertionError("there is no API")


def operations(app: FastAPI) -> Iterator[Operation]:
    """Yield all that the API describes."""
    for path, methods in api_of(app).openapi()["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                name = told["operationId"]
                headers = {one["name"].lower() for one in told.get("parameters", ()) if one["in"] == "header"}
                if "requestBody" in told:
                    assert name in BODIES, f"give {name} a body in tests/api/routes.py"
                yield Operation(
                    name,
                    method.upper(),
                    path,
                    told.get("x-scope"),
                    BODIES.get(name),
                    "idempotency-key" in headers,
                    "if-match" in headers,
                )
