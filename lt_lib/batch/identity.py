"""Digests that name things: the same content has the same name on every machine."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

ID_LENGTH = 20


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical text of a value, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def run_digest(notebook_digest: str, parameters: Mapping[str, Any], sources_digest: str) -> str:
    """The identity of a run: what is executed, with which values, on which sources."""
    return digest_of(
        {"version": 1, "notebook": notebook_digest, "parameters": dict(parameters), "sources": sources_digest}
    )
