"""Lineage in the formats of other tools, each a pure function."""

from __future__ import annotations

FORMATS = ("openlineage", "prov", "mermaid", "dot", "html")
