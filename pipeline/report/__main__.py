"""python -m pipeline.report: write var/report.html and var/report.md for the finished pipeline in this folder.

Two versions in one page: python -m pipeline.registry compare A B.
In: data/metrics, var/timings, the training histories, data/evaluate/samples.jsonl, params.yaml, Git's commit. The registry's gate
(`make run`) writes the same files with the champion's metrics for comparison. Exit codes: 0 success, 1 user error, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.frame.errors import UserError
from pipeline.report.facts import read_facts, read_provenance
from pipeline.report.render import FILES, write_report


def main(argv: list[str] | None = None) -> int:
    """Write the report and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("var"), metavar="FOLDER", help="default: var")
    args = parser.parse_args(argv)
    try:
        report_pipeline(Path.cwd(), args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"report: {', '.join(str(args.out / name) for name in FILES)}", flush=True)
    return 0


def report_pipeline(root: Path, out: Path) -> None:
    """Write the report of the pipeline below `root`. Raises `UserError` if it has not been evaluated."""
    needed = (root / "data/metrics/evaluate.json", root / "data/sft/config.json")
    if missing := [path for path in needed if not path.exists()]:
        raise UserError("report: the pipeline has not been evaluated", f"no {missing[0]}", "run `dvc repro` first")
    out.mkdir(parents=True, exist_ok=True)
    write_report(out, read_facts(root), read_provenance(root))


if __name__ == "__main__":
    sys.exit(main())
