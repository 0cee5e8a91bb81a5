"""Run a stage inside the frame: check params, provide a scratch folder, run, check that counts reconcile, rename, write metrics.

A stage is `run(params, *, docs: Path, out: Path) -> Metrics`. Its keyword-only paths are the flags of the command line;
`out` is a temporary folder that the frame renames on success, so that a half-written output can't be mistaken for a finished
one. A stage that asks for `scratch: Path` gets a folder that survives a crash and is named by a hash of its params, its
inputs and its code: whatever it contains belongs to exactly this run. Clock readings are not metrics: a stage reports them with
`report_timings`, and the frame writes them to var/timings/<stage>.json.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import inspect
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType

import xxhash

from pipeline.frame.environment import read_seconds
from pipeline.frame.errors import UserError
from pipeline.frame.locks import lock_folder
from pipeline.frame.metrics import Metrics, check_metrics, write_json
from pipeline.frame.stopping import watch_signals
from pipeline.frame.timings import start_timings, write_timings
from pipeline.params import load_stage_params

SCRATCH = Path("scratch")
TERMINATED = 143  # 128 + SIGTERM, as shells report it


def load_stage(name: str) -> ModuleType:
    """Import the module of a stage, `pipeline/<name>/stage.py`."""
    return importlib.import_module(f"pipeline.{name}.stage")


def get_stage_name(module: ModuleType) -> str:
    """Return the name of an imported stage: the inverse of `load_stage`."""
    return module.__name__.removesuffix(".stage").rpartition(".")[2]


def list_inputs(run: Callable[..., Metrics]) -> dict[str, bool]:
    """Return the keyword-only paths that a stage reads, which are its flags, in order: by name whether it must be given. An input
    whose default is None may be left out (`shards: Path | None = None`)."""
    inputs = [p for p in inspect.signature(run).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return {p.name: p.default is p.empty for p in inputs if p.name not in ("out", "scratch")}


def run_stage(
    module: ModuleType, *, params_path: Path, inputs: Mapping[str, Path], out: Path, metrics_path: Path
) -> Metrics:
    """Run one stage and return its metrics. Afterwards `out` and `metrics_path` are complete; if it fails, only scratch/ has
    changed."""
    name, rank = get_stage_name(module), int(os.environ.get("RANK", "0"))
    section = load_stage_params(params_path, name)
    for flag, path in inputs.items():
        if not path.exists():
            do = "run the stage that makes it (dvc repro), or correct the path"
            raise UserError(f"{name}: --{flag} is missing", f"no {path}", do)
    _check_out(name, out, [params_path, Path.cwd(), *inputs.values()])
    started = time.monotonic()
    start_timings()
    partial = out.with_name(f"{out.name}.{rank}.partial" if rank else f"{out.name}.partial")
    extra = {}
    if "scratch" in inspect.signature(module.run).parameters:
        extra["scratch"] = SCRATCH / name / make_run_key(module, section.model_dump_json(), inputs)
        extra["scratch"].mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, exit_once)
    held = _claim_folder(partial, name)
    try:
        with watch_signals(name, partial, read_seconds("MINIGPT_STOP_SECONDS")):
            metrics = module.run(section, **inputs, **extra, out=partial)
        check_metrics(name, metrics)
        if rank:  # under torchrun only rank 0 writes
            return metrics
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
        write_json(metrics_path, metrics)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{name}: the disk is full", str(error), "free some space and run it again") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        os.close(held)
    if extra:
        shutil.rmtree(SCRATCH / name, ignore_errors=True)
    seconds = time.monotonic() - started
    write_timings(name, metrics_path, seconds)
    print(f"{name}: done in {seconds:.1f} s", flush=True)
    return metrics


def _check_out(name: str, out: Path, needed: Sequence[Path]) -> None:
    """Raise `UserError` if a run would delete what it needs: its output folder replaces what was there before."""
    if out.exists() and not out.is_dir():
        raise UserError(
            f"{name}: --out is no folder", f"a file: {out}", f"give a folder of its own, such as data/{name}"
        )
    for path in needed:
        if path.resolve().is_relative_to(out.resolve()):
            raise UserError(
                f"{name}: --out would be replaced, and contains what is needed",
                f"{path} is in {out}",
                f"give a folder of its own, such as data/{name}",
            )


def _claim_folder(partial: Path, name: str) -> int:
    """Create or empty `partial` and return the descriptor that keeps it exclusive to this process while it is open: otherwise a
    second run would empty it while the first one writes. A killed process holds no lock, so its folder is taken over."""
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        do = "give an --out in a folder that you may write"
        raise UserError(f"{name}: the output folder can't be made", f"{partial}: {error.strerror}", do) from error
    held = lock_folder(partial)
    if held is None:
        raise UserError(
            f"{name}: another run is making {partial.with_suffix('')}", str(partial), "wait for it, or stop it"
        )
    for path in partial.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return held


def make_run_key(module: ModuleType, section: str, inputs: Mapping[str, Path]) -> str:
    """Return 32 hex digits that identify a run: a hash of its params, of every byte of its inputs (for token shards, of the sha256
    in their manifest) and of its code."""
    digest = xxhash.xxh3_128(section.encode())
    code = sorted(find_code_files(module))
    for place in [*inputs.values(), *code]:
        stated = _list_files_with_sha256(place)
        for path in sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            if path in stated:
                continue
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _list_files_with_sha256(place: Path) -> set[Path]:
    """Return the token shards whose sha256 the manifest of the folder states. They need not be hashed here: the manifest is, and
    every reader verifies them against it (model/data/verified.py). Reading hundreds of gigabytes at every start and in every
    process would take minutes."""
    manifest = place / "manifest.json"
    if not manifest.is_file():
        return set()
    parts = [part for part in json.loads(manifest.read_text(encoding="utf-8")).values() if isinstance(part, dict)]
    return {place / file["name"] for part in parts for file in part.get("files", []) if "sha256" in file}


def find_code_files(module: ModuleType) -> set[Path]:
    """Return the source files of `pipeline` and `model` that the module refers to, directly or through the modules it imports
    from."""
    names: set[str] = set()
    waiting = [module.__name__]
    while waiting:
        name = waiting.pop()
        if name in names or name.partition(".")[0] not in ("pipeline", "model") or name not in sys.modules:
            continue
        names.add(name)
        values = vars(sys.modules[name]).values()
        waiting += [
            each.__name__ if isinstance(each, ModuleType) else str(getattr(each, "__module__", "")) for each in values
        ]
    files = [getattr(sys.modules[name], "__file__", None) for name in names]
    if any(name.startswith("model.") for name in names):  # some modules of `model` are imported lazily
        files += sorted(map(str, (Path(__file__).parent.parent / "model").rglob("*.py")))
    return {Path(file) for file in (*files, inspect.getfile(module)) if file}


def exit_once(_signal: int, _frame: FrameType | None) -> None:
    """Raise SystemExit: this unwinds the stack so that the half-written folder is removed, and ignore further ones."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(TERMINATED)
