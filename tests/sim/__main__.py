"""``python -m tests.sim --seed 1234`` plays one world; see README.md."""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.sim.faults import FAULTS, find
from tests.sim.scenario import failure_of, play

SHOWN_LINES = 400  # of a trace, from its end; --trace shows all


def main() -> int:
    """The exit code: 0 if nothing was broken, or if a planted fault was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seed", type=int, default=0, help="which world")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from --seed on, over all cores")
    parser.add_argument("--trace", action="store_true", help="tell all that happened, also if nothing was broken")
    parser.add_argument("--fault", choices=FAULTS, help="plant this fault and play worlds until one is broken")
    asked = parser.parse_args()
    if asked.fault is not None:
        return _look_for(asked.fault)
    if asked.seeds == 1:
        return _play_one(asked.seed, asked.trace)
    return _play_many(range(asked.seed, asked.seed + asked.seeds))


def _look_for(name: str) -> int:
    seed, failure = find(name)
    print(f"{name}: {FAULTS[name].what}")
    print(f"seed {seed}: {failure}" if failure else f"not found in {seed} worlds")
    return failure is None


def _play_one(seed: int, is_all_told: bool) -> int:
    trace, failure = play(seed)
    if failure or is_all_told:
        print(*trace.lines[0 if is_all_told else -SHOWN_LINES :], sep="\n")
    print(f"seed {seed}: {failure or 'nothing broken'} (digest {trace.digest})")
    return failure is not None


def _play_many(seeds: range) -> int:
    began, broken = time.monotonic(), 0
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), mp_context=get_context("spawn")) as pool:
        for seed, failure in zip(seeds, pool.map(failure_of, seeds, chunksize=5), strict=True):
            if failure is not None:
                broken += 1
                print(f"{failure}\nplay it again: python -m tests.sim --seed {seed}", flush=True)
    print(f"{len(seeds)} worlds, {broken} broken, {time.monotonic() - began:.0f} s")
    return broken > 0


if __name__ == "__main__":
    sys.exit(main())
