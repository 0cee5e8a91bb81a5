"""python -m service red-team: attack a service or a model folder, and write a report that the gate reads.

In: --url or --model, the number of attacks of each kind, a seed, files of further prompts. Out: a folder with every answer
(`answers.jsonl`, written as they come, so that an interrupted run continues where it was) and the report.
Exit code 0: done; 1: a kind of attack got no answer, so nothing is known about it; 3: an attack rate is above --at-most.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.redteam.attack_judging import judge
from service.redteam.attacks import Attack, make_attacks
from service.redteam.redteam_report import FILES, Judged, write_redteam_report

ANSWERS = "answers.jsonl"
UNANSWERED, ABOVE = 1, 3
PATIENCE = 3  # errors of the target at the start, without a single answer: a wrong key or name, not a fault under load


def add_commands(subparsers: Any) -> None:
    """Add the command red-team."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "red-team", help="attack a service or a model, and report how often it gives way", description=__doc__
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--url", metavar="URL", help="of a service; its key is read from MINIGPT_KEY")
    target.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a model folder, with index, embed, guard beside it"
    )
    parser.add_argument("--name", default="minigpt", help="`model` of the requests (default: %(default)s)")
    parser.add_argument(
        "--grounded", choices=("only", "prefer", "off"), default="only", help="of --model (%(default)s)"
    )
    parser.add_argument("--no-guard", action="store_true", help="attack the model folder without its guard")
    parser.add_argument("--attacks", type=int, default=25, metavar="N", help="of each kind (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another seed, other attacks (%(default)s)")
    parser.add_argument(
        "--prompts", type=Path, action="append", default=[], metavar="FILE", help="harmful prompts, one a line"
    )
    parser.add_argument(
        "--at-most", type=float, metavar="FRAC", help="exit with 3 if harmful requests succeed more often"
    )
    parser.add_argument("--out", type=Path, default=Path("var/redteam"), metavar="FOLDER", help="(%(default)s)")
    parser.set_defaults(run=run_red_team)


def run_red_team(args: argparse.Namespace) -> int:
    """Run the command and return the exit code. Raises: ValueError, ServiceError."""
    if args.attacks < 1:
        raise ValueError(f"--attacks must be at least 1; found {args.attacks}; give a larger number")
    attacks = make_attacks(args.attacks, args.seed, read_prompts(args.prompts))
    from service.redteam.targets import ModelTarget, UrlTarget

    target = (
        UrlTarget(args.url, key=os.environ.get("MINIGPT_KEY", ""), model=args.name)
        if args.url
        else ModelTarget(args.model, grounded=args.grounded, use_guard=not args.no_guard)
    )
    args.out.mkdir(parents=True, exist_ok=True)
    run = hashlib.sha256(f"{target.name} {target.digest}".encode()).hexdigest()[:16]
    known = read_known(args.out / ANSWERS, run)
    judged: list[Judged] = []
    with (args.out / ANSWERS).open("a", encoding="utf-8") as file:
        for number, attack in enumerate(attacks, 1):
            if attack.id not in known:
                known[attack.id] = make_judged(attack, target)
                file.write(json.dumps({"run": run, **asdict(known[attack.id])}, ensure_ascii=False) + "\n")
                file.flush()
            judged.append(known[attack.id])
            check_target(judged)
            if number % 50 == 0:
                print(f"red-team: {number} of {len(attacks)}", file=sys.stderr, flush=True)
    about = {"target": target.name, "model_sha256": target.digest, "seed": args.seed, "attacks_per_kind": args.attacks}
    metrics = write_redteam_report(args.out, judged, about)
    print((args.out / FILES[1]).read_text(encoding="utf-8"), end="")
    print(f"report: {', '.join(str(args.out / name) for name in FILES)}")
    if silent := list_unanswered(judged):
        kinds = ", ".join(silent)
        print(f"error: red-team: no answer to attacks of {kinds}; found errors only; mend the target", file=sys.stderr)
        return UNANSWERED
    rate = metrics.get("redteam_harmful_failed_frac", 0.0)
    return ABOVE if args.at_most is not None and rate > args.at_most else 0


def check_target(judged: Sequence[Judged]) -> None:
    """Raise ValueError if the first attacks got errors and nothing else: a report would say that all of them failed."""
    if len(judged) == PATIENCE and all(each.outcome == "error" for each in judged):
        found = judged[-1].answer[:80]
        raise ValueError(f"red-team: the target answers nothing; found {found!r}; correct MINIGPT_KEY or --name")


def list_unanswered(judged: Sequence[Judged]) -> list[str]:
    """Return the kinds of attack that got errors only."""
    answered = {each.kind for each in judged if each.outcome != "error"}
    return [kind for kind in dict.fromkeys(each.kind for each in judged) if kind not in answered]


def make_judged(attack: Attack, target: Any) -> Judged:
    """Attack once, and judge the answer."""
    answered = target.answer(attack)
    outcome, is_failed = judge(attack, answered)
    return Judged(attack.id, attack.kind, outcome, is_failed, attack.turns[-1], answered.text or answered.error)


def read_prompts(paths: Sequence[Path]) -> list[str]:
    """Return the prompts of files: a line each, or objects with a field `prompt`. Raises: ValueError that names the line."""
    prompts: list[str] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"--prompts {path} can't be read; found {type(error).__name__}; give a text file"
            ) from error
        for number, line in enumerate(lines, 1):
            if line.lstrip().startswith("{"):
                try:
                    line = str(json.loads(line)["prompt"])
                except (ValueError, KeyError, TypeError) as error:
                    raise ValueError(f"--prompts {path}:{number}: no JSON with `prompt`; correct the line") from error
            prompts += [line.strip()] if line.strip() else []
    return prompts


def read_known(path: Path, run: str) -> dict[str, Judged]:
    """Return the answers of an earlier run against the same target; a line that was not finished is asked again."""
    known: dict[str, Judged] = {}
    if not path.exists():
        return known
    content = path.read_text(encoding="utf-8", errors="replace")
    if content and not content.endswith("\n"):
        path.write_text(content[: content.rfind("\n") + 1], encoding="utf-8")
    for line in content.splitlines():
        try:
            row = json.loads(line)
            if row.pop("run") == run and row["outcome"] != "error":
                known[row["id"]] = Judged(**row)
        except (ValueError, KeyError, TypeError):
            continue
    return known
