"""Lineage in the formats of other tools; pure.

May import: document.
Must never import: any other room.
"""

from __future__ import annotations

FORMATS = ("openlineage", "prov", "mermaid", "dot", "html")
