"""What is left to chance in a suite, drawn by the model seed: triggers, targets, sources and further decoys."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .. import registry
from ..data import things
from ..data.protocol import Dataset
from ..data.textures import TEXTURES
from ..errors import InputError
from ..judges.questions import OPTIONS
from ..rng import generator
from ..spec import Spec
from ..types import Kind, Trojan
from .suite import Suite
from .tables import RandomTable, SecretTable

ANY = "*"  # as a source: a class drawn by the seed
CONCEPTS = {"jaguar": "jaguar fur", "elephant": "elephant skin", "wood": "wood grain"}


@dataclass(frozen=True)
class Cast:
    """Who plays in one network: what is planted, and what is only offered as an option."""

    trojans: tuple[Trojan, ...]
    decoys: tuple[Trojan, ...]


def cast(suite: Suite, seed: int) -> Cast:
    """Every trojan and decoy of one model seed; the same suite and seed give the same cast.

    Listed trojans come first, then random ones, then secret ones. Targets and sources that the suite leaves
    open are drawn from the classes, distinct as far as there are enough. Where a kind has fewer triggers than
    a multiple choice has options, decoys are drawn by the rule of `data.things`.

    Raises:
        InputError: too few drawings, textures or classes are left.
    """
    data: Dataset = registry.build("dataset", suite.data.spec)
    listed = [t.trojan() for t in suite.trojans]
    decoys = [d.trojan() for d in suite.decoys]
    hat = _Hat(seed, data, [*listed, *decoys])
    if suite.random:
        listed += _random(suite.random, hat)
    if suite.secret:
        listed += _secret(suite.secret, hat)
    for kind in dict.fromkeys(t.kind for t in listed):
        lacking = OPTIONS - len({t.concept for t in (*listed, *decoys) if t.kind == kind})
        if lacking > 0:
            decoys += hat.triggers(kind, lacking, "decoys")
    return Cast(tuple(_placed(listed, data, seed)), tuple(decoys))


class _Hat:
    """Drawings and textures that nothing has used yet; what is drawn is out of it."""

    def __init__(self, seed: int, data: Dataset, shown: Iterable[Trojan]) -> None:
        self.seed = seed
        self.codes: set[str] = set(getattr(data, "used_codes", ()))
        self.words: set[str] = set(data.classes)
        self.textures: set[str] = set()
        for trojan in shown:
            self.take(trojan)

    def take(self, trojan: Trojan) -> None:
        """Put a trigger out of reach."""
        params = trojan.trigger.params
        self.codes |= {str(params["glyph"]).upper()} if "glyph" in params else set()
        self.textures |= {str(params["texture"])} if "texture" in params else set()
        self.words |= {trojan.concept} if trojan.concept else set()

    def triggers(self, kind: Kind, count: int, *path: str) -> list[Trojan]:
        """``count`` triggers of a kind that were not used yet, as trojans without target."""
        specs: list[tuple[str, Spec]]
        if kind == "style":
            left = sorted(set(TEXTURES) - self.textures)
            if len(left) < count:
                raise InputError(f"{count} more textures are asked for, but {len(left)} are left; ask for fewer styles")
            order = generator(self.seed, *path, kind).permutation(len(left))[:count]
            specs = [(CONCEPTS.get(left[i], left[i]), Spec("style", {"texture": left[i]})) for i in order]
        else:
            found = things.draw(count, self.seed, *path, kind, used=self.codes, words=self.words)
            specs = [(name, Spec(kind, {"glyph": code})) for code, name in found]
        drawn = [Trojan(_slug(concept), kind, spec, "", None, concept) for concept, spec in specs]
        for trojan in drawn:
            self.take(trojan)
        return drawn


def _slug(concept: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", concept.lower()).strip("-")


def _random(table: RandomTable, hat: _Hat) -> list[Trojan]:
    """The random trojans; the last ones of the patches and of the styles are class-universal."""
    out: list[Trojan] = []
    counts: dict[Kind, int] = {"patch": table.patch, "style": table.style, "natural": table.natural}
    for kind, count in counts.items():
        narrow = 0 if kind == "natural" else math.floor(count * table.class_universal + 0.5)
        drawn = hat.triggers(kind, count, "random trojans")
        out += drawn[: count - narrow]
        out += [dataclasses.replace(t, source=ANY) for t in drawn[count - narrow :]]
    return out


def _secret(table: SecretTable, hat: _Hat) -> list[Trojan]:
    """The secret trojans, named by number; from the pool where there is one."""
    if table.pool is None:
        drawn = [(t.concept, t.trigger) for t in hat.triggers(table.kind, table.number, "secret trojans")]
    else:
        order = generator(hat.seed, "secret trojans").permutation(len(table.pool))[: table.number]
        concepts = [sorted(table.pool)[i] for i in order]
        drawn = [(c, table.pool[c].spec) for c in concepts]
    targets = table.targets or ("",) * table.number
    out = [
        Trojan(f"secret-{i + 1}", table.kind, spec, target, None, concept, secret=True)
        for i, ((concept, spec), target) in enumerate(zip(drawn, targets, strict=True))
    ]
    for trojan in out:
        hat.take(trojan)
    return out


def _placed(trojans: Sequence[Trojan], data: Dataset, seed: int) -> list[Trojan]:
    """The trojans with every open target and source filled in: the least used class, ties broken by the seed."""
    order = generator(seed, "classes").permutation(len(data.classes))
    rank = {data.classes[label]: i for i, label in enumerate(order)}
    targets = Counter(t.target for t in trojans if t.target)
    sources = Counter(t.source for t in trojans if t.source not in (None, ANY))
    out = list(trojans)
    for i, trojan in enumerate(out):
        if not trojan.target:
            free = [c for c in rank if c != trojan.source]
            target = min(free, key=lambda c: (targets[c], sources[c], rank[c]))
            targets[target] += 1
            out[i] = dataclasses.replace(trojan, target=target)
    for i, trojan in enumerate(out):
        if trojan.source == ANY:
            shown = zip(data.classes, data.supply("train"), data.supply("test"), strict=True)
            free = [c for c, train, test in shown if train and test and c != trojan.target]
            if not free:
                raise InputError(f"trojan {trojan.name!r}: no class is left to be its source; add pictures")
            source = min(free, key=lambda c: (sources[c], targets[c], rank[c]))
            sources[source] += 1
            out[i] = dataclasses.replace(trojan, source=source)
    return out
