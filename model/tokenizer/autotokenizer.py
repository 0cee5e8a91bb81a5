"""Save a tokenizer in a folder that transformers' AutoTokenizer can load.

In: a tokenizer. Out: tokenizer.json, which `tokenizers` loads unchanged, and tokenizer_config.json with the chat template of
model.tokenizer.chat. AutoTokenizer then returns the same ids, with one deliberate difference: it looks for special tokens in
text. `split_special_tokens=True` in a call treats them as ordinary text, as this package always does;
`apply_chat_template(…, sanitize_control_tokens=True)` does so for the content of messages (transformers 5.23), so that nobody can
forge a turn there either.
"""

from __future__ import annotations

import json
from pathlib import Path

from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

# model.tokenizer.chat.render as a Jinja template.
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}"
    "{% if message.role not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('unknown role: ' + message.role) }}{% endif %}"
    "{{ '<|' + message.role + '|>' }}"
    "{% if message.call %}{{ '<|call|>' + message.call.name + '(' + (message.call.argument | tojson) + ')' }}"
    "{% else %}{{ message.content }}{% endif %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
NAMED = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}


def save_tokenizer(folder: Path, tokenizer: Tokenizer, max_tokens: int | None = None) -> None:
    """Write tokenizer.json and tokenizer_config.json; `max_tokens` is the window of the model."""
    tokenizer.save(folder / "tokenizer.json")
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **NAMED,
        "extra_special_tokens": [name for name in SPECIAL_TOKENS if name not in NAMED.values()],
        **({} if max_tokens is None else {"model_max_length": max_tokens}),
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
