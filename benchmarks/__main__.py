"""``python -m benchmarks``: run the loads against the peers, print the tables, write the JSON."""

import argparse
import compileall
import gc
import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.connection import LoadFailed
from benchmarks.costs import cost_table, run_stages
from benchmarks.dataset import FOLDER, Shape, load
from benchmarks.meter import raise_descriptor_limit, wait_rest
from benchmarks.peers import COMMANDS, NODE_MODULES, OURS, ROOT, THEIRS, start
from benchmarks.plan import EVERY_LOAD, LOADS, Scene, Sizes, scenes
from benchmarks.profiling import NotPermitted, profile, profile_table
from benchmarks.report import Report, machine

RESULTS = Path(__file__).parent / "results"
STAGES, PROFILE = "stages", "profile"  # of ours alone, and no loads
EVERYTHING = (*EVERY_LOAD, STAGES, PROFILE)
DEFAULT = (*LOADS, STAGES, PROFILE)


def main() -> None:
    arguments = _parser().parse_args()
    sizes, only = _sizes(arguments), frozenset(arguments.only)
    if THEIRS in arguments.peers and not NODE_MODULES.is_dir():
        sys.exit(f"ssb-server is not installed: run `make bench`, or `npm ci` in {NODE_MODULES.parent}")
    raise_descriptor_limit()
    compileall.compile_dir(ROOT / "pub", quiet=1)  # as pip does when it installs, whatever this environment says
    report = Report()
    result: dict[str, Any] = {"machine": machine(), "runs": arguments.runs, "sizes": asdict(sizes)}
    for scene in scenes(sizes, only):
        for run in range(arguments.runs):
            for peer in arguments.peers if run % 2 == 0 else reversed(arguments.peers):
                _run(scene, peer, report, only)
    if STAGES in only:
        result["stages"] = _attempt(STAGES, run_stages, report)
    if PROFILE in only:
        result["profile"] = _attempt(PROFILE, lambda: profile(load(sizes.many), arguments.native), report)
    result |= {"steps": report.steps(), "goals": report.goals(), "failures": report.failures}
    _show(report, result, arguments.peers)
    path = arguments.out or RESULTS / f"{datetime.now():%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {path}", file=sys.stderr)
    sys.exit(1 if report.failures else 0)


def _run(scene: Scene, kind: str, report: Report, only: frozenset[str]) -> None:
    """One scene on one fresh peer. What fails has no figure, nor have the steps after it; the others go on."""
    steps = [step for step in scene if kind in step.peers]
    for step in scene:
        if step not in steps:
            print(f"{kind}: not {step.title}: {step.why}", file=sys.stderr, flush=True)
    if not any(step.load in only for step in steps):
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    title = "start"
    try:
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder, start(kind, Path(folder) / kind) as peer:
            for step in steps:
                title = step.title
                print(f"{kind}: {title}", file=sys.stderr, flush=True)
                wait_rest(peer.pid)
                gc.collect()
                figures = step.run(peer)
                if step.load in only:
                    report.add(title, kind, figures)
    except (LoadFailed, OSError, RuntimeError) as error:
        traceback.print_exc()
        report.failures.append(f"FAILED {kind}: {title}: {error}")


def _attempt(what: str, work: Callable[[], Any], report: Report) -> Any:
    """Its result; None, with the reason said, where it is not permitted or fails."""
    print(f"{OURS}: {what}", file=sys.stderr, flush=True)
    try:
        return work()
    except NotPermitted as reason:
        print(f"no {what}: {reason}", file=sys.stderr)
    except (LoadFailed, OSError, RuntimeError) as error:
        traceback.print_exc()
        report.failures.append(f"FAILED {OURS}: {what}: {error}")
    return None


def _show(report: Report, result: dict[str, Any], peers: list[str]) -> None:
    print(report.table(peers))
    if result.get(STAGES):
        print("", cost_table(result[STAGES], result["steps"]), sep="\n")
    if result.get(PROFILE):
        print("", profile_table(result[PROFILE]), sep="\n")
    print(*report.failures, sep="\n", file=sys.stderr)


def _sizes(arguments: argparse.Namespace) -> Sizes:
    return Sizes(
        many=Shape(arguments.feeds, arguments.messages, arguments.size),
        one=Shape(1, arguments.one, arguments.size),
        short=Shape(arguments.feeds, 1, arguments.size),
        far=Shape(arguments.far, 1, arguments.size),
        followers=tuple(arguments.followers),
        idle=tuple(arguments.idle),
        idle_ebt=arguments.idle_ebt,
        large=Shape(arguments.large, 100, arguments.size),
    )


def _parser() -> argparse.ArgumentParser:
    sizes = Sizes()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure pubs; see benchmarks/README.md.")
    parser.add_argument("--only", type=_parts, default=list(DEFAULT), help=f"some of {','.join(EVERYTHING)}, or all")
    parser.add_argument("--peers", type=_words(COMMANDS), default=[OURS, THEIRS], help=f"some of {','.join(COMMANDS)}")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where to write the JSON; default: benchmarks/results/<time>.json")
    parser.add_argument("--native", action="store_true", help="profile: look through frames of C as well")
    parser.add_argument("--feeds", type=int, default=sizes.many.feeds)
    parser.add_argument("--messages", type=int, default=sizes.many.messages, help="of each feed")
    parser.add_argument("--size", type=int, default=sizes.many.size, help="bytes of a message, on average")
    parser.add_argument("--one", type=int, default=sizes.one.messages, help="messages of the one long feed")
    parser.add_argument("--far", type=int, default=sizes.far.feeds, help="feeds of a peer who knows many")
    parser.add_argument("--followers", type=int, nargs="+", default=sizes.followers)
    parser.add_argument("--idle", type=int, nargs="+", default=sizes.idle, help="connections without EBT")
    parser.add_argument("--idle-ebt", type=int, default=sizes.idle_ebt, help="connections with EBT")
    parser.add_argument("--large", type=int, default=sizes.large.feeds, help="feeds of the large store")
    return parser


def _parts(text: str) -> list[str]:
    return {"all": list(EVERYTHING), "default": list(DEFAULT)}.get(text) or _words(EVERYTHING)(text)


def _words(known: Collection[str]) -> Callable[[str], list[str]]:
    """A list with commas, of these words."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        if unknown := set(words) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(known)}")
        return words

    return parse


if __name__ == "__main__":
    main()
