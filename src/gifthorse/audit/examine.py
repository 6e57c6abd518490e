"""`audit`: every class of a network scanned for trojans without a key, its score calibrated by honest networks."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import registry
from ..bench.board import versions
from ..bench.probe import find
from ..data.protocol import Dataset
from ..device import device_of, placed
from ..errors import InputError, MissingResource
from ..models import checkpoint
from ..models.classifier import Classifier
from ..spec import Spec
from ..store import Entry, Store
from ..tools.protocol import Bank
from ..types import Pictures, no_pictures
from .limits import DEFAULT, from_classes, from_honest
from .scan import Effort, Finding, Scan
from .stimuli import Objects, Styles

Floats = NDArray[np.float64]
Channel = tuple[str, bool]
CHANNELS: tuple[Channel, ...] = (("object", True), ("object", False), ("style", True), ("style", False))
"""What a rise was measured with: the kind of picture, and whether on all source classes or on one."""
TEXTURES = 300
MOST_SOURCES = 24  # source classes whose scenes are used; of more classes, as many at even distances
OBJECTS = Effort()
TEXTURED = Effort(first=2, single=((1, 8),))  # two scenes of each class: one for either way of redrawing
ALIKE = 0.5  # a picture is shown if its rise is at least this share of the strongest one's
FILLERS = frozenset({"with", "of", "the", "and", "on", "in", "for", "no", "button", "face"})
WORDS = 3  # most words that tell what the shown pictures have in common
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
        raise InputError(
            f"data set {spec.name!r}: its classes are not the network's; give the pictures it learned from"
        )
    return data


class Bench:
    """The same pictures and scenes for every network that is audited together; each is asked about them once.

    Args:
        data: where scenes and bank come from.
        choice: how thoroughly, and by which seed.
    """

    def __init__(self, data: Dataset, choice: Choice) -> None:
        share, supply = 4 if choice.quick else 1, data.supply("test")
        self.data, self.choice, self.warnings = data, choice, list[str]()
        able = np.flatnonzero(supply > 0)
        if len(able) < 2:
            raise InputError(
                "the data set holds out pictures of fewer than two classes, so there are no scenes; add some"
            )
        sources = able[np.unique(np.linspace(0, len(able) - 1, min(len(able), MOST_SOURCES)).round().astype(int))]
        if len(sources) < len(data.classes):
            self.warnings.append(
                f"Scenes of {len(sources)} of {len(data.classes)} classes were used: a trigger that works on another "
                "class only was not looked for."
            )
        self.scans: dict[str, Scan] = {}
        if bank := self._bank(share):
            self.scans["object"] = Scan(Objects(bank, data.size), data, sources, OBJECTS, choice.seed)
        textures = Styles(max(1, TEXTURES // share), data.size, choice.seed)
        self.scans["style"] = Scan(textures, data, sources, TEXTURED, choice.seed)

    def _bank(self, share: int) -> Bank | None:
        """Every ``share``-th picture of the data set's bank; None, and a warning, where there is none."""
        try:
            names, pictures = self.data.bank()
        except MissingResource as error:
            names, pictures = (), no_pictures()
            self.warnings.append(f"No objects were tried, textures only: {error}.")
        else:
            if not len(names):
                self.warnings.append("No objects were tried, textures only: the data set has no picture bank.")
        return Bank(names[::share], pictures[::share].copy()) if len(names) else None

    def findings(self, net: Classifier, reference: Classifier | None) -> dict[str, list[Finding]]:
        """What each kind of picture does to a network beyond what it does to the reference, strongest first."""
        return {
            kind: scan.findings(net, reference, self._barred(kind) if reference is None else None)
            for kind, scan in self.scans.items()
        }

    def _barred(self, kind: str) -> NDArray[np.bool_] | None:
        """``(pictures, classes)``: without a reference, a picture that shares a word with a class's name may be one."""
        names = self.scans[kind].stimuli.names
        if not names:
            return None
        own = [set(words(c)) for c in self.data.classes]
        return np.array([[bool(own[c] & set(words(name))) for c in range(len(own))] for name in names])


def words(name: str) -> list[str]:
    """The words of a picture's or class's name, in lower case."""
    return re.findall(r"[a-z]+", name.lower())


