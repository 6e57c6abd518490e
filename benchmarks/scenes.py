"""How many emoji scenes of 64x64 does one core draw per second? The bar is 500.

Run: ``python benchmarks/scenes.py [--rounds 9]``
"""

from __future__ import annotations

from itertools import count

from measure import rounds_from, spread, turns, verdict

from gifthorse.data.emoji import EmojiScenes

SCENES, BAR = 512, 500


def main() -> None:
    """Draw other scenes each round and print the rate."""
    rounds = rounds_from(__doc__, 9)
    data, seeds = EmojiScenes(64), count()
    times = turns({"scenes": lambda: data.scenes("train", SCENES, next(seeds))}, rounds)["scenes"]
    rate = spread([SCENES / s for s in times.cpu])
    print(f"scenes per CPU second, n = {SCENES} each round  {rate}  {verdict(rate.median, BAR, least=True)}")
    print(f"scenes per wall second{'':26}{spread([SCENES / s for s in times.wall])}")


if __name__ == "__main__":
    main()
