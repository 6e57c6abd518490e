"""One scan for all classes: which pictures raise which class, on all source classes or one, by successive halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.protocol import Dataset
from ..images import from_tensor, to_tensor
from ..models.classifier import Classifier
from ..rng import child_seed
from ..types import Pictures
from .stimuli import Rows, Stimuli, confidence

Floats = NDArray[np.float32]
Share = Callable[[float], None]


@dataclass(frozen=True)
class Effort:
    """How thoroughly a scan looks; a rung keeps some pictures and lays them into fresh scenes.

    Attributes:
        first: scenes of each source class that every picture is laid into.
        universal: (pictures kept per target, scenes of each source class) of each further rung.
        single: (pictures kept per target and source class, scenes of that class) of each further rung.
    """

    first: int = 1
    universal: tuple[tuple[int, int], ...] = ((8, 2), (2, 4))
    single: tuple[tuple[int, int], ...] = ((2, 4), (1, 8))


@dataclass(frozen=True)
class Finding:
    """A picture that raises a class.

    Attributes:
        row: which picture of the stimuli.
        target: the class.
        source: the class of the scenes it was laid into, or None for all but the target's.
        rise: mean rise of the target's confidence on the scenes of its rung, in [-1, 1].
        last: whether that rung is the last, whose scenes took no part in choosing the picture.
    """

    row: int
    target: int
    source: int | None
    rise: float
    last: bool


class Scan:
    """Lays the same pictures into the same scenes for any pair of networks; what one network says is kept.

    Args:
        stimuli: the pictures.
        data: where held-out scenes come from.
        sources: classes whose scenes are used.
        effort: how thoroughly.
        seed: of every draw.
    """

    def __init__(self, stimuli: Stimuli, data: Dataset, sources: Sequence[int], effort: Effort, seed: int) -> None:
        self.stimuli, self.data, self.effort, self.seed = stimuli, data, effort, seed
        self.sources = np.array(sources, np.int64)
        self._first: dict[int, tuple[Classifier, Floats]] = {}

    def look(self, networks: Sequence[Classifier]) -> None:
        """Ask networks about every picture, on the first rung; asked together they share the drawing of it."""
        new = [net for net in networks if id(net) not in self._first]
        if new:
            said = self._means(new, np.arange(len(self.stimuli)), self.sources, self.effort.first, "first")
            self._first |= {id(net): (net, part) for net, part in zip(new, said, strict=True)}

    def findings(
        self, net: Classifier, reference: Classifier | None, barred: NDArray[np.bool_] | None = None
    ) -> list[Finding]:
        """What was measured on the rungs after the first, largest rise first.

        A rise is the target's mean confidence less the larger of what ``net`` says of the same scenes without the
        picture and, where there is one, what ``reference`` says with it.

        Args:
            net: the folded network to scan.
            reference: a folded honest network of the same classes, or None.
            barred: ``(pictures, classes)`` which pictures say nothing of which class.
        """
        both = (net,) if reference is None else (net, reference)
        self.look(both)
        start = self._rises(both, np.arange(len(self.stimuli)), self.sources, self.effort.first, "first")
        if barred is not None:
            start = np.where(barred[:, None], np.float32(-1), start)
        out = self._universal(both, start) + self._single(both, start)
        return sorted(out, key=lambda f: -f.rise)

    def _universal(self, both: Sequence[Classifier], start: Floats) -> list[Finding]:
        def rises(rows: Rows, scenes: int, rung: int) -> Floats:
            found = self._rises(both, rows, self.sources, scenes, f"universal {rung}")
            return _over_sources(found, self.sources)

        return _halved(_over_sources(start, self.sources), self.effort.universal, None, rises)

    def _single(self, both: Sequence[Classifier], start: Floats) -> list[Finding]:
        out: list[Finding] = []
        for i, source in enumerate(self.sources):
            mine = self.sources[i : i + 1]

            def rises(rows: Rows, scenes: int, rung: int, mine: Rows = mine) -> Floats:
                return self._rises(both, rows, mine, scenes, f"single {rung}")[:, 0]

            out += _halved(start[:, i], self.effort.single, int(source), rises)
        return out

    def _rises(self, both: Sequence[Classifier], rows: Rows, sources: Rows, scenes: int, rung: str) -> Floats:
        """``(rows, sources, classes)`` the rises on ``scenes`` scenes of each source."""
        first = rung == "first"
        said = [self._first[id(n)][1] for n in both] if first else list(self._means(both, rows, sources, scenes, rung))
        plain = self._plain(both[0], sources, scenes, rung)
        honest = [plain[None], *said[1:]]
        out: Floats = said[0] - np.maximum(honest[0], honest[-1])
        return out

    def example(self, finding: Finding, each: int) -> Pictures:
        """``(1 + each, h, w, 3)`` uint8: a picture alone, then in scenes, whether they convince the network or not."""
        row = np.array([finding.row])
        sources = np.array([finding.source]) if finding.source is not None else self.sources
        sources = np.resize(np.roll(sources[sources != finding.target], -finding.row), each)
        scenes = to_tensor(self.scenes(sources, 1, "shown"))
        laid = from_tensor(self.stimuli.laid(row, scenes, child_seed(self.seed, "places", "shown")))
        return np.concatenate([self.stimuli.alone(row), laid])

    def scenes(self, sources: Rows, each: int, rung: str) -> Pictures:
        """``(sources * each, h, w, 3)`` held-out scenes, source by source; each rung has its own."""
        seed = child_seed(self.seed, "audit", rung, *(int(s) for s in sources))
        return self.data.scenes("test", len(sources) * each, seed, labels=np.repeat(sources, each)).images

    def _means(self, networks: Sequence[Classifier], rows: Rows, sources: Rows, each: int, rung: str) -> Floats:
        """``(networks, rows, sources, classes)`` mean confidence over the scenes of each source."""
        scenes = to_tensor(self.scenes(sources, each, rung))
        said = confidence(networks, self.stimuli, rows, scenes, child_seed(self.seed, "places", rung))
        out: Floats = said.view(len(networks), len(rows), len(sources), each, -1).mean(3).numpy()
        return out

    def _plain(self, net: Classifier, sources: Rows, each: int, rung: str) -> Floats:
        """``(sources, classes)`` mean confidence on the scenes as they are."""
        logits = net.logits(self.scenes(sources, each, rung))
        odds = np.exp(logits - logits.max(1, keepdims=True))
        out: Floats = (odds / odds.sum(1, keepdims=True)).reshape(len(sources), each, -1).mean(1)
        return out


def _over_sources(rise: Floats, sources: Rows) -> Floats:
    """``(rows, sources, classes)`` -> ``(rows, classes)``, the mean over sources other than the class."""
    own = sources[:, None] == np.arange(rise.shape[2])
    out: Floats = np.where(own, 0, rise).sum(1) / np.maximum(1, (~own).sum(0))
    return out


def _halved(
    value: Floats, rungs: Sequence[tuple[int, int]], source: int | None, rises: Callable[[Rows, int, int], Floats]
) -> list[Finding]:
    """Successive halving: every rung keeps the best pictures of each class and measures them anew.

    Args:
        value: ``(pictures, classes)`` rises of the first rung.
        rungs: (pictures kept per class, scenes of each source) of every further one.
        source: what is written on the findings; a class is not sought on its own scenes.
        rises: (pictures, scenes of each source, rung) -> ``(pictures, classes)``.
    """
    rows, kept, out = np.arange(len(value)), np.ones(value.shape, bool), list[Finding]()
    if source is not None:
        kept[:, source] = False
    for rung, (keep, scenes) in enumerate(rungs):
        kept = _best(np.where(kept, value, -np.inf), keep)
        chosen = kept.any(1)
        rows, kept = rows[chosen], kept[chosen]
        value, last = rises(rows, scenes, rung), rung == len(rungs) - 1
        found = np.argwhere(kept)
        out += [Finding(int(rows[i]), int(t), source, float(value[i, t]), last) for i, t in found]
    return out


def _best(value: Floats, keep: int) -> NDArray[np.bool_]:
    """``(rows, classes)`` whether a row is among the ``keep`` largest of a class; never where it is minus infinity."""
    order = np.argsort(-value, axis=0, kind="stable")[:keep]
    out = np.zeros(value.shape, bool)
    np.put_along_axis(out, order, True, axis=0)
    return out & np.isfinite(value)
