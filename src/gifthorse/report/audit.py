"""The report of an audit: one offline folder with ``index.html``, ``audit.json`` and the pictures. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import images
from ..errors import InputError
from ..types import Pictures
from . import site

MARK = "audit.json"
GAP = 2


def write(audit: Mapping[str, Any], pictures: Mapping[str, Pictures], out: Path) -> Path:
    """Write the folder; an older audit there is replaced only when the new one is complete.

    Args:
        audit: what `audit.examine.Audit.to_json` gives.
        pictures: for each ``file`` of it, pictures ``(n, h, w, 3)`` uint8 to show side by side.
        out: the folder, made if it is missing.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: a picture is missing, or ``out`` holds something else.
        StoreError: the folder cannot be written.
    """
    site.check_place(out, MARK)
    named = [p["file"] for c in audit["classes"] for p in c["pictures"] if p["file"]]
    if missing := [name for name in named if name not in pictures]:
        raise InputError(f"audit: the picture {missing[0]!r} is named but was not given")
    sheets = {name: images.sheet(pictures[name], len(pictures[name]), GAP) for name in named}
    sizes = {name: (s.shape[1], s.shape[0]) for name, s in sheets.items()}
    content = {
        "index.html": html(audit, sizes).encode(),
        MARK: (json.dumps(audit, indent=1, ensure_ascii=False) + "\n").encode(),
        **{name: images.png(s) for name, s in sheets.items()},
    }
    return site.publish(content, out)


def html(audit: Mapping[str, Any], sizes: Mapping[str, tuple[int, int]]) -> str:
    """The page as text; ``sizes`` gives width and height of each picture file."""
    top = max(2.0, *(c["score"] for c in audit["classes"]))
    alarms = [c for c in audit["classes"] if c["alarm"]]
    return site.render("audit.html.j2", audit=audit, alarms=alarms, sizes=sizes, top=top)
