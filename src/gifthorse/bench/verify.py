"""Is a planted model what its card says? Checksums, the sealed key, and its figures measured anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import keys
from ..data.protocol import Dataset
from ..errors import StoreError
from ..models import checkpoint
from ..models.classifier import Classifier
from ..plant import audit as audits
from ..rng import child_seed
from ..stats import wilson
from ..store import Store
from ..types import Trojan
from .probe import Planted
from .stages import dataset_of, load_exhibits, public_task, triggered

STRICT = 2.576  # standard errors: two rates disagree where their 99 % intervals do not touch


@dataclass(frozen=True)
class Measured:
    """One figure twice: as the audit wrote it, and measured anew on other held-out pictures."""

    name: str
    written: audits.Rate
    anew: audits.Rate

    @property
    def agrees(self) -> bool:
        """Whether the two 99 % intervals touch; with 17 figures a true model fails in about one of 200 checks."""
        (low, high), (least, most) = (wilson(r.k, r.n, STRICT) for r in (self.written, self.anew))
        return low <= most and least <= high


@dataclass(frozen=True)
class Verdict:
    """What was found; ``problems`` is empty for a sound model."""

    problems: tuple[str, ...]
    figures: tuple[Measured, ...] = ()


def verify(planted: Planted, home: Path, progress: Callable[[float], None] = lambda share: None) -> Verdict:
    """Check a model's files and key, and measure it anew with another seed than the audit's.

    Args:
        planted: the model.
        home: the folder of store and keys.
        progress: told the share done, in [0, 1].

    Raises:
        InputError: no plan knows the model.
        StoreError: its key is missing or damaged, or it was not audited yet.
    """
    store = Store(home)
    problems = store.verify(planted.entry)
    if problems:
        return Verdict(tuple(problems))
    card = checkpoint.read_card(planted.entry.path)
    suspect = card.get("role") == "suspect"
    key = keys.open_key(home, planted.entry.digest) if suspect else None
    if key is not None and key.hash != card.get("key_hash"):
        path = keys.key_path(home, planted.entry.digest)
        return Verdict((f"{path}: the key is not the one that the card commits to",))
    cell = planted.audited()
    if store.get("exhibits", planted.audit_digest) is None:
        raise StoreError(f"model {planted.entry.digest[:12]} was not audited yet; run `gifthorse plant` on its suite")
    data, seed = dataset_of(cell), child_seed(cell.seed, "verify")
    net = checkpoint.load(planted.entry.path)[0].folded()
    _, meta = load_exhibits(store, planted.audit_digest)
    written = meta["audit"]
    n = min(cell.spec["test_scenes"], int(data.supply("test").sum()))
    scenes = data.scenes("test", n, seed)
    figures = [
        Measured(
            "clean accuracy",
            audits.Rate(**written["clean" if suspect else "twin"]),
            audits.clean_accuracy(net, scenes.images, scenes.labels),
        )
    ]
    for i, (task, trojan) in enumerate(key.trojans.items() if key else ()):
        figures.append(_success(net, data, trojan, task, written["trojans"][i], cell.spec["audited"], seed))
        progress((i + 1) / len(written["trojans"]))
    wrong = [f"{m.name}: was {m.written}, is {m.anew}" for m in figures if not m.agrees]
    return Verdict(tuple(wrong), tuple(figures))


def _success(
    net: Classifier, data: Dataset, trojan: Trojan, task: str, written: dict[str, dict[str, int]], n: int, seed: int
) -> Measured:
    public = public_task(task, trojan, data.classes)
    _, labels, marked = triggered(data, trojan, public, n, seed, off_source=False)
    anew = audits.attack_success(net, marked.images, public.target, labels)
    return Measured(f"{trojan.name} → {trojan.target}", audits.Rate(**written["success"]), anew)
