"""`python -m tests.chaos [--kills N] [--seed S] [--s3]`: kills with SIGKILL, continues, compares. Exit code 1: anything differs."""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import fsspec

from tests.chaos.machines import Machines, machines
from tests.chaos.moments import PASSES
from tests.chaos.trial import LONGEST_DELAY, Damage, Kill, Shot, Trial, damage, undisturbed, write_inputs
from tests.conftest import SAMPLE
from tests.s3 import s3_server

VICTIMS = ("driver", "actor", "node")


def shots(rng: random.Random) -> list[Shot]:
    """One shot in every pass, in the order of the passes."""
    return [Shot(moment, rng.choice(VICTIMS), rng.uniform(0, LONGEST_DELAY[moment])) for moment in PASSES]


def assault(kills: int, seed: int, folder: Path, roots: str) -> tuple[list[Kill], list[Damage]]:
    """Root after root under fire, until so many kills have hit. Prints each."""
    sample_inputs = write_inputs(folder / "in", SAMPLE)
    reference = undisturbed(folder / "reference", sample_inputs)
    hit: list[Kill] = []
    found: list[Damage] = []
    with machines() as cluster:
        while len(hit) < kills:
            number = len(found)
            planned = shots(random.Random(f"{seed}.{number}"))
            hit += under_fire(cluster, sample_inputs, f"{roots}/{number:03d}", (f"{seed}.{number}", planned[: kills - len(hit)]))
            found.append(damage(reference, f"{roots}/{number:03d}"))
            say(f"root {number:03d}, seed {seed}.{number}: lost {found[-1].lost}, duplicated {found[-1].duplicated}, "
                f"differing {found[-1].differing[:5]}, faults {found[-1].faults[:3]}")
    return hit, found


def under_fire(cluster: Machines, inputs: list[Path], root: str, plan: tuple[str, list[Shot]]) -> list[Kill]:
    seed, planned = plan
    trial = Trial(cluster, inputs, root, random.Random(f"{seed}.victims"))
    hit: list[Kill] = []
    try:
        for kill in trial.run(planned):
            if kill.victim != "no actor":
                hit.append(kill)
            say(f"  killed {kill.victim} in {kill.moment} (wanted: {kill.wanted})")
    finally:
        trial.close()
    return hit


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--s3", action="store_true", help="the root is behind an S3 API on loopback instead of on this disk")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, s3_server() if chosen.s3 else nullcontext():
        if chosen.s3:
            fsspec.filesystem("s3").mkdir("chaos")
        hit, found = assault(chosen.kills, chosen.seed, Path(scratch), "s3://chaos/roots" if chosen.s3 else f"{scratch}/roots")
    by = Counter((kill.victim, kill.moment) for kill in hit)
    for (victim, moment), count in sorted(by.items()):
        print(f"{count:4d} {victim} in {moment}")
    lost, twice = sum(d.lost for d in found), sum(d.duplicated for d in found)
    differing, faults = sum(len(d.differing) for d in found), sum(len(d.faults) for d in found)
    print(f"{len(hit)} kills over {len(found)} roots, seeds {chosen.seed}.0 to {chosen.seed}.{len(found) - 1}: "
          f"{lost} lost, {twice} duplicated, {differing} differing files, {faults} faults")
    return int(bool(lost or twice or differing or faults))


if __name__ == "__main__":
    sys.exit(main())
