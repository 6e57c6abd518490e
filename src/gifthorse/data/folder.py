"""`ImageFolder`: photographs on disk, one sub-folder per class."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import images as pictures
from ..errors import InputError
from ..rng import generator
from ..types import Pictures, Scenes
from . import openmoji

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
TEST_SHARE = 5  # one file name in five is test
BANK_SIZE = 96


def split_of(file_name: str) -> str:
    """``"train"`` or ``"test"``, by a hash of the file name alone: adding files moves none."""
    return "test" if int(hashlib.sha256(os.fsencode(file_name)).hexdigest(), 16) % TEST_SHARE == 0 else "train"


def _shown(path: Path) -> bool:
    """Not hidden, and a file; a dangling link counts, so that reading it says what is wrong."""
    return not path.name.startswith(".") and (path.is_file() or path.is_symlink())


@lru_cache(maxsize=8)
def _listing(root: str) -> dict[str, tuple[Path, ...]]:
    """Class name -> picture files, both sorted. Hidden files and files of other types are passed over."""
    top = Path(os.path.expanduser(root))  # leaves the "~" of an unknown user as it is
    if not top.is_dir():
        what = "is a file, not a folder" if top.exists() else "does not exist"
        raise InputError(f"{top}: {what}; give a folder with one sub-folder of pictures per class")
    try:
        folders = sorted(p for p in top.iterdir() if p.is_dir() and not p.name.startswith("."))
        found = {
            folder.name: tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and _shown(p)))
            for folder in folders
        }
    except OSError as error:
        raise InputError(
            f"{error.filename or top}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    if len(found) < 2:
        raise InputError(f"{top}: {len(found)} class folders found, at least 2 are needed; put each class in its own")
    for name, files in found.items():
        if not name.isprintable():
            raise InputError(f"{top}: the class folder {name!r} has no plain UTF-8 name; rename it")
        if not files:
            raise InputError(f"{top / name}: no PNG, JPEG or WebP picture in this class; add some or remove the folder")
    return found


@dataclass(frozen=True)
class ImageFolder:
    """Pictures read from a folder with one sub-folder per class.

    Attributes:
        root: the folder; names of its sub-folders, sorted, are the classes.
        size: side in pixels; pictures are resized by their short side and centre cropped.
    """

    name: ClassVar[str] = "folder"
    version: ClassVar[int] = 1
    root: str = ""
    size: int = 224

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", str(self.root))
        if not self.root:
            raise InputError("dataset 'folder': no root given; name a folder with one sub-folder of pictures per class")
        if not isinstance(self.size, int) or not 16 <= self.size <= 1024:
            raise InputError(f"dataset 'folder': size must be a whole number from 16 to 1024, got {self.size!r}")
        _listing(self.root)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the sub-folders, sorted; the index of a name is its label."""
        return tuple(_listing(self.root))

    def files(self, split: str) -> tuple[tuple[Path, int], ...]:
        """Files of a split with their labels, in order of class and name.

        Raises:
            InputError: no such split, or no picture falls into it.
        """
        if split not in ("train", "test"):
            raise InputError(f"dataset 'folder': no split is called {split!r}; use 'train' or 'test'")
        classes = _listing(self.root).values()
        out = tuple((p, i) for i, files in enumerate(classes) for p in files if split_of(p.name) == split)
        if not out:
            raise InputError(f"{self.root}: no picture falls into the {split} split; add more pictures")
        return out

    @property
    def used_codes(self) -> frozenset[str]:
        """Code points of the OpenMoji drawings in the pictures: none."""
        return frozenset()

    def supply(self, split: str) -> NDArray[np.int64]:
        """``(classes,)`` how many pictures of each class a split holds; some may hold none.

        Raises:
            InputError: no such split, or it is empty.
        """
        return np.bincount([label for _, label in self.files(split)], minlength=len(self.classes))

    def scenes(self, split: str, n: int, seed: int, *, labels: NDArray[np.int64] | None = None) -> Scenes:
        """``n`` pictures of a split; the same call on the same files gives the same bytes.

        No picture repeats before every picture (of the split, or of the class that is asked for) was used.

        Args:
            split: ``"train"`` or ``"test"``, decided by a hash of the file name.
            n: how many.
            seed: seed of the draw.
            labels: ``(n,)`` the class of each picture, or None to draw from all pictures evenly.

        Returns:
            Scenes whose masks are True everywhere, because objects are not outlined.

        Raises:
            InputError: a file cannot be read, or a class that is asked for has no picture in the split.
        """
        files = self.files(split)
        if n < 0:
            raise InputError(f"dataset 'folder': cannot draw {n} pictures; ask for 0 or more")
        if labels is None:
            chosen = _cycle(np.arange(len(files)), n, generator(seed, "folder", split, "order"))
        else:
            chosen = self._choose(files, split, n, seed, np.asarray(labels, np.int64))
        images = np.empty((n, self.size, self.size, 3), np.uint8)
        done: dict[int, int] = {}
        for i, k in enumerate(chosen.tolist()):
            images[i] = images[done[k]] if k in done else pictures.read(files[k][0], self.size)
            done.setdefault(k, i)
        found = np.array([files[k][1] for k in chosen], np.int64)
        return Scenes(images, found, np.ones((n, self.size, self.size), np.bool_), ((),) * n)

    def _choose(
        self, files: tuple[tuple[Path, int], ...], split: str, n: int, seed: int, labels: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Index into ``files`` for each wanted label."""
        total = len(self.classes)
        if labels.shape != (n,) or (n and not 0 <= labels.min() <= labels.max() < total):
            raise InputError(f"dataset 'folder': labels must be {n} class indices from 0 to {total - 1}")
        of = np.array([label for _, label in files])
        chosen = np.empty(n, np.int64)
        for label in np.unique(labels):
            own = np.flatnonzero(of == label)
            if not len(own):
                where = Path(self.root) / self.classes[label]
                raise InputError(f"{where}: no picture falls into the {split} split; add more pictures")
            at = np.flatnonzero(labels == label)
            chosen[at] = _cycle(own, len(at), generator(seed, "folder", split, self.classes[label]))
        return chosen

    def bank(self) -> tuple[tuple[str, ...], Pictures]:
        """Single objects to search: every named OpenMoji drawing, ``(n, s, s, 3)`` with s at most 96."""
        return openmoji.bank(min(self.size, BANK_SIZE))


def _cycle(items: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``n`` items: whole shuffled rounds, then a part of one."""
    rounds = -(-n // len(items))
    return np.concatenate([rng.permutation(items) for _ in range(rounds)] or [items[:0]])[:n]
