"""One planted model by its folder or digest, and one tool on it, without opening the key."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import registry
from ..errors import InputError, UnknownName
from ..models import checkpoint
from ..rng import child_seed
from ..store import MANIFEST, Entry, Store
from ..types import Evidence, Need
from .plan import Cell
from .run import planted_note
from .stages import subject_of


@dataclass(frozen=True)
class Planted:
    """A model of the store.

    Attributes:
        entry: its folder.
        audit: the cell that audits it (its trojans are blanked out), or None where no plan knows the model.
    """

    entry: Entry
    audit: Cell | None
    audit_digest: str = ""

    def audited(self) -> Cell:
        """The cell that audits it.

        Raises:
            InputError: no plan under this home knows the model.
        """
        if self.audit is None:
            raise InputError(
                f"model {self.entry.digest[:12]}: no plan names it; run `gifthorse bench plan` on its suite first"
            )
        return self.audit


def find(model: str, home: Path) -> Planted:
    """A model by its folder or by the beginning of its digest.

    Raises:
        InputError: none or several match, or the folder is no model.
    """
    folder = Path(model)
    if folder.is_dir():
        try:
            digest = str(json.loads((folder / MANIFEST).read_text())["digest"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder / MANIFEST}: unreadable ({error}); give a folder that 'plant' wrote") from error
        entry = Entry("model", digest, folder, 0)
    else:
        entries = [e for e in Store(home).ls() if e.kind == "model" and e.digest.startswith(model.lower())]
        if len(entries) != 1:
            raise InputError(f"{len(entries)} models match {model!r}; see `gifthorse store ls`")
        entry = entries[0]
    note = planted_note(home, entry.digest)
    if not note.is_file():
        return Planted(entry, None)
    try:
        row = json.loads(note.read_text())
        return Planted(entry, Cell.from_json(row), str(row["digest"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{note}: unreadable ({error}); delete it and run `gifthorse bench plan` again") from error


def probe(planted: Planted, tool: str, home: Path, pictures: int = 6, target: str | None = None) -> list[Evidence]:
    """What a tool shows of a model, for every task or for those of one target.

    Args:
        planted: the model.
        tool: the tool's name.
        home: the folder of store and keys; no key is opened.
        pictures: how many pictures per task.
        target: a class, or None for all tasks.

    Raises:
        InputError: no such tool, class or task, or a tool that asks for the answer.
    """
    component = registry.build("tool", tool)
    if Need.ANSWER in component.needs:
        raise InputError(f"tool {tool!r} is shown the answer, so it cannot probe; see `gifthorse list tool`")
    if Need.EVIDENCE in component.needs:
        raise InputError(f"tool {tool!r} combines what others show; run it in a suite with `gifthorse bench run`")
    audit = planted.audited()
    card = checkpoint.read_card(planted.entry.path)
    if card.get("role") != "suspect":
        raise InputError(f"model {planted.entry.digest[:12]} is a clean twin and has no task; probe its suspect")
    label = _label(target, card["classes"])
    spec = {"data": audit.spec["data"], "model": audit.spec["model"], "subject": "suspect", "pictures": pictures}
    inputs = {**audit.inputs, "exhibits": planted.audit_digest}
    subject = subject_of(Cell("run", f"probe with {tool}", audit.seed, spec, inputs), Store(home), component.needs)
    tasks = tuple(t for t in subject.tasks if label is None or t.target == label)
    if not tasks:
        wanted = sorted({card["classes"][t.target] for t in subject.tasks})
        raise InputError(f"no trojan of this model has the target {target!r}; its targets are {', '.join(wanted)}")
    subject = dataclasses.replace(subject, tasks=tasks)
    shown: list[Evidence] = component.run(subject, pictures, child_seed(audit.seed, "tool", component.name))
    return shown


def titles(planted: Planted) -> dict[str, str]:
    """Each task in words, as its card tells: ``"t01": "t01: any class → dove"``."""
    card = checkpoint.read_card(planted.entry.path)
    names: Sequence[str] = card["classes"]
    return {
        t["id"]: f"{t['id']}: {'any class' if t['source'] is None else names[t['source']]} → {names[t['target']]}"
        for t in card.get("tasks", [])
    }


def _label(target: str | None, classes: Sequence[str]) -> int | None:
    if target is None:
        return None
    if target not in classes:
        raise UnknownName("class", target, classes)
    return list(classes).index(target)
