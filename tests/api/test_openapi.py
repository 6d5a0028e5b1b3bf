"""The description of the API, for programs and for people."""

from __future__ import annotations

import re

from fastapi import FastAPI
from starlette.testclient import TestClient

from billing.access import SCOPES
from tests.api.conftest import PREFIX
from tests.api.routes import operations
from web.api.docs import example_of
from web.api.problems import CODES


def test_every_operation_says_all_of_itself(app: FastAPI, client: TestClient) -> None:
    """A scope that exists (but for /me), words, an answer with examples, and every problem it can have."""
    document = client.get(f"{PREFIX}/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    shapes = document["components"]["schemas"]
    for operation in operations(app):
        told = document["paths"][operation.path][operation.method.lower()]
        assert operation.name == "who_am_i" or operation.scope in SCOPES, operation.name
        assert told["description"].endswith("."), operation.name
        assert {"401", "403", "404", "422", "429", "503"} <= set(told["responses"]), operation.name
        for status, answer in told["responses"].items():
            if not status.startswith("2"):
                assert set(answer["content"]) == {"application/problem+json"}, (operation.name, status)
        if "application/json" in told.get("requestBody", {}).get("content", {}):
            sent = told["requestBody"]["content"]["application/json"]["schema"]
            example = example_of(sent, shapes)
            assert example, operation.name
            assert {"400", "413", "415"} <= set(told["responses"])
        if operation.once:
            assert {"409", "422"} <= set(told["responses"])
            assert "still_running" in told["responses"]["409"]["description"]
    assert "HTTPValidationError" not in shapes


def test_the_page_shows_every_operation_and_code_and_loads_nothing_from_elsewhere(
    app: FastAPI, client: TestClient
) -> None:
    """No script, no style and no address of another host; each operation and each code can be linked to."""
    answer = client.get(f"{PREFIX}/docs")
    assert answer.status_code == 200
    for operation in operations(app):
        assert f'id="{operation.name}"' in answer.text
    for code in CODES:
        assert f'id="code-{code}"' in answer.text
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert re.findall(r'(?:src|href)="(https?:[^"]*)"', answer.text) == []
    assert "unsafe" not in answer.headers["content-security-policy"]
