"""Fixtures for every tier."""

from tests.credit_fixtures import credit, redis, server_url

__all__ = ["credit", "redis", "server_url"]
