"""Compose the settings in params.yaml: one frozen section per stage, in the order of the graph.

The stages of dvc.yaml have required fields; the optional stages, which only task recipes run (docs/recipes/NAME/dvc.yaml), have
fields that default to None. A task recipe's params.yaml has the sections of its own stages and no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, cast, get_args

from pydantic import create_model

from pipeline.assess.params import Assess
from pipeline.conversations.params import Conversations
from pipeline.dedupe.params import Dedupe
from pipeline.distill.params import Distill
from pipeline.domain.params import Domain
from pipeline.download.params import Download
from pipeline.embed.params import Embed
from pipeline.evaluate.params import Evaluate
from pipeline.filter.params import Filter
from pipeline.frame.settings import ParamsSection, check_section, read_yaml
from pipeline.guard.params import GuardSection
from pipeline.index.params import Index
from pipeline.prefer.params import Prefer
from pipeline.pretrain.params import Pretrain
from pipeline.registry.params import Registry
from pipeline.sft.params import Sft
from pipeline.shard.params import Shard
from pipeline.train_tokenizer.params import TrainTokenizer

RENAMED = {  # old dotted name → new one
    "conversations.passage_chars": "index.section_chars",
    "index.passage_chars": "index.section_chars",
    "conversations.max_sample_bytes": "index.max_sample_bytes",
    "filter.licences": "filter.licenses",
    **{f"download.sources.{kind}.licence": "license" for kind in ("text", "http", "huggingface", "wikipedia", "warc")},
    **{f"download.sources.{kind}.licence_column": "license_column" for kind in ("text", "http", "huggingface")},
}


class Params(ParamsSection):
    """Hold all of params.yaml. Its required fields except `registry` are the stages of dvc.yaml, in the order of the graph."""

    download: Download
    dedupe: Dedupe
    filter: Filter
    index: Index
    embed: Embed
    train_tokenizer: TrainTokenizer
    shard: Shard
    conversations: Conversations
    guard: GuardSection
    pretrain: Pretrain
    sft: Sft
    evaluate: Evaluate
    registry: Registry
    domain: Domain | None = None
    assess: Assess | None = None
    prefer: Prefer | None = None
    distill: Distill | None = None


STAGES = tuple(name for name, field in Params.model_fields.items() if field.is_required() and name != "registry")
OPTIONAL_STAGES = tuple(name for name, field in Params.model_fields.items() if not field.is_required())


def get_section_type(name: str) -> type[ParamsSection]:
    """Return the type of a section: for an optional stage the one beside None."""
    kind = Params.model_fields[name].annotation
    forms = [form for form in get_args(kind) if form is not NoneType]
    return cast(type[ParamsSection], forms[0] if forms else kind)


def load_params(path: Path) -> Params:
    """Read and validate params.yaml. Raises `UserError` for a missing or broken file, `ParamError` for wrong settings."""
    return check_params(read_yaml(path), str(path))


def check_params(values: object, path: str = "params.yaml") -> Params:
    """Return the validated params. Raises `ParamError` that lists every wrong setting by its dotted name."""
    return check_section(Params, values, path, RENAMED)


def load_stage_params(path: Path, stage: str) -> ParamsSection:
    """Read the section of one stage. The file may be a task recipe's, with a subset of the sections; all that it has are
    validated. Raises: `UserError` for a missing or broken file, `ParamError` for wrong settings or a missing section."""
    return check_stage_params(read_yaml(path), stage, str(path))


def check_stage_params(values: object, stage: str, path: str = "params.yaml") -> ParamsSection:
    """Return the validated section of a stage, from all sections or a subset. Raises: `ParamError`."""
    given = cast(Mapping[str, object], values) if isinstance(values, Mapping) else {}
    names = [name for name in Params.model_fields if name in given or name == stage]
    fields: dict[str, Any] = {name: (get_section_type(name), ...) for name in names}
    subset = create_model("GivenSections", __base__=ParamsSection, **fields)
    return getattr(check_section(subset, values, path, RENAMED), stage)
