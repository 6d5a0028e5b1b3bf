"""The documentation page: the OpenAPI document for people, made on the server, with nothing from anywhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from billing.access import SCOPES
from web.api.problems import CODES
from web.context import panel_of

METHODS = ("get", "post", "put", "patch", "delete")
MOST_DEPTH = 8
TITLES = {
    "keys": "Keys",
    "accounts": "Accounts",
    "money": "Money",
    "corrections": "Corrections",
    "calls": "Live calls",
    "cdrs": "Call records",
    "reratings": "Re-rating",
    "tariffs": "Tariffs",
    "plans": "Plans, bundles, carriers",
    "alerts": "Alerts",
    "fraud": "Fraud guard",
    "users": "People",
    "vouchers": "Vouchers",
    "webhooks": "Webhooks",
    "audit": "Audit log",
    "books": "Books",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One part of an address or a header."""

    name: str
    place: str
    kind: str
    about: str
    required: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation as the page shows it. Examples are JSON as text, "" where there is none."""

    name: str
    method: str
    path: str
    about: str
    scope: str
    parameters: tuple[Parameter, ...]
    body: str
    answer_status: str
    answer: str
    problems: tuple[tuple[str, str], ...]


def groups_of(document: Mapping[str, Any]) -> list[tuple[str, str, list[Entry]]]:
    """Return the operations by tag: (tag, title, entries), in the order in which the app has them."""
    shapes = document["components"]["schemas"]
    found: dict[str, list[Entry]] = {}
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                told = methods[method]
                found.setdefault(told["tags"][0], []).append(_entry(method, path, told, shapes))
    return [(tag, TITLES.get(tag, tag), entries) for tag, entries in found.items()]


def example_of(shape: Mapping[str, Any], shapes: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value that fits a schema: its own example where it has one."""
    if depth > MOST_DEPTH:
        return None
    if "$ref" in shape:
        return example_of(shapes[shape["$ref"].rpartition("/")[2]], shapes, depth + 1)
    told = next((shape[key][0] for key in ("examples", "enum") if shape.get(key)), shape.get("default"))
    if told is not None:
        return told
    choice = next((shape[key][0] for key in ("anyOf", "oneOf", "allOf") if shape.get(key)), None)
    return _of_type(shape, shapes, depth) if choice is None else example_of(choice, shapes, depth + 1)


def _of_type(shape: Mapping[str, Any], shapes: Mapping[str, Any], depth: int) -> Any:
    match shape.get("type"):
        case "object":
            members = shape.get("properties", {})
            return {name: example_of(member, shapes, depth + 1) for name, member in members.items()}
        case "array":
            return [example_of(shape.get("items", {}), shapes, depth + 1)]
        case "integer" | "number":
            return shape.get("minimum", 1)
        case "boolean":
            return False
        case "string":
            return "2026-11-23T12:00:00Z" if shape.get("format") == "date-time" else ""
    return None


def _entry(method: str, path: str, told: Mapping[str, Any], shapes: Mapping[str, Any]) -> Entry:
    sent = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    answers = {status: answer for status, answer in told["responses"].items() if status.startswith("2")}
    status = next(iter(answers), "")
    shape = answers.get(status, {}).get("content", {}).get("application/json", {}).get("schema")
    return Entry(
        name=told["operationId"],
        method=method.upper(),
        path=path,
        about=told.get("description", ""),
        scope=told.get("x-scope", ""),
        parameters=tuple(_parameter(one) for one in told.get("parameters", ())),
        body="" if sent is None else _json(example_of(sent, shapes)),
        answer_status=status,
        answer="" if shape is None else _json(example_of(shape, shapes)),
        problems=tuple((code, of["description"]) for code, of in told["responses"].items() if not code.startswith("2")),
    )


def _parameter(told: Mapping[str, Any]) -> Parameter:
    shape = told.get("schema", {})
    kind = shape.get("type") or " or ".join(one.get("type", "") for one in shape.get("anyOf", ()) if one) or "text"
    return Parameter(
        told["name"],
        told["in"],
        kind.replace(" or null", ""),
        told.get("description", ""),
        bool(told.get("required")) or told["in"] == "path",
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


@cache
def _codes() -> list[tuple[str, int, str]]:
    return [(code, status, sentence) for code, (status, sentence) in CODES.items()]


async def docs_page(request: Request) -> Response:
    """Show what the API can do."""
    document = request.app.openapi()
    about = document["info"]["description"].split("\n\n")
    return panel_of(request).renderer.page(
        "api_docs.html",
        {"groups": groups_of(document), "codes": _codes(), "about": about, "scopes": SCOPES},
    )
