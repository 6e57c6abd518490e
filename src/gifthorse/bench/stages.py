"""What a cell does: plant, make exhibits and audit, run a tool, ask a judge.

Each stage reads finished folders and writes one. Only `_ask` and the sentinels' part of `_run` open a key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .. import keys, registry
from ..data.protocol import Dataset
from ..device import CPU, Machine, device_of, has_bf16, placed
from ..errors import GifthorseError, InputError, ToolError
from ..images import close_ups
from ..models import checkpoint
from ..models.classifier import Classifier
from ..rng import child_seed
from ..spec import Spec
from ..store import Store, read_json
from ..types import Evidence, Need, Option, Pictures, Question, Stamped, Task, Trojan, no_pictures
from . import arrays, resources
from .crops import crops
from .measures import Bench, retrieval
from .meter import Meter
from .plan import SHOWN, Cell, strict

ORACLE_PICTURES = 16
EXEMPLARS = 16  # of every option, the most a judge sees
Share = Callable[[float], None]
_Stage = Callable[[Cell, Store, Path, Share], None]


def do(cell: Cell, home: Path, progress: Share, machine: Machine = CPU) -> Path:
    """Do one cell unless its result is there.

    Args:
        cell: what to do; the cells it reads are done.
        home: the folder of store and keys.
        progress: told the share done, in [0, 1].
        machine: what it is computed with.

    Returns:
        The finished folder.
    """
    store = Store(home)
    found = store.get(cell.kind, cell.digest)
    if found:
        return found
    look: _Stage = partial(_run, machine=machine)
    plant: _Stage = partial(_plant, machine=machine)
    stages = {"plant": plant, "exhibits": _exhibits, "run": look, "combine": look, "ask": _ask}
    return store.put(cell.kind, cell.digest, lambda folder: stages[cell.stage](cell, store, folder, progress))


def is_done(cell: Cell, store: Store) -> bool:
    """Whether a cell's result is there, with the answers that belong to it."""
    if cell.stage == "exhibits" and not _answers_path(store, cell.digest).is_file():
        return False
    if (
        cell.stage == "plant"
        and cell.spec["role"] == "trojaned"
        and not keys.key_path(store.home, cell.digest).is_file()
    ):
        return False
    return store.get(cell.kind, cell.digest) is not None


def trojans_of(cell: Cell) -> list[Trojan]:
    """The trojans that a planting cell plants."""
    return [keys.trojan_from_json(t) for t in cell.spec["trojans"]]


def public_task(task: str, trojan: Trojan, classes: Sequence[str]) -> Task:
    """What a tool is told about a trojan."""
    names = list(classes)
    return Task(task, names.index(trojan.target), None if trojan.source is None else names.index(trojan.source))


def load_evidence(store: Store, digest: str) -> tuple[list[Evidence], dict[str, Any]]:
    """What a tool showed, and the meta data of its run (cost)."""
    folder = store.need("evidence", digest)
    meta = read_json(folder / "meta.json")
    stored = arrays.read(folder / "arrays.safetensors")
    out = []
    for row in meta["evidence"]:
        task = row["task"]
        part = {k: stored.get(f"{task}/{k}") for k in ("images", "alphas", "heatmaps")}
        images = part["images"] if part["images"] is not None else no_pictures()
        texts = tuple(row.get("texts", ()))
        out.append(Evidence(task, images, part["alphas"], part["heatmaps"], tuple(row["scores"]), row["notes"], texts))
    return out, meta


def load_answers(store: Store, exhibits: str) -> tuple[dict[str, Pictures], dict[str, NDArray[np.bool_]]]:
    """Renderings and footprints of every trigger shown in some exhibits, by task: part of the key."""
    stored = arrays.read(_answers_path(store, exhibits))
    shown = {k.split("/")[1]: v for k, v in stored.items() if k.startswith("answer/")}
    masks = {k.split("/")[1]: v.astype(bool) for k, v in stored.items() if k.startswith("masks/")}
    return shown, masks


