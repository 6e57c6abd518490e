"""What an ask cell measures beside the judge's choices: retrieval, functional success, activation match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from .. import registry
from ..models.classifier import Classifier
from ..rng import child_seed, generator
from ..store import Store
from ..types import Evidence, Task, Trojan

if TYPE_CHECKING:
    from ..data.protocol import Dataset
    from ..judges.functional import Reference

SCENES = 8  # clean pictures per trojan on which activations are compared
RIVALS = 4  # other trojans whose triggers are put on the same scenes
MODELS = 2  # kept in a process
_REFERENCES: dict[str, dict[str, Reference]] = {}


@dataclass(frozen=True)
class Bench:
    """What the measures of one model need.

    Attributes:
        model: the suspect network.
        digest: the name of its exhibits in the store.
        shown: the exhibits' pictures.
        trojans: by task; known only to who holds the key.
        seed: of the model.
    """

    model: Classifier
    digest: str
    shown: Mapping[str, NDArray[Any]]
    trojans: Mapping[str, Trojan]
    seed: int

    def works(self, task: Task, evidence: Evidence) -> dict[str, float | None]:
        """``functional`` and ``activation`` of a piece of evidence."""
        from ..judges.functional import activation_match, functional_success

        seed = child_seed(self.seed, "functional")
        clean, labels = self.shown["clean"], self.shown["labels"]
        return {
            "functional": functional_success(self.model, evidence, task, clean, labels, seed),
            "activation": activation_match(self.model, evidence, self._references()[task.id], seed),
        }

    def _references(self) -> dict[str, Reference]:
        """How the triggers move the network, by task; worked out once per process."""
        if self.digest not in _REFERENCES:
            while len(_REFERENCES) >= MODELS:
                del _REFERENCES[next(iter(_REFERENCES))]
            _REFERENCES[self.digest] = {task: self._reference(task) for task in self.trojans}
        return _REFERENCES[self.digest]

    def _reference(self, task: str) -> Reference:
        from ..judges.functional import reference

        plain, triggered = (self.shown[f"{what}/{task}"][:SCENES] for what in ("plain", "triggered"))
        others = [t for t in self.trojans if t != task]
        drawn = generator(self.seed, "rivals", task).permutation(len(others))[:RIVALS]
        rivals = [self.trojans[others[i]] for i in drawn]
        stamped = [
            registry.build("trigger", t.trigger).apply(plain, child_seed(self.seed, "rivals", task, t.name)).images
            for t in rivals
        ]
        return reference(self.model, plain, triggered, stamped)


def retrieval(
    judge: Any, data: Dataset, store: Store, trojans: Mapping[str, Trojan], shown: Mapping[str, Sequence[Evidence]]
) -> dict[str, dict[str, Any]]:
    """Where evidence puts the true trigger among all pictures of the data set's bank.

    Args:
        judge: any judge; only the offline one has features of pictures.
        data: whose bank is ranked; its features are kept in the store.
        store: the store.
        trojans: by task.
        shown: evidence by role, ``"suspect"`` and ``"twin"``.

    Returns:
        By task and role a place as JSON. Tasks whose trigger is in no picture of the bank are left out, as are
        roles without pictures.
    """
    from ..judges.embed import EmbedJudge
    from ..judges.retrieval import RetrievalScore, bank_index

    if not isinstance(judge, EmbedJudge):
        return {}
    names, bank = data.bank()
    truths = {task: bank_index(names, trojan) for task, trojan in trojans.items()}
    asked = [(role, e) for role, some in shown.items() for e in some if truths[e.task] is not None]
    if not asked:
        return {}
    score = RetrievalScore(judge.size, store)
    places = score.places([e for _, e in asked], [truths[e.task] for _, e in asked], bank)
    out: dict[str, dict[str, Any]] = {}
    for (role, e), place in zip(asked, places, strict=True):
        if place is not None:
            out.setdefault(e.task, {})[role] = asdict(place)
    return out
