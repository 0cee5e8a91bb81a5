"""The typed mirror of params.yaml: one frozen model a stage, in stage order.

Unknown keys, wrong types and values out of range are refused before any work, with the dotted name. Values are read with
YAML 1.2 (as DVC reads them), so that `3e-4` is a number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from pipeline.errors import ParamError, UserError
from pipeline.frame.settings import Count, Frac, LearningRate, NgramWords, Section, Seed
from pipeline.index.params import Index
from pipeline.params.sources import (
    Download,
    Http,
    HttpFile,
    HuggingFace,
    PythonDocs,
    SourceFormat,
    SourceName,
    Text,
    TextSettings,
    Warc,
    Wikipedia,
)
from pipeline.params.text import (
    C4,
    PII_KINDS,
    RUN_NAME,
    Decontamination,
    Dedupe,
    EvaluationSet,
    ExampleFiles,
    Examples,
    Filter,
    FineWeb,
    GopherQuality,
    GopherRepetition,
    Language,
    Licences,
    ModelFile,
    NearIndex,
    Pii,
    QualityClassifier,
    Repeats,
    RunName,
    bands_for,
)
from pipeline.params.training import (
    Architecture,
    Budget,
    BudgetedOptimization,
    Conversations,
    Data,
    Evaluate,
    Optimization,
    Pretrain,
    Samples,
    Sft,
    Shard,
    Spikes,
    TrainTokenizer,
)

__all__ = [
    "C4",
    "PII_KINDS",
    "RUN_NAME",
    "Architecture",
    "Budget",
    "BudgetedOptimization",
    "Conversations",
    "Count",
    "Data",
    "Decontamination",
    "Dedupe",
    "Download",
    "Evaluate",
    "EvaluationSet",
    "ExampleFiles",
    "Examples",
    "Filter",
    "FineWeb",
    "Frac",
    "GopherQuality",
    "GopherRepetition",
    "Http",
    "HttpFile",
    "HuggingFace",
    "Index",
    "Language",
    "LearningRate",
    "Licences",
    "ModelFile",
    "NearIndex",
    "NgramWords",
    "Optimization",
    "Params",
    "Pii",
    "Pretrain",
    "PythonDocs",
    "QualityClassifier",
    "Registry",
    "Repeats",
    "RunName",
    "Samples",
    "Section",
    "Seed",
    "Sft",
    "Shard",
    "SourceFormat",
    "SourceName",
    "Spikes",
    "Text",
    "TextSettings",
    "TrainTokenizer",
    "Warc",
    "Wikipedia",
    "bands_for",
    "check_params",
    "check_section",
    "load_params",
    "read_yaml",
]

S = TypeVar("S", bound=Section)

MOVED = {  # setting → where it is now
    "conversations.passage_chars": "index.passage_chars",
    "conversations.max_index_bytes": "index.max_bytes",
    "conversations.max_sample_bytes": "index.max_sample_bytes",
}


class Registry(Section):
    """The gate's policy: what a candidate must not lose against the champion."""

    max_bpb_z: Annotated[float, Field(ge=0.0)]  # standard errors of the paired difference in bits per byte
    max_bpb_increase: Annotated[
        float, Field(ge=0.0)
    ]  # bits per byte, where the two were not measured on the same documents
    max_skill_drop: dict[str, Frac]  # skill → how much of the champion's fraction may be lost


class Params(Section):
    download: Download
    dedupe: Dedupe
    filter: Filter
    index: Index
    train_tokenizer: TrainTokenizer
    shard: Shard
    conversations: Conversations
    pretrain: Pretrain
    sft: Sft
    evaluate: Evaluate
    registry: Registry


def load_params(path: Path) -> Params:
    """params.yaml, whole and checked. Raises `UserError` for a missing or broken file, `ParamError` for a setting."""
    return check_params(read_yaml(path), str(path))


def read_yaml(path: Path) -> Any:
    """What a YAML 1.2 file holds. Raises: `UserError`."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", "nothing", "run in the repository's root, or give --params") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML", str(error), "mend the line it names") from error


def check_params(values: object, path: str = "params.yaml") -> Params:
    """The typed params. Raises `ParamError` that names every wrong setting by its dotted name."""
    return check_section(Params, values, path)


def check_section(kind: type[S], values: object, path: str) -> S:
    """The same for any section."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False)]
        names = ", ".join(name for name, _, _ in problems)
        found = "; ".join(f"{name} = {value}" for name, value, _ in problems)
        raise ParamError(f"{path}: {names}", found, "; ".join(f"{name}: {say}" for name, _, say in problems)) from error


def _problem(detail: Any) -> tuple[str, str, str]:
    name = ".".join(str(part) for part in detail["loc"]) or "params.yaml"
    value = "(missing)" if detail["type"] == "missing" else repr(detail["input"])[:80]
    say = detail["msg"]
    if detail["type"] == "extra_forbidden":
        say = f"it is {MOVED[name]} now" if name in MOVED else "unknown setting, remove it or correct its spelling"
    return name, value, say
