"""Compose the settings in params.yaml: one frozen section per stage, in the order of the graph."""

from __future__ import annotations

from pathlib import Path

from pipeline.conversations.params import Conversations
from pipeline.dedupe.params import Dedupe
from pipeline.download.params import Download
from pipeline.embed.params import Embed
from pipeline.evaluate.params import Evaluate
from pipeline.filter.params import Filter
from pipeline.frame.settings import ParamsSection, check_section, read_yaml
from pipeline.index.params import Index
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
    """Hold all of params.yaml. Its fields except `registry` are the stages, in the order of the graph."""

    download: Download
    dedupe: Dedupe
    filter: Filter
    index: Index
    embed: Embed
    train_tokenizer: TrainTokenizer
    shard: Shard
    conversations: Conversations
    pretrain: Pretrain
    sft: Sft
    evaluate: Evaluate
    registry: Registry


STAGES = tuple(name for name in Params.model_fields if name != "registry")


def load_params(path: Path) -> Params:
    """Read and validate params.yaml. Raises `UserError` for a missing or broken file, `ParamError` for wrong settings."""
    return check_params(read_yaml(path), str(path))


def check_params(values: object, path: str = "params.yaml") -> Params:
    """Return the validated params. Raises `ParamError` that lists every wrong setting by its dotted name."""
    return check_section(Params, values, path, RENAMED)
