"""One offline folder: ``index.html``, ``report.json``, ``board.csv`` and the pictures. No script, no network."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from .. import images
from ..errors import InputError, StoreError
from . import figures, maps, tables
from .schema import Report
from .synergy import synergy

COLUMNS = 5


def write(report: Report, pictures: Mapping[str, NDArray[Any]], out: Path, beside: Report | None = None) -> Path:
    """Write the report's folder; an older report there is replaced only when the new one is complete.

    Args:
        report: what to show.
        pictures: for each ``picture`` key of ``report.gallery`` a picture ``(h, w, 3)`` or ``(h, w)``
            uint8, several of them ``(n, h, w, 3)`` uint8, or heat maps ``(h, w)`` or ``(n, h, w)`` float.
        out: the folder, made if it is missing.
        beside: another report, whose networks' box plots are drawn beside this one's; nothing else of it is shown.

    Returns:
        The path of ``index.html``.

    Raises:
        InputError: a picture is missing or has a wrong shape, or ``out`` holds something else.
        StoreError: the folder cannot be written.
    """
    check_place(out, "report.json")
    files, sizes = {}, {}
    for row in report.gallery:
        if not row.picture and row.texts:
            continue
        if row.picture not in pictures:
            raise InputError(f"report: the gallery names the picture {row.picture!r}, which was not given")
        if row.picture not in files:
            array = _flat(row.picture, pictures[row.picture])
            files[row.picture] = (_file_name(row.picture), images.png(array))
            sizes[files[row.picture][0]] = (array.shape[1], array.shape[0])
    gallery = [
        row.model_copy(update={"file": files[row.picture][0]}) if row.picture in files else row
        for row in report.gallery
    ]
    report = report.model_copy(update={"gallery": gallery})
    content = {
        "index.html": html(report, sizes, beside).encode(),
        "report.json": (report.model_dump_json(indent=1) + "\n").encode(),
        "board.csv": tables.board_csv(report).encode(),
        **dict(files.values()),
    }
    return publish(content, out)


def check_place(out: Path, mark: str) -> None:
    """Refuse a folder that holds something other than an older report, which the file ``mark`` tells.

    Raises:
        InputError: it does.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / mark).is_file()):
        raise InputError(f"{out}: holds something that is not a report; name a new folder")


def publish(content: Mapping[str, bytes], out: Path) -> Path:
    """Write a report's files, all or none; an older report there goes. The path of ``index.html``.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        _replace(content, out)
    except OSError as error:
        raise StoreError(
            f"{out}: the report cannot be written ({error.strerror}); free space or name another"
        ) from error
    return out / "index.html"


def render(template: str, **values: Any) -> str:
    """A page from a template of ours, with the style inside and a policy that lets it load nothing but its pictures."""
    env = _environment()
    css = env.loader.get_source(env, "style.html.j2")[0] if env.loader else ""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src 'self'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return env.get_template(template).render(css=Markup(css), policy=policy, **values)  # our own file; it holds no data


def html(report: Report, sizes: Mapping[str, tuple[int, int]] | None = None, beside: Report | None = None) -> str:
    """The page as text; ``sizes`` gives width and height of each picture file, ``beside`` is as in `write`."""
    return render(
        "index.html.j2",
        report=report,
        sizes=sizes or {},
        boards=tables.boards(report),
        facts=tables.facts(report),
        found=figures.found(report),
        beside=tables.beside(report),
        synergy=synergy(report),
        heat=figures.heat_map(report),
        side_by_side=figures.side_by_side(report),
        attribution=figures.attribution(report),
        box_plots=maps.box_plots(report, beside),
        map_tables=maps.map_tables(report),
        reading_lines=maps.reading_lines(report),
        exhibits=tables.exhibits(report),
    )


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("gifthorse.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(
        fixed=tables.fixed, percent=tables.percent, number=tables.number, size=tables.size, signed=tables.signed
    )
    env.globals.update(difference=tables.difference)
    return env


def _file_name(key: str) -> str:
    """A safe file name for any key: what can be read of it, and a digest that keeps keys apart."""
    stem = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")[:60]
    return f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.png"


def _flat(key: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """Any accepted picture as ``(h, w, 3)`` or ``(h, w)`` uint8; several become a sheet."""
    if array.size == 0:
        raise InputError(f"report picture {key!r}: is empty, shape {array.shape}")
    if np.issubdtype(array.dtype, np.floating) and array.ndim in (2, 3):
        array = _heat(array if array.ndim == 3 else array[None])
    if array.dtype == np.uint8:
        if array.ndim == 4 and array.shape[-1] == 3:
            return images.sheet(array, min(COLUMNS, len(array)))
        if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3):
            return array
    raise InputError(f"report picture {key!r}: want uint8 pictures or float maps, got {array.dtype} {array.shape}")


def _heat(maps: NDArray[Any]) -> NDArray[np.uint8]:
    """Maps ``(n, h, w)`` as pictures, black over orange to white, each scaled to its own range."""
    maps = np.nan_to_num(maps.astype(np.float64))
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    t = (maps - low) / np.maximum(high - low, 1e-12)
    rgb = np.stack([np.clip(2.2 * t, 0, 1), np.clip(1.6 * t - 0.4, 0, 1), np.clip(3 * t - 2, 0, 1)], -1)
    return np.asarray(np.round(rgb * 255), np.uint8)


def _replace(content: Mapping[str, bytes], out: Path) -> None:
    """Write files beside ``out`` and swap the folders, so that no half report is ever seen."""
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    new, old = (out.parent / f".{out.name}-{os.getpid()}-{what}" for what in ("new", "old"))
    try:
        new.mkdir()
        for name, data in content.items():
            (new / name).write_bytes(data)
        if out.exists():
            out.replace(old)
        new.replace(out)
    finally:
        if old.exists() and not out.exists():
            old.replace(out)
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
