"""The store: immutable folders named by the digest of what made them.

``HOME/store/v1/<kind>/ab/abcd.../`` holds a payload, ``provenance.json`` and ``manifest.json`` (SHA-256
of every file). A folder is written beside its place and moved there by one rename, so it is either
complete or absent; two writers need no lock. Provenance (time, versions, seconds) is in no digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StoreError

KINDS = ("model", "exhibits", "evidence", "answers", "score", "resource")
MANIFEST = "manifest.json"
STALE_SECONDS = 24 * 3600.0


def default_home() -> Path:
    """``$GIFTHORSE_HOME``, or ``gifthorse`` in the user's cache folder."""
    given = os.environ.get("GIFTHORSE_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else cache / "gifthorse"


@dataclass(frozen=True)
class Entry:
    """One complete folder of the store; ``bytes`` counts its payload."""

    kind: str
    digest: str
    path: Path
    bytes: int


class Store:
    """Content-addressed folders under ``home``.

    Args:
        home: the folder that holds ``store``, ``keys`` and ``runs``; created when first written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "store" / "v1"

    def path(self, kind: str, digest: str) -> Path:
        """Where a folder lives, whether it exists or not."""
        if kind not in KINDS:
            raise StoreError(f"the store has no kind {kind!r}; known: {', '.join(KINDS)}")
        return self.root / kind / digest[:2] / digest

    def get(self, kind: str, digest: str) -> Path | None:
        """The folder of a digest, or None while it is not complete."""
        path = self.path(kind, digest)
        return path if (path / MANIFEST).is_file() else None

    def need(self, kind: str, digest: str) -> Path:
        """The folder of a digest, every file checked against its checksum.

        Raises:
            StoreError: it is not there, or a file is not as it was written.
        """
        path = self.get(kind, digest)
        if path is None:
            raise StoreError(f"{kind} {digest[:12]} is not in {self.root}; run `gifthorse bench run` again")
        problems = self.verify(Entry(kind, digest, path, 0))
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise StoreError(f"{problems[0]}{more}; delete the folder {path} and run the same command again")
        return path

    def put(self, kind: str, digest: str, write: Callable[[Path], None]) -> Path:
        """Write a folder and move it into place; the first complete writer wins.

        Args:
            kind: one of `KINDS`.
            digest: name of the folder.
            write: fills the temporary folder it is given.

        Returns:
            The final folder.

        Raises:
            StoreError: the disk is full or the place cannot be written.
        """
        final = self.path(kind, digest)
        if self.get(kind, digest):
            return final
        temp = self.root / "tmp" / f"{kind}-{digest[:12]}-{os.getpid()}-{secrets.token_hex(4)}"
        started = time.time()
        try:
            temp.mkdir(parents=True)
            write(temp)
            _write_json(temp / "provenance.json", provenance(time.time() - started))
            sums = {name: _sha256(temp / name) for name in _files(temp)}
            _write_json(temp / MANIFEST, {"schema": 1, "kind": kind, "digest": digest, "files": sums})
            final.parent.mkdir(parents=True, exist_ok=True)
            self._place(temp, final)
        except OSError as error:
            raise StoreError(
                f"cannot write {kind} {digest[:12]} under {self.root}: {error.strerror or error}; "
                "free some space or set GIFTHORSE_HOME to another disk"
            ) from error
        finally:
            shutil.rmtree(temp, ignore_errors=True)
        return final

    def _place(self, temp: Path, final: Path) -> None:
        """Rename into place; a damaged folder without manifest is moved out of the way first."""
        if final.exists() and not (final / MANIFEST).is_file():
            shutil.rmtree(final, ignore_errors=True)
        try:
            temp.rename(final)
        except OSError:
            if not (final / MANIFEST).is_file():
                raise

    def ls(self) -> Iterator[Entry]:
        """Every complete folder, by kind and digest."""
        for kind in KINDS:
            for manifest in sorted((self.root / kind).glob(f"*/*/{MANIFEST}")):
                folder = manifest.parent
                size = sum((folder / name).stat().st_size for name in _files(folder))
                yield Entry(kind, folder.name, folder, size)

    def verify(self, entry: Entry) -> list[str]:
        """What is wrong with a folder, one line each; empty when every file is as written."""
        try:
            data = json.loads((entry.path / MANIFEST).read_text())
            sums = dict(data["files"])
            found = set(_files(entry.path)) - {MANIFEST}
            changed = {name for name in found & set(sums) if _sha256(entry.path / name) != sums[name]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            return [f"{entry.path / MANIFEST}: unreadable ({error})"]
        problems = [] if data.get("digest") == entry.digest else [f"{entry.path}: the manifest names another digest"]
        problems += [f"{entry.path / name}: not in the manifest" for name in sorted(found - set(sums))]
        problems += [f"{entry.path / name}: missing" for name in sorted(set(sums) - found)]
        return problems + [f"{entry.path / name}: changed since it was written" for name in sorted(changed)]

    def remove(self, entry: Entry) -> None:
        """Delete one folder; the manifest goes first, so that a cut leaves an incomplete folder."""
        (entry.path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(entry.path, ignore_errors=True)

    def gc(self, keep: Collection[str], dry: bool = False) -> list[Entry]:
        """Delete folders whose digest is not in ``keep``, and temporary folders older than a day.

        Returns:
            The folders deleted (or that would be, when ``dry``).
        """
        doomed = [entry for entry in self.ls() if entry.digest not in keep]
        if not dry:
            for entry in doomed:
                self.remove(entry)
            for temp in self._litter():
                if temp.is_dir():
                    shutil.rmtree(temp, ignore_errors=True)
                else:
                    temp.unlink(missing_ok=True)
        return doomed

    def _litter(self) -> Iterator[Path]:
        """What killed processes left behind: temporary files and folders older than a day."""
        for folder, pattern in ((self.root / "tmp", "*"), (self.home / "partial", ".*"), (self.home / "keys", "*.tmp")):
            for temp in folder.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - temp.stat().st_mtime > STALE_SECONDS:
                        yield temp


def provenance(seconds: float) -> dict[str, Any]:
    """Where and when something was computed: kept beside results, never in a digest."""
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(seconds, 3),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def read_json(path: Path) -> Any:
    """A JSON file of the store.

    Raises:
        StoreError: missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: unreadable ({error}); delete its folder and run the same command again") from error


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
