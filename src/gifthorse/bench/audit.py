"""`audit`: every class of a network scanned for trojans without a key, each with a score that honest networks calibrate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..data.protocol import Dataset
from ..errors import GifthorseError, InputError
from ..images import from_tensor, to_tensor
from ..models import checkpoint
from ..models.classifier import Classifier
from ..rng import child_seed
from ..spec import Spec
from ..stats import wilson
from ..store import Entry, Store
from ..tools.protocol import Bank
from ..types import Pictures
from .probe import find
from .scan import Effort, Finding, Scan
from .stimuli import Objects, Styles

Floats = NDArray[np.float64]
Channel = tuple[str, bool]
CHANNELS: tuple[Channel, ...] = (("object", True), ("object", False), ("style", True), ("style", False))
"""What a rise was measured with: the kind of picture, and whether on all source classes or on one."""
TEXTURES = 500
MOST_SOURCES = 24  # source classes whose scenes are used; of more classes, as many at even distances
SEEN_IN = 2  # scenes of each picture in the report


@dataclass(frozen=True)
class Choice:
    """How an audit is made.

    Attributes:
        quick: a quarter of the bank's pictures and of the textures.
        pictures: pictures shown per class that raises an alarm.
        seed: of scenes, places and textures.
        images: another folder of pictures than the one that the card names; only for data of that kind.
    """

    quick: bool = False
    pictures: int = 5
    seed: int = 0
    images: Path | None = None


@dataclass(frozen=True)
class Opened:
    """A network of the store, folded, with its digest and card."""

    digest: str
    net: Classifier
    card: Mapping[str, Any]


def open_network(model: str, home: Path) -> Opened:
    """A network by its folder or the beginning of its digest, suspect or twin; no key is opened.

    Raises:
        InputError: none or several match, or its files are damaged.
    """
    entry: Entry = find(model, home).entry
    if problems := Store(home).verify(entry):
        raise InputError(f"{problems[0]}; plant the model again")
    net, card = checkpoint.load(entry.path)
    if "data" not in card:
        raise InputError(f"{entry.path}: its card names no data set, so there are no scenes; give a planted model")
    return Opened(entry.digest, net.folded(), card)


def data_of(card: Mapping[str, Any], images: Path | None = None) -> Dataset:
    """The data set that a card names.

    Raises:
        InputError: its pictures are not there, or ``images`` is given for a data set that reads no folder.
    """
    spec = Spec.from_json(card["data"])
    if images is not None:
        if "root" not in spec.params:
            raise InputError(f"--images: the network's data set {spec.name!r} reads no folder; leave it out")
        spec = replace(spec, params={**spec.params, "root": str(images)})
    data: Dataset = registry.build("dataset", spec)
    if list(data.classes) != list(card["classes"]):
        raise InputError(f"data set {spec.name!r}: its classes are not the network's; give the pictures it learned from")
    return data