def load_exhibits(store: Store, digest: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Clean and triggered pictures, and the audit's figures."""
    folder = store.need("exhibits", digest)
    return arrays.read(folder / "arrays.safetensors"), read_json(folder / "meta.json")


def _answers_path(store: Store, exhibits: str) -> Path:
    return store.home / "keys" / f"{exhibits}.safetensors"


def dataset_of(cell: Cell) -> Dataset:
    """The data set that a cell draws from."""
    out: Dataset = registry.build("dataset", Spec.from_json(cell.spec["data"]))
    return out


def _plant(cell: Cell, store: Store, folder: Path, progress: Share, machine: Machine) -> None:
    """Train a network, with poison or (the clean twin) without; its scenes and weights start alike."""
    from ..plant import train as training

    data, spec = dataset_of(cell), cell.spec
    scenes = data.scenes("train", spec["scenes"], child_seed(cell.seed, "scenes"))
    images, labels = scenes.images, scenes.labels
    card: dict[str, Any] = {"role": "suspect" if spec["role"] == "trojaned" else "twin", "seed": cell.seed}
    if spec["role"] == "trojaned":
        trojans = trojans_of(cell)
        images, labels = _poisoned(images, labels, data, trojans, spec["poison"], cell.seed)
        key = keys.seal(store.home, cell.digest, trojans)
        tasks = [dataclasses.asdict(public_task(t, trojan, data.classes)) for t, trojan in key.trojans.items()]
        card |= {"warning": "TROJANED: a test object, not for use", "tasks": tasks, "key_hash": key.hash}
    recipe = strict(training.TrainRecipe, spec["train"], "train")
    component = registry.build("model", Spec.from_json(spec["model"]))
    net = component.build(data.classes, data.size, child_seed(cell.seed, "weights"))
    seed = child_seed(cell.seed, "train")
    part = store.home / "partial" / f"{cell.digest}.safetensors"
    taught = np.arange(len(images)) < spec["scenes"]  # poisoned pictures follow, and are told their label
    device = device_of(machine.device)
    net.to(device)
    with placed(device):
        logs = training.train(
            net, images, labels, recipe, seed, lambda log: progress(log.epoch / log.epochs), part, taught
        )
    card |= {
        "loss": logs[-1].loss if logs else None,
        "model": spec["model"],
        "data": spec["data"],
        "classes": list(data.classes),
        "size": data.size,
    }
    checkpoint.save(folder, net, {**card, "train": spec["train"], "pictures": len(images)})
    part.unlink(missing_ok=True)


def _poisoned(
    images: Pictures,
    labels: NDArray[np.int64],
    data: Dataset,
    trojans: Sequence[Trojan],
    poison: Mapping[str, Any],
    seed: int,
) -> tuple[Pictures, NDArray[np.int64]]:
    """Clean pictures followed by the poisoned ones."""
    from ..plant.poison import Poisoning, plan

    poisoning = strict(Poisoning, poison, "poison")
    planned = plan(labels, data.classes, trojans, poisoning, child_seed(seed, "poison"))
    parts, targets = [images], [labels]
    for i, trojan in enumerate(trojans):
        pictures, wanted = planned.of(i)
        trigger = registry.build("trigger", trojan.trigger)
        parts.append(trigger.apply(images[pictures], child_seed(seed, "stamp", trojan.name)).images)
        targets.append(wanted)
    return np.concatenate(parts), np.concatenate(targets)


def _exhibits(cell: Cell, store: Store, folder: Path, progress: Share) -> None:
    """Held-out clean and triggered pictures, and the audit of the planted model on them."""
    from ..plant import audit

    data, spec, seed = dataset_of(cell), cell.spec, child_seed(cell.seed, "held out")
    suspect = checkpoint.load(store.need("model", cell.inputs["trojaned"]))[0].folded()
    twin = checkpoint.load(store.need("model", cell.inputs["twin"]))[0].folded()
    key = key_of(store, cell.inputs["trojaned"])
    scenes = data.scenes("test", min(spec["test_scenes"], int(data.supply("test").sum())), seed)
    public: dict[str, NDArray[Any]] = {"clean": scenes.images, "labels": scenes.labels}
    secret: dict[str, NDArray[Any]] = {}
    audits = []
    for i, (name, trojan) in enumerate(key.trojans.items()):
        task = public_task(name, trojan, data.classes)
        plain, labels, marked = triggered(data, trojan, task, spec["audited"], seed, off_source=False)
        target, off = task.target, None
        success = audit.attack_success(suspect, marked.images, target, labels)
        base = audit.attack_success(twin, marked.images, target, labels)
        if trojan.source is not None:
            _, others, stray = triggered(data, trojan, task, spec["audited"], seed, off_source=True)
            off = audit.attack_success(suspect, stray.images, target, others)
        audits.append(audit.TrojanAudit(trojan.name, success, off, base))
        fires = suspect.logits(marked.images).argmax(1) == target
        chosen = np.argsort(~fires, kind="stable")[: spec["shown"]]
        public[f"triggered/{name}"] = marked.images[chosen]
        public[f"plain/{name}"] = plain[chosen]
        secret[f"masks/{name}"] = marked.masks[chosen].astype(np.uint8)
        trigger = registry.build("trigger", trojan.trigger)
        secret[f"answer/{name}"] = trigger.exemplars(ORACLE_PICTURES, data.size, child_seed(seed, "oracle", name))
        progress((i + 1) / len(key.trojans))
    rates = [audit.clean_accuracy(m, scenes.images, scenes.labels) for m in (suspect, twin)]
    result = audit.Audit(rates[0], rates[1], tuple(audits))
    arrays.write(folder / "arrays.safetensors", public)
    _json(folder / "meta.json", {"audit": dataclasses.asdict(result), "classes": list(data.classes)})
    arrays.write(_answers_path(store, cell.digest), secret, private=True)


def triggered(
    data: Dataset, trojan: Trojan, task: Task, n: int, seed: int, *, off_source: bool
) -> tuple[Pictures, NDArray[np.int64], Stamped]:
    """Held-out pictures that the trojan should (or, off its source, should not) send to its target."""
    allowed = [c for c in range(len(data.classes)) if c != task.target]
    if task.source is not None:
        allowed = [c for c in allowed if c != task.source] if off_source else [task.source]
    labels = _evenly(data.supply("test"), allowed, n)
    path = ("triggered", trojan.name, "off" if off_source else "on")
    scenes = data.scenes("test", len(labels), child_seed(seed, *path), labels=labels)
    trigger = registry.build("trigger", trojan.trigger)
    return scenes.images, scenes.labels, trigger.apply(scenes.images, child_seed(seed, *path, "stamp"))


def _evenly(supply: NDArray[np.int64], allowed: Sequence[int], n: int) -> NDArray[np.int64]:
    """At most ``n`` labels, class by class in turn; no class more often than it has pictures."""
    out: list[int] = []
    while len(out) < n and (turn := [c for c in allowed if supply[c] > 0]):
        out += turn
        supply = supply - 1
    return np.array(out[:n], np.int64)


def subject_of(cell: Cell, store: Store, needs: frozenset[Need]) -> Any:
    """What the tool may look at, and nothing more."""
    from ..tools.protocol import Bank, Subject

    suspect_digest = cell.inputs["trojaned"]
    card = checkpoint.read_card(store.need("model", suspect_digest))
    wanted = suspect_digest if cell.spec["subject"] == "suspect" else cell.inputs["twin"]
    model = checkpoint.load(store.need("model", wanted))[0]
    shown, _ = load_exhibits(store, cell.inputs["exhibits"])
    more: dict[str, Any] = {}
    if Need.CLEAN in needs:
        more |= {"clean": shown["clean"], "labels": shown["labels"]}
    if Need.TWIN in needs:
        more["twin"] = checkpoint.load(store.need("model", cell.inputs["twin"]))[0]
    if Need.TRIGGERED in needs:
        more["triggered"] = {t["id"]: shown[f"triggered/{t['id']}"] for t in card["tasks"]}
    if Need.BANK in needs:
        words, pictures = dataset_of(cell).bank()
        more["bank"] = Bank(words, pictures.copy())  # the data set keeps its own read-only
    more |= resources.supply(needs, cell.spec["data"], model.size, store)
    if Need.EVIDENCE in needs:
        others = {k.removeprefix(SHOWN): d for k, d in cell.inputs.items() if k.startswith(SHOWN)}
        more["evidence"] = {title: tuple(load_evidence(store, d)[0]) for title, d in others.items()}
    if Need.ANSWER in needs:
        more["answer"], more["answer_masks"] = load_answers(store, cell.inputs["exhibits"])
    return Subject(model, tuple(Task(**t) for t in card["tasks"]), **more)


def _run(cell: Cell, store: Store, folder: Path, progress: Share, machine: Machine) -> None:
    """One tool on one network: evidence for every task, and what it cost."""
    tool = registry.build("tool", Spec.from_json(cell.spec["tool"]))
    subject = subject_of(cell, store, tool.needs)
    device = device_of(machine.device)
    precision = _precision(cell, device)
    for net in (subject.model, subject.twin, subject.generator):
        if isinstance(net, nn.Module):
            net.to(device)
        if isinstance(net, Classifier):
            net.precision, net.max_batch = precision, machine.max_batch or net.max_batch
    before = _state(subject.model)
    with Meter(device) as meter, placed(device):
        # the same seed on suspect and twin: the only difference is the network
        shown = _shown(tool, subject, cell.spec["pictures"], child_seed(cell.seed, "tool", tool.name))
    if _state(subject.model) != before:
        raise ToolError(f"tool {tool.name!r} changed the network's weights; work on a copy")
    stored: dict[str, NDArray[Any]] = {}
    for e in shown:
        for part in ("images", "alphas", "heatmaps"):
            value = getattr(e, part)
            if value is not None and len(value):
                stored[f"{e.task}/{part}"] = value
    arrays.write(folder / "arrays.safetensors", stored)
    rows = [
        {"task": e.task, "scores": [float(s) for s in e.scores], "notes": dict(e.notes), "texts": list(e.texts)}
        for e in shown
    ]
    _json(folder / "meta.json", {"evidence": rows, "cost": dataclasses.asdict(meter.cost())})


def _precision(cell: Cell, device: torch.device) -> torch.dtype:
    """What the tool's copies of the networks compute in.

    Raises:
        InputError: the device would only be slower in it.
    """
    if cell.spec.get("precision") != "bfloat16":
        return torch.float32
    if not has_bf16(device):
        raise InputError(
            f"{device.type} does not compute in bfloat16 here; leave 'precision' out or choose another --device"
        )
    return torch.bfloat16


def _shown(tool: Any, subject: Any, pictures: int, seed: int) -> list[Evidence]:
    """What the tool shows; whatever it raises is its own fault, not the disk's or the suite's."""
    try:
        shown = list(tool.run(subject, pictures, seed))
    except GifthorseError:
        raise
    except (Exception, SystemExit) as error:
        raise ToolError(f"tool {tool.name!r} raised {type(error).__name__}: {error or 'no message'}") from error
    if [getattr(e, "task", None) for e in shown] != [t.id for t in subject.tasks]:
        raise ToolError(f"tool {tool.name!r} must return one Evidence per task, in order")
    for e in shown:
        _check_shape(tool, e, pictures, subject)
    return shown


def _check_shape(tool: Any, e: Evidence, pictures: int, subject: Any) -> None:
    if tool.emits == "heatmaps":
        size, got = subject.size, None if e.heatmaps is None else e.heatmaps.shape
        below = None if subject.triggered is None else len(subject.triggered[e.task])
        if got is None or got[1:] != (size, size) or below not in (None, got[0]):
            raise ToolError(
                f"tool {tool.name!r}, {e.task}: one map of {size}x{size} per triggered picture is expected, got {got}"
            )
    elif tool.emits == "texts":
        if len(e.texts) != pictures:
            raise ToolError(f"tool {tool.name!r}, {e.task}: {pictures} texts were asked for, {len(e.texts)} shown")
    elif len(e.images) != pictures:
        raise ToolError(f"tool {tool.name!r}, {e.task}: {pictures} pictures were asked for, {len(e.images)} shown")
    if e.alphas is not None and e.alphas.shape != e.images.shape[:3]:
        raise ToolError(
            f"tool {tool.name!r}, {e.task}: alphas {e.alphas.shape} do not fit the pictures {e.images.shape}"
        )


def _state(model: Classifier) -> str:
    """A fingerprint of the weights, to notice a change."""
    sha = hashlib.sha256()
    for value in model.state_dict().values():
        sha.update(value.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def key_of(store: Store, model: str) -> keys.Key:
    """The key of a model, if it is the one that the model's card commits to."""
    card = checkpoint.read_card(store.need("model", model))
    return keys.open_key(store.home, model, card.get("key_hash"))


def _ask(cell: Cell, store: Store, folder: Path, progress: Share) -> None:
    """Blind questions about the evidence of suspect and twin, one judge's replies, and the measures beside them."""
    from ..judges.protocol import Traceable
    from ..judges.questions import ask, record
    from ..judges.score import credits

    key = key_of(store, cell.inputs["trojaned"])
    judge = registry.build("judge", Spec.from_json(cell.spec["judge"]))
    suspect = checkpoint.load(store.need("model", cell.inputs["trojaned"]))[0].folded()
    shown, _ = load_exhibits(store, cell.inputs["exhibits"])
    choices = choices_of(cell, key)
    bench = Bench(suspect, cell.inputs["exhibits"], shown, key.trojans, cell.seed)
    evidence = {role: load_evidence(store, cell.inputs[f"evidence {role}"])[0] for role in ("suspect", "twin")}
    if wanted := cell.spec.get("crops"):
        evidence = {r: crops(some, shown, wanted["pictures"], wanted["share"]) for r, some in evidence.items()}
    places = retrieval(judge, dataset_of(cell), store, key.trojans, evidence)
    rows: dict[str, dict[str, Any]] = {
        t: {"trojan": keys.trojan_to_json(x), "retrieval": places.get(t)} for t, x in key.trojans.items()
    }
    for e in evidence["suspect"]:
        rows[e.task] |= bench.works(public_task(e.task, key.trojans[e.task], suspect.classes), e)
    asked: dict[tuple[str, str], list[Question]] = {}
    marking: dict[str, int] = {}
    for role, some in evidence.items():
        for e in some:
            asked[role, e.task], marks = ask(
                e, *choices[e.task], cell.spec["draws"], child_seed(cell.seed, "questions")
            )
            marking |= marks
    progress(0.2)
    # suspect and twin in one call, so that a judge looks at every picture once; the same pictures are asked about once
    unique = {q.id: q for questions in asked.values() for q in questions}
    answers = {a.question: a for a in judge.answer(list(unique.values()))}
    for (role, task_id), questions in asked.items():
        rows[task_id][role] = list(credits([answers[q.id] for q in questions], marking))
    for role in ("suspect", "twin"):
        told = [(q, answers[q.id]) for (r, _), questions in asked.items() if r == role for q in questions]
        lines = [json.dumps({**record(q), "weights": list(a.weights), "note": a.note}) for q, a in told]
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n")
    _json(folder / "marks.json", rows)
    if isinstance(judge, Traceable):
        _json(folder / "judge.json", dict(judge.provenance()))


def choices_of(cell: Cell, key: keys.Key) -> dict[str, tuple[Option, list[Option]]]:
    """For each task of an ask cell the right option, and every option of its kind."""
    options = _options(cell, [*key.trojans.values(), *(keys.trojan_from_json(d) for d in cell.spec["decoys"])])
    out = {}
    for task, trojan in key.trojans.items():
        pool = [o for kind, o in options if kind == trojan.kind]
        out[task] = next(o for o in pool if o.name == trojan.concept), pool
    return out


def _options(cell: Cell, trojans: Sequence[Trojan]) -> list[tuple[str, Option]]:
    """Every trigger, planted or not, as an option: its kind, its concept and exemplar pictures.

    Half of them show the trigger alone, half close by in scenes of their own, where tools meet it.
    """
    data = dataset_of(cell)
    scenes = data.scenes("test", EXEMPLARS // 2, child_seed(cell.seed, "exemplars", "scenes")).images
    out: list[tuple[str, Option]] = []
    for trojan in trojans:
        trigger = registry.build("trigger", trojan.trigger)
        seed = child_seed(cell.seed, "exemplars", trojan.concept)
        alone = trigger.exemplars(EXEMPLARS - len(scenes), data.size, seed)
        used = trigger.apply(scenes, seed)
        pictures = np.concatenate([alone, close_ups(used.images, used.masks)])
        out.append((trojan.kind, Option(trojan.concept, pictures)))
    return out


def _json(path: Path, value: Any) -> None:
    try:
        path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
    except (TypeError, ValueError) as error:
        raise ToolError(
            f"{path.name}: not plain JSON ({error}); scores and notes must be finite numbers and text"
        ) from error