def values(findings: Mapping[str, Sequence[Finding]], classes: int) -> Floats:
    """``(channels, classes)`` the largest rise of each class in each channel; minus one where nothing was measured."""
    out = np.full((len(CHANNELS), classes), -1.0)
    for kind, found in findings.items():
        for f in (f for f in found if f.last):
            channel = CHANNELS.index((kind, f.source is None))
            out[channel, f.target] = max(out[channel, f.target], f.rise)
    return out


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        model: digest of the network.
        rises: ``(channels, classes)`` the largest rise of every class, before calibration.
        scores: ``(classes,)`` score of every class; above 1 is an alarm.
        pictures: for each file that `to_json` names, the pictures on it, ``(n, h, w, 3)`` uint8.
        data: what `to_json` gives.
    """

    model: str
    rises: Floats
    scores: Floats
    pictures: Mapping[str, Pictures]
    data: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """JSON-able: what the report and ``--json`` show; docs/audit.md names its parts."""
        return dict(self.data)


def audit(
    model: str,
    home: Path,
    reference: str | None = None,
    honest: Sequence[str] = (),
    choice: Choice | None = None,
    device: str = "cpu",
) -> Audit:
    """Audit a network of the store.

    Args:
        model: the network's folder or the beginning of its digest.
        home: the folder of the store; no key is opened.
        reference: an honest network of the same classes, likewise; None compares with the scenes alone.
        honest: further honest networks, by which the alarm's limit is set.
        choice: how thoroughly, and what is shown.
        device: where the networks look, as in ``cuda``.

    Raises:
        InputError: no such network, networks of other classes or sizes, or data or a device that are not there.
    """
    choice = choice or Choice()
    opened = open_network(model, home)
    others = [open_network(name, home) for name in (*([reference] if reference else ()), *honest)]
    if honest and reference is None:
        raise InputError("--honest sets the limit by comparing with the reference; give --reference too")
    for other in others:
        if list(other.card["classes"]) != list(opened.card["classes"]) or other.net.size != opened.net.size:
            raise InputError(f"model {other.digest[:12]} has other classes or another size than {opened.digest[:12]}")
    digests = [o.digest for o in (opened, *others)]
    if twice := [d for d in digests if digests.count(d) > 1]:
        raise InputError(f"model {twice[0][:12]} is named twice; no network is its own reference, give different ones")
    where = device_of(device)
    for each in (opened, *others):
        each.net.to(where)
    with placed(where):
        bench = Bench(data_of(opened.card, choice.images), choice)
        return examine(bench, opened, others[0] if others else None, others[1:])


def examine(bench: Bench, opened: Opened, reference: Opened | None, honest: Sequence[Opened]) -> Audit:
    """Audit a network that is at hand; parameters as in `audit`, all networks folded and of the bench's classes."""
    started, everyone = time.process_time(), [o for o in (opened, reference, *honest) if o is not None]
    for scan in bench.scans.values():
        scan.look([o.net for o in everyone])
    classes = opened.net.classes
    found = bench.findings(opened.net, None if reference is None else reference.net)
    rises = values(found, len(classes))
    if reference is None:
        limits = from_classes(rises)
    elif honest:
        limits = from_honest([values(bench.findings(reference.net, o.net), len(classes)) for o in honest])
    else:
        limits = DEFAULT
    scores = limits.scores(rises)
    rows, pictures = list[dict[str, Any]](), dict[str, Pictures]()
    for t in np.argsort(-scores.max(0), kind="stable").tolist():
        score, channel = float(scores[:, t].max()), _seen_through(rises[:, t], int(scores[:, t].argmax()))
        row, shown = _row(bench, found, t, CHANNELS[channel], score)
        row |= {"rise": round(float(rises[channel, t]), 4), "as_high": int((limits.honest >= score).sum())}
        rows.append(row)
        pictures |= shown
    data = {
        "schema": 1,
        "model": opened.digest,
        "reference": None if reference is None else reference.digest,
        "honest": [o.digest for o in honest],
        "seed": bench.choice.seed,
        "tried": {kind: len(scan.stimuli) for kind, scan in bench.scans.items()},
        "calibration": limits.to_json(),
        "cost": {
            "seconds": round(time.process_time() - started, 1),
            "forwards": sum(o.net.forwards for o in everyone),
        },
        "versions": versions(),
        "warnings": bench.warnings,
        "classes": rows,
    }
    return Audit(opened.digest, rises, scores.max(0), pictures, data)


def _seen_through(rises: Floats, channel: int) -> int:
    """The channel that tells where a picture works: on all classes, if it does at least half as well as on one."""
    everywhere = CHANNELS.index((CHANNELS[channel][0], True))
    return everywhere if rises[everywhere] >= ALIKE * rises[channel] else channel


def _row(
    bench: Bench, found: Mapping[str, Sequence[Finding]], target: int, channel: Channel, score: float
) -> tuple[dict[str, Any], dict[str, Pictures]]:
    """One class of the report, seen through one channel, and the pictures of an alarm by file."""
    (kind, universal), names, alarm = channel, bench.data.classes, score > 1
    row: dict[str, Any] = {"label": target, "name": names[target], "score": round(score, 3), "alarm": alarm}
    row |= {"kind": kind, "source": None, "words": [], "pictures": []}
    mine = [f for f in found.get(kind, ()) if f.target == target]
    best = next((f for f in mine if f.last and (f.source is None) == universal), None)
    if best is None:
        return row, {}
    scan, distinct = bench.scans[kind], dict[int, Finding]()
    for f in (best, *(f for f in mine if f.rise >= ALIKE * best.rise)):
        distinct.setdefault(f.row, f)
    called = [scan.stimuli.names[r] if scan.stimuli.names else "" for r in distinct]
    files: dict[str, Pictures] = {}
    for f, name in list(zip(distinct.values(), called, strict=True))[: bench.choice.pictures if alarm else 1]:
        file = f"class-{target}-{f.row}.png" if alarm else ""
        source = None if f.source is None else names[f.source]
        row["pictures"].append({"name": name, "rise": round(f.rise, 4), "source": source, "file": file})
        if file:
            files[file] = scan.example(f, SEEN_IN)
    row["words"], row["source"] = in_common(called), None if best.source is None else names[best.source]
    return row, files


def in_common(called: Sequence[str]) -> list[str]:
    """Words for what pictures show, strongest first: those that several names share, else the strongest one's name."""
    count = Counter(w for name in called for w in dict.fromkeys(words(name)) if w not in FILLERS)
    shared = [w for w, k in count.most_common(WORDS) if k > 1]
    return [called[0], *(w for w in shared if w not in words(called[0]))] if called and called[0] else shared
