"""Worlds that must stay whole, faults that must break one, and a seed that must give the same world again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import InternalErrors
from tests.sim.faults import FAULTS, find
from tests.sim.scenario import play

ROOT = Path(__file__).parents[2]
README = (Path(__file__).parent / "README.md").read_text()
WORLDS = 50
QUICK = 2  # of them in every check


def seeds() -> list[object]:
    return [pytest.param(seed, marks=[pytest.mark.slow] if seed >= QUICK else []) for seed in range(WORLDS)]


@pytest.mark.parametrize("seed", seeds())
def test_nothing_is_broken(seed: int) -> None:
    trace, failure = play(seed)
    if failure is not None:
        print(*trace.lines, sep="\n")
        pytest.fail(f"{failure}\nplay it again: python -m tests.sim --seed {seed}")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, internal_errors: InternalErrors) -> None:
    _, failure = find(name)
    internal_errors.expected = internal_errors.count  # a fault may well be one of those, too
    assert failure is not None, f"nothing has broken like this: {FAULTS[name].breaks}"


def test_the_planted_faults_are_those_of_the_readme() -> None:
    table = README.partition("## Planted faults")[2]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    assert {row[0]: row[1] for row in rows[2:]} == {name: fault.what for name, fault in FAULTS.items()}


@pytest.mark.slow
def test_a_seed_gives_the_same_world_again() -> None:
    """In another process, where sets and ``hash`` are in another order."""
    digests = {digest_of("7", hash_seed) for hash_seed in ("1", "2")}
    assert len(digests) == 1
    assert digests != {digest_of("8", "1")}


def digest_of(seed: str, hash_seed: str) -> str:
    command = [sys.executable, "-m", "tests.sim", "--seed", seed]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return ran.stdout.partition("digest ")[2]
