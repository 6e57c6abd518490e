"""One scan for all classes: which pictures raise which class, on every source class or on one, by successive halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data.protocol import Dataset
from ..images import to_tensor
from ..models.classifier import Classifier
from ..rng import child_seed
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
        rise: mean rise of the target's confidence on scenes of the last rung, in [-1, 1].
    """

    row: int
    target: int
    source: int | None
    rise: float


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
        """Ask networks about every picture, on the first rung; those asked together share the drawing of the pictures."""
        new = [net for net in networks if id(net) not in self._first]
        if new:
            said = self._means(new, np.arange(len(self.stimuli)), self.sources, self.effort.first, "first")
            self._first |= {id(net): (net, part) for net, part in zip(new, said, strict=True)}

    def findings(
        self, net: Classifier, reference: Classifier | None, barred: NDArray[np.bool_] | None = None
    ) -> list[Finding]:
        """What was measured on the last rungs, largest rise first.

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
        rows, mean = np.arange(len(start)), _over_sources(start, self.sources)
        kept = np.ones(mean.shape, bool)
        for rung, (keep, scenes) in enumerate(self.effort.universal):
            kept = _best(np.where(kept, mean, -np.inf), keep)
            chosen = kept.any(1)
            rows, kept = rows[chosen], kept[chosen]
            mean = _over_sources(self._rises(both, rows, self.sources, scenes, f"universal {rung}"), self.sources)
        return [Finding(int(rows[i]), int(t), None, float(mean[i, t])) for i, t in np.argwhere(kept)]

    def _single(self, both: Sequence[Classifier], start: Floats) -> list[Finding]:
        out = []
        for i, source in enumerate(self.sources):
            rows, rise = np.arange(len(start)), start[:, i].copy()
            kept = np.ones(rise.shape, bool)
            kept[:, source] = False
            for rung, (keep, scenes) in enumerate(self.effort.single):
                kept = _best(np.where(kept, rise, -np.inf), keep)
                chosen = kept.any(1)
                rows, kept = rows[chosen], kept[chosen]
                rise = self._rises(both, rows, self.sources[i : i + 1], scenes, f"single {rung}")[:, 0]
            out += [Finding(int(rows[k]), int(t), int(source), float(rise[k, t])) for k, t in np.argwhere(kept)]
        return out

    def _rises(self, both: Sequence[Classifier], rows: Rows, sources: Rows, scenes: int, rung: str) -> Floats:
        """``(rows, sources, classes)`` the rises on ``scenes`` scenes of each source."""
        first = rung == "first"
        said = [self._first[id(n)][1] for n in both] if first else list(self._means(both, rows, sources, scenes, rung))
        plain = self._plain(both[0], sources, scenes, rung)
        honest = [plain[None], *said[1:]]
        out: Floats = said[0] - np.maximum(honest[0], honest[-1])
        return out

    def scenes(self, sources: Rows, each: int, rung: str) -> NDArray[np.uint8]:
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


def _best(value: Floats, keep: int) -> NDArray[np.bool_]:
    """``(rows, classes)`` whether a row is among the ``keep`` largest of a class; never where it is minus infinity."""
    order = np.argsort(-value, axis=0, kind="stable")[:keep]
    out = np.zeros(value.shape, bool)
    np.put_along_axis(out, order, True, axis=0)
    return out & np.isfinite(value)
