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

from model.tokenizer.histories import ROLE_OF, TEXT_PARTS
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

# model.tokenizer.chat.render as a Jinja template, with the forms of messages that model/tokenizer/histories.py reads. It has no
# `tojson`: that of plain Jinja escapes <, > and & and returns markup. `write` writes a string as JSON does; `read` reads a string
# of JSON, without its quotation marks, in which NUL stands for an escaped backslash meanwhile; `argument` returns the one string.
CHAT_TEMPLATE = (
    r"""
{%- macro write(text) -%}
{%- set out = namespace(text=text | replace('\\', '\\\\') | replace('"', '\\"') | replace('\n', '\\n') | replace('\r', '\\r')
    | replace('\t', '\\t') | replace('\b', '\\b') | replace('\f', '\\f')) -%}
{%- for code in range(32) -%}
{%- set out.text = out.text | replace('%c' | format(code), '\\u%04x' | format(code)) -%}
{%- endfor -%}
{{- '"' + out.text + '"' -}}
{%- endmacro -%}

{%- macro read(literal) -%}
{%- set nul = '%c' | format(0) -%}
{%- set chunks = (literal | replace('\\\\', nul) | replace('\\"', '"') | replace('\\n', '\n') | replace('\\r', '\r')
    | replace('\\t', '\t') | replace('\\b', '\b') | replace('\\f', '\f') | replace('\\/', '/')).split('\\u') -%}
{%- set out = namespace(text=chunks[0] | replace(nul, '\\'), high=0) -%}
{%- for chunk in chunks[1:] -%}
{%- set code = chunk[:4] | int(base=16) -%}
{%- if 0xd800 <= code < 0xdc00 -%}
{%- set out.high = code -%}
{%- else -%}
{%- set code = 0x10000 + (out.high - 0xd800) * 1024 + code - 0xdc00 if 0xdc00 <= code < 0xe000 else code -%}
{%- set out.text = out.text + '%c' | format(code) + chunk[4:] | replace(nul, '\\') -%}
{%- endif -%}
{%- endfor -%}
{{- out.text -}}
{%- endmacro -%}

{%- macro argument(arguments) -%}
{%- if arguments is mapping and arguments | length == 1 and arguments.values() | first is string -%}
{{- arguments.values() | first -}}
{%- else -%}
{%- set text = arguments | trim if arguments is string else '' -%}
{%- set inner = text[1:-1] | trim -%}
{%- set key = inner.split('"')[1] if inner.startswith('"') else '' -%}
{%- set after = inner[key | length + 2:] | trim -%}
{%- set value = after[1:] | trim -%}
{%- set bare = value[1:-1] | replace('\\\\', '') | replace('\\"', '') -%}
{%- if text.startswith('{') and text.endswith('}') and inner.startswith('"') and '\\' not in key and after.startswith(':')
    and value | length > 1 and value.startswith('"') and value.endswith('"') and '"' not in bare and not bare.endswith('\\') -%}
{{- read(value[1:-1]) -}}
{%- else -%}
{{- raise_exception('the arguments of a tool call must be one string, as in {"query": "..."}; found: ' + arguments | string) -}}
{%- endif -%}
{%- endif -%}
{%- endmacro -%}

{%- macro content(value) -%}
{%- for part in (value if value and value is sequence and value is not string and value is not mapping else [value]) -%}
{%- set text = part if part is string else (part.refusal if part.type == 'refusal' else part.text) if part else '' -%}
{%- if (part and part is not string and part.type not in @PARTS@) or text is not string -%}
{{- raise_exception('content must be text: this model reads nothing else; found: ' + part | string) -}}
{%- endif -%}
{{- text -}}
{%- endfor -%}
{%- endmacro -%}

{{- '<|bos|>' -}}
{%- set roles = @ROLES@ -%}
{%- for message in messages -%}
{%- set role = roles[message.role | lower] -%}
{%- if not role -%}{{- raise_exception('unknown role: ' + message.role | string) -}}{%- endif -%}
{%- set single = message.function_call or message.call -%}
{%- set calls = message.tool_calls or ([single] if single else []) -%}
{%- if calls and role != 'assistant' -%}
{{- raise_exception('tool calls belong to the assistant; found role: ' + role) -}}
{%- endif -%}
{%- set text = content(message.content) + content(message.refusal) -%}
{%- if text or not calls -%}{{- '<|' + role + '|>' + text + '<|end|>' -}}{%- endif -%}
{%- for call in calls -%}
{%- set function = call.function or call -%}
{%- set string = function.argument if function.argument is string else argument(function.arguments) -%}
{{- '<|assistant|><|call|>' + function.name + '(' + write(string) + ')<|end|>' -}}
{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
""".strip()
    .replace("@ROLES@", json.dumps(ROLE_OF))
    .replace("@PARTS@", json.dumps([*TEXT_PARTS, "refusal"]))
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
