"""The text that MLflow shows on a version's page: what it measures, what it was made from and with, how to talk to it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.registry.lineage import Publication
from pipeline.skills import SKILLS

# "stage.metric": what a reader compares two versions by, besides bits per byte and skills.
SIZES = {
    "pretrain.n_params": "parameters",
    "pretrain.tokens": "tokens of pretraining",
    "sft.steps": "steps of fine-tuning",
    "filter.docs_out": "documents after filtering",
    "shard.vocab_size": "words of the vocabulary",
}
PARAMS = ("pretrain.model", "pretrain.training", "sft.training", "download.sources")  # the rest: the page of the run
TALK = """```sh
make chat                                        # if this version is the champion
python -m pipeline.registry pull --version N --to FOLDER    # N: the number of this version
python -m assistant --model FOLDER/model
```"""


def describe_version(work: Publication) -> str:
    """Return the description of a version as Markdown."""
    return "\n\n".join(
        [
            f"Made from commit `{work.tags['git_commit']}`{_describe_changes(work.tags['git_is_dirty'])}, "
            f"fingerprint `{work.fingerprint[:12]}`.",
            _format_table(("measured on held-out text and questions", ""), _list_metrics(work)),
            _format_table(
                ("size", ""), [(words, _count(work, name)) for name, words in SIZES.items() if name in work.metrics]
            ),
            _format_table(("setting", ""), _list_params(work)),
            TALK,
        ]
    )


def _describe_changes(is_dirty: str) -> str:
    return {"true": " with changes that were not committed", "false": ""}.get(is_dirty, "")


def _list_metrics(work: Publication) -> list[tuple[str, str]]:
    rows = [("bits per byte", "evaluate.bpb", 1.0, 3, "")]
    rows += [(skill.title, f"evaluate.{skill.metric}", 100.0, 1, " %") for skill in SKILLS]
    return [
        (title, f"{work.metrics[name] * scale:.{digits}f}{_format_error(work, name, scale, digits)}{unit}")
        for title, name, scale, digits, unit in rows
        if name in work.metrics
    ]


def _format_error(work: Publication, name: str, scale: float, digits: int) -> str:
    error = work.metrics.get(f"{name}_se")
    return "" if error is None else f" ± {error * scale:.{digits}f}"


def _count(work: Publication, name: str) -> str:
    return f"{work.metrics[name]:,.0f}"


def _list_params(work: Publication) -> list[tuple[str, str]]:
    return [(name, value) for name, value in work.params.items() if name.startswith(PARAMS) and value != "null"]


def _format_table(header: tuple[str, str], rows: Sequence[tuple[str, str]]) -> str:
    lines = [
        " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row)
        for row in (header, ("---", "---"), *rows)
    ]
    return "\n".join(f"| {line} |" for line in lines)
