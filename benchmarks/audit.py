"""Does `gifthorse audit` tell trojaned target classes from untrojaned ones?

Run: ``GIFTHORSE_HOME=... python benchmarks/audit.py [--seed 0]`` on a home where one suite was planted with three
seeds or more (``gifthorse plant --seed 0 --seed 1 --seed 2``). Keys are opened here, for counting, and nowhere in the
audit.

With suspect S and clean twin T of every seed, in a ring of seeds i, j, k: S_i and T_i are audited against T_j as their
reference, and T_j against T_k sets the limits. S_i is also audited against its own twin T_i, with T_i against T_j for
the limits, which is kinder than life. Positive are the targets of a suspect; negative are its other classes and all of
a twin's.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from measure import verdict

from gifthorse import keys
from gifthorse.audit.examine import CHANNELS, Bench, Choice, Opened, data_of, open_network, values
from gifthorse.audit.limits import from_honest
from gifthorse.models.checkpoint import read_card
from gifthorse.stats import auroc, wilson
from gifthorse.store import Store, default_home

BAR = 0.9


def networks() -> dict[str, list[Opened]]:
    """Suspects and twins of the home, by seed."""
    home = default_home()
    folders = [e for e in Store(home).ls() if e.kind == "model"]
    cards = sorted(((read_card(e.path), e) for e in folders), key=lambda pair: pair[0]["seed"])
    return {r: [open_network(e.digest, home) for card, e in cards if card["role"] == r] for r in ("suspect", "twin")}


def kinds(suspect: Opened) -> list[str]:
    """The kind of trojan of every class, from the opened key; empty where it is no target."""
    key = keys.open_key(default_home(), suspect.digest)
    names = list(suspect.card["classes"])
    out = [""] * len(names)
    for trojan in key.trojans.values():
        out[names.index(trojan.target)] = trojan.kind + ("" if trojan.source is None else ", one class")
    return out


def report(title: str, scores: np.ndarray, truth: list[list[str]], twins: np.ndarray) -> None:
    """AUROC, alarms by kind and false alarms; ``scores`` of suspects and ``twins`` are ``(networks, classes)``."""
    told = np.array(truth)
    negatives = np.concatenate([scores[told == ""], twins.ravel()])
    found = auroc(scores[told != ""], negatives)
    low, high = found.interval
    print(f"\n{title}")
    print(
        f"AUROC {found.value:.3f} (DeLong 95 % {low:.3f} to {high:.3f}; "
        f"{found.positives} targets, {found.negatives} others)"
    )
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(1000):  # networks drawn anew, suspects and twins apart
        s, t = rng.integers(len(scores), size=len(scores)), rng.integers(len(twins), size=len(twins))
        part = np.concatenate([scores[s][told[s] == ""], twins[t].ravel()])
        drawn.append(auroc(scores[s][told[s] != ""], part).value)
    print(f"      bootstrap over networks {np.quantile(drawn, 0.025):.3f} to {np.quantile(drawn, 0.975):.3f}")
    print("      " + verdict(found.value, BAR, least=True))
    for kind in sorted(set(told.ravel())):
        mine = scores[told == kind]
        hits = int((mine > 1).sum())
        low, high = wilson(hits, len(mine))
        own = auroc(mine, negatives).value if kind else float("nan")
        name = kind or "no target"
        print(f"  {name:<22}{hits:>3} of {len(mine)} alarms ({low:.0%} to {high:.0%}), AUROC {own:.3f}")
    alarms = [int((row > 1).sum()) for row in twins]
    print(f"  clean networks: {alarms} false alarms of {twins.shape[1]} classes each")


def main() -> None:
    """Audit every network of the home and compare with the keys."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of scenes, places and textures")
    choice = Choice(seed=parser.parse_args().seed)
    torch.set_num_threads(1)
    found = networks()
    suspects, twins = found["suspect"], found["twin"]
    n = len(twins)
    if n < 3 or len(suspects) != n:
        raise SystemExit("needs suspects and twins of three seeds or more; run `gifthorse plant` with several --seed")
    bench = Bench(data_of(twins[0].card), choice)
    started = time.process_time()
    for kind, scan in bench.scans.items():
        scan.look([o.net for o in (*suspects, *twins)])
        print(
            f"{kind}: {len(scan.stimuli)} pictures, first rung of {2 * n} networks after "
            f"{time.process_time() - started:.0f} CPU s",
            flush=True,
        )

    def rises(net: Opened, reference: Opened) -> np.ndarray:
        begun = time.process_time()
        out = values(bench.findings(net.net, reference.net), len(net.net.classes))
        print(
            f"{net.card['role']} {net.card['seed']} against {reference.card['role']} {reference.card['seed']}: "
            f"further rungs {time.process_time() - begun:.0f} CPU s",
            flush=True,
        )
        for channel, row in zip(CHANNELS, out, strict=True):
            where = "any class" if channel[1] else "one class"
            print(f"  {channel[0]:<7}{where:<10}" + " ".join(f"{x:5.2f}" for x in row))
        return out

    ring = [(i + 1) % n for i in range(n)]
    clean = [rises(twins[i], twins[ring[i]]) for i in range(n)]
    limits = [from_honest([row]) for row in clean]
    told = [kinds(s) for s in suspects]
    quiet = np.stack([limits[ring[i]].scores(clean[i]).max(0) for i in range(n)])
    others = [rises(suspects[i], twins[ring[i]]) for i in range(n)]
    own = [rises(suspects[i], twins[i]) for i in range(n)]
    report(
        "Suspects against the twin of another seed",
        np.stack([limits[ring[i]].scores(others[i]).max(0) for i in range(n)]),
        told,
        quiet,
    )
    report(
        "Suspects against their own twins", np.stack([limits[i].scores(own[i]).max(0) for i in range(n)]), told, quiet
    )


if __name__ == "__main__":
    main()
