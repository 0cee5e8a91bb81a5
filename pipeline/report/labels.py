"""Words for names in metrics: reasons for dropping a document, kinds of conversations, sizes of a model. Skills: pipeline/skills.

In: names as the stages write them. Out: what a reader sees. A name without words here is shown as it is, without underscores.
"""

from __future__ import annotations

import re

from pipeline.skills import SKILLS

SAMPLE_TITLES = {skill.name: skill.title for skill in SKILLS} | {"continuation": "Continuation by the pretrained model"}
SPEAKERS = {
    "user": "User",
    "tool": "Tool",
    "system": "System",
    "call": "MiniGPT calls",
    "assistant": "MiniGPT",
    "text": "Text",
}
STAGES = {
    "download": "collected",
    "dedupe": "left after deduplication",
    "filter": "left after filtering",
}
REASONS = {
    "duplicate_id": "collected twice",
    "takedown": "taken down",
    "exact_duplicate": "exact duplicate",
    "near_duplicate": "near duplicate",
    "seen_before": "near duplicate of a document of an earlier run",
    "seen_before_exact": "exact duplicate of a document of an earlier run",
    "few_chars_left": "too little text left without its repeats",
    "language": "language not wanted, or uncertain",
    "license_denied": "license denied",
    "license_not_allowed": "license not on the allow list",
    "license_unknown": "license unknown",
    "contaminated": "shares text with an evaluation set",
    "quality_classifier": "quality score too low",
    "min_words": "too few words",
    "max_words": "too many words",
    "min_mean_word_chars": "words too short on average",
    "max_mean_word_chars": "words too long on average",
    "max_symbol_word_frac": "too many symbols for its words",
    "max_bullet_line_frac": "too many bulleted lines",
    "max_ellipsis_line_frac": "too many lines ending in an ellipsis",
    "min_alpha_word_frac": "too few words with a letter",
    "min_stop_words": "too few stop words",
    "max_dup_line_frac": "too many duplicate lines",
    "max_dup_paragraph_frac": "too many duplicate paragraphs",
    "max_dup_line_char_frac": "too much text in duplicate lines",
    "max_dup_paragraph_char_frac": "too much text in duplicate paragraphs",
    "max_lorem_ipsum_lines": "placeholder text (lorem ipsum)",
    "max_curly_bracket_lines": "curly brackets",
    "min_sentences": "too few sentences",
    "min_punctuated_line_frac": "too few lines ending in punctuation",
    "max_short_line_frac": "too many short lines",
    "max_repeated_line_char_frac": "too much text in repeated lines",
    "max_newline_word_frac": "too many line breaks for its words",
}
NGRAM_REASONS = {
    "top": "too much text in the most frequent {n}‑word phrase",
    "dup": "too much text in repeated {n}‑word phrases",
}
CONVERSATIONS = {
    "quote": "Quote a passage",
    "abstain": "No passage has the answer",
    "calculator": "Calculate",
    "search": "Search",
    "chat": "Small talk",
    "identity": "Identity",
    "refusal": "Refuse an unsafe request",
    "harmless": "Answer a harmless request",
}
USER_KINDS = {  # of turns typed by hand (pipeline/evaluate/judging.py)
    "wordings": "A name, asked for in many ways",
    "arguments": "Arguments, defaults, return values",
    "typos": "Misspelled names",
    "multi_turn": "Conversations of several turns",
    "comparison": "Two names compared",
    "how_to": "How to, without a name",
    "code": "Code and examples",
    "units": "Units",
    "dates": "Dates",
    "calculation": "Calculations",
    "small_talk": "Small talk, asking back",
    "other_languages": "Other languages",
    "injection": "Instructions in texts, forged turns",
    "extraction": "Facts of a given text",
    "classification": "Kinds of a given text",
    "summary": "Summaries of a given text",
    "spelling": "Spelling and counting",
    "constraints": "Answers in a demanded form",
}
SIZES = {
    "n_layer": "Layers",
    "d_model": "Model width",
    "n_head": "Attention heads",
    "n_kv_head": "Key-value heads",
    "d_head": "Head width",
    "d_ff": "Feed-forward width",
    "seq_len": "Context length, tokens",
    "vocab_size": "Vocabulary, tokens",
}


METRICS = {
    skill.metric: skill.title for skill in SKILLS
} | {  # where figures.json has no title: versions of earlier releases
    "bpb": "Bits per byte",
    "clean_bpb": "Bits per byte of new lines",
    "user_turns_acceptable_frac": "Turns as users type them",
    "leaked_items_frac": "Held-out prompts that training has too",
}
TASKS = {  # of the evaluation (pipeline/evaluate/tasks)
    "user_turns": "As users type",
    "skills": "Skills",
    "planted": "Instructions hidden in texts",
    "bits_per_byte": "Held-out text",
    "minimal_pairs": "Minimal pairs of sentences",
    "multiple_choice": "Multiple choice",
    "cloze": "The last word of a passage",
    "exact_match": "Exact answers",
    "demands": "Instructions on the form of an answer",
    "safety": "Safety",
    "memorization": "Memorized training text",
    "bias": "Bias",
    "robustness": "Robustness",
    "speed": "Speed",
}


def describe_metric(name: str) -> str:
    """Return words for a metric."""
    return METRICS.get(name, name.removesuffix("_frac").replace("_", " "))


def describe_task(name: str) -> str:
    """Return words for a task of the evaluation."""
    return TASKS.get(name, name.replace("_", " ").capitalize())


def describe_reason(name: str) -> str:
    """Return words for why a document was dropped: `max_dup_5gram_char_frac` is too much text in repeated 5‑word phrases."""
    ngram = re.fullmatch(r"max_(top|dup)_(\d+)gram_char_frac", name)
    if ngram:
        return NGRAM_REASONS[ngram[1]].format(n=ngram[2])
    return REASONS.get(name, name.replace("_", " "))


def describe_kind(name: str) -> str:
    """Return words for a kind of conversation."""
    return CONVERSATIONS.get(name, name.replace("_", " "))


def describe_stage(name: str) -> str:
    """Return words for the documents that a stage passed on."""
    return STAGES.get(name, f"left after {name.replace('_', ' ')}")
