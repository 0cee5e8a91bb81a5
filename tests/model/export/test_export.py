"""An export only renames and rounds tensors: transformers and llama.cpp return our logits, ids and tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model.export.__main__ import main
from model.export.gguf import GGUF_NAMES, export_gguf
from model.export.hf import export_hf, rename_tensor
from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.folder import get_model_tensors, save_model
from model.network.quantize import round_weights
from model.network.transformer import Transformer
from model.tokenizer.chat import Message, ToolCall, encode_prompt, format_content, messages_to_json, render
from model.tokenizer.kinds import train_char
from model.tokenizer.tokenizer import SPLIT_PATTERNS, Tokenizer, train_bpe

TALK = [
    Message.of("system", "Be brief."),
    Message.of("user", "What is 12 * 7? \u00e9\u00df \u4e2d\u6587 <b>"),
    Message.calling(ToolCall.of("calculator", 'say "12*7" \u00e9')),
    Message.of("tool", "84"),
    Message.of("assistant", "12 * 7 = 84."),
    Message.of("user", "Thanks!"),
]
TEXTS = [
    "import torch",
    "a  b\n\n c 12345 67",
    "it's we'll IT'S",
    "\u4e2d\u6587\u00e9\U0001f600",
    " \t x",
    "f(x)=[1,2];",
]


def save_random_model(folder: Path, *, is_tied: bool = True, pattern: str = "cl100k") -> tuple[Transformer, Tokenizer]:
    """Save a model in which every weight affects the logits, with a tokenizer of 400 tokens."""
    words = ["the torch tensor 12 345 it's we'll import numpy as np", *TEXTS, *(m.text for m in TALK)] * 3
    tokenizer = train_bpe(iter(words), 400, pattern)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size,
        seq_len=96,
        n_layer=3,
        n_head=4,
        n_kv_head=2,
        d_model=64,
        d_head=32,
        d_ff=96,
        is_tied=is_tied,
    )
    model = Transformer(config, seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * (0.1 if parameter.ndim == 1 else 0.15))
    save_model(folder, model, tokenizer, phase="sft")
    return model, tokenizer


@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [True, False])
def test_transformers_returns_our_logits_and_greedy_tokens(is_tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, tokenizer = save_random_model(tmp_path / "model", is_tied=is_tied)
    export_hf(tmp_path / "model", tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    ids = torch.tensor([encode_prompt(TALK, tokenizer)])
    with torch.no_grad():
        ours = model.compute_logits(model(ids))
        assert torch.allclose(theirs(ids).logits, ours, atol=1e-4)
    new = generate(model, ids[0].tolist(), Sampling(max_tokens=20, temperature=0.0), stop_ids=[])
    found = theirs.generate(ids, max_new_tokens=20, do_sample=False, eos_token_id=None)[0, ids.shape[1] :].tolist()
    assert found == new


@pytest.mark.slow
@pytest.mark.parametrize("pattern", sorted(SPLIT_PATTERNS))
def test_auto_tokenizer_returns_our_ids_and_applies_our_template(pattern: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    _, tokenizer = save_random_model(tmp_path / "model", pattern=pattern)
    export_hf(tmp_path / "model", tmp_path / "hf")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in TEXTS:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        assert theirs.decode(tokenizer.encode(text)) == text
    found = theirs.apply_chat_template(
        messages_to_json(TALK), add_generation_prompt=True, tokenize=True, return_dict=True
    )["input_ids"]
    assert found == encode_prompt(TALK, tokenizer)
    assert (
        theirs.apply_chat_template(messages_to_json(TALK), tokenize=True, return_dict=True)["input_ids"]
        == render(TALK, tokenizer)[0]
    )
    assert theirs.eos_token_id == tokenizer.get_special_id("end")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pattern"), [("f32", "cl100k"), ("f16", "qwen2"), ("q8_0", "gpt2")])
def test_llama_cpp_returns_our_logits_and_greedy_tokens(kind: str, pattern: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model, tokenizer = save_random_model(tmp_path / "model", pattern=pattern)
    export_gguf(tmp_path / "model", tmp_path / "model.gguf", kind)
    theirs = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=96, n_threads=1, verbose=False, logits_all=True)
    for text in TEXTS:
        assert theirs.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text)
    ids = encode_prompt(TALK, tokenizer)
    theirs.eval(ids)
    logits = model.compute_logits(model(torch.tensor([ids])))[0].numpy()
    found = np.array(theirs.scores[: len(ids)])
    tolerance = {"f32": 0.002, "f16": 0.01, "q8_0": 0.1}[kind] * logits.std()
    assert np.sqrt(np.mean((found - logits) ** 2)) < tolerance
    if kind != "q8_0":
        new = generate(model, ids, Sampling(max_tokens=20, temperature=0.0), stop_ids=[])
        theirs.reset()
        answer = []
        for index in theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
            answer.append(index)
            if len(answer) == len(new):
                break
        assert answer == new


def render_go_template(template: str, messages: list[Message]) -> str:
    """Render the subset of Go's template language that our template uses. A call is the content of its message."""
    before, rest = template.split("{{ range .Messages }}")
    turn, after = rest.split("{{ end }}")
    turns = []
    for message in messages:
        content = ("<|call|>" if message.call else "") + format_content(message)
        turns.append(turn.replace("{{ .Role }}", message.role).replace("{{ .Content }}", content))
    rendered = before + "".join(turns) + after
    assert "{{" not in rendered
    return rendered


def read_modelfile(modelfile: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in modelfile.read_text(encoding="utf-8").splitlines():
        name, _, value = line.removeprefix("PARAMETER ").partition(" ")
        if not line.startswith("#"):
            found.setdefault(name, []).append(value.strip('"'))
    return found


@pytest.mark.parametrize("pattern", ["cl100k", "qwen2"])
def test_modelfile_has_our_template_and_stop_tokens(pattern: str, tmp_path: Path) -> None:
    _, tokenizer = save_random_model(tmp_path / "model", pattern=pattern)
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "out" / "m.gguf")]) == 0
    found = read_modelfile(tmp_path / "out" / "m.Modelfile")
    assert found["FROM"] == ["./m.gguf"]
    assert (tmp_path / "out" / "m.gguf").is_file()
    assert render_go_template(found["TEMPLATE"][0], TALK) == tokenizer.decode(
        encode_prompt(TALK, tokenizer), skip_special=False
    )
    ends = {tokenizer.get_special_id(name) for name in ("pad", "bos", "system", "user", "assistant", "tool", "end")}
    assert {tokenizer.get_special_id(name) for name in found["stop"]} == ends
    assert found["num_ctx"] == ["96"]
    is_warned = "train_tokenizer.pattern: qwen2" in (tmp_path / "out" / "m.Modelfile").read_text()
    assert is_warned == (pattern != "qwen2")
    (tmp_path / "out" / "m.gguf").unlink()
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "out" / "m.gguf")]) == 1  # the Modelfile exists


@pytest.mark.slow
def test_llama_cpp_tokenizes_the_modelfile_template_to_our_ids(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    _, tokenizer = save_random_model(tmp_path / "model")
    export_gguf(tmp_path / "model", tmp_path / "m.gguf")
    theirs = llama_cpp.Llama(str(tmp_path / "m.gguf"), vocab_only=True, verbose=False)
    text = render_go_template(read_modelfile(tmp_path / "m.Modelfile")["TEMPLATE"][0], TALK)
    assert theirs.tokenize(text.encode(), add_bos=True, special=True) == encode_prompt(TALK, tokenizer)


def test_gguf_refuses_a_character_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = save_random_model(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").unlink()
    train_char(iter(["abc"]), 400).save(tmp_path / "model")
    assert model.config.vocab_size >= Tokenizer.load(tmp_path / "model").vocab_size
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "m.gguf")]) == 1
    assert "train_tokenizer.kind: bpe" in capsys.readouterr().err
    assert not list(tmp_path.glob("m.*"))


def test_gguf_describes_the_model(tmp_path: Path) -> None:
    import gguf

    model, tokenizer = save_random_model(tmp_path / "model")
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "m.gguf"), "--type", "q8_0"]) == 0
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    fields = reader.fields
    assert fields["general.architecture"].contents() == "qwen3"
    assert fields["qwen3.block_count"].contents() == 3
    assert len(fields["tokenizer.ggml.tokens"].contents()) == tokenizer.vocab_size
    assert np.array_equal({t.name: t for t in reader.tensors}["output_norm.weight"].data, model.norm.weight.numpy())


@pytest.mark.parametrize(("kind", "weights"), [("q8_0", "int8"), ("q4_0", "int4")])
@pytest.mark.parametrize("is_tied", [True, False])
def test_a_quantized_file_has_the_values_that_the_decoder_computes_with(
    kind: str, weights: str, is_tied: bool, tmp_path: Path
) -> None:
    import gguf

    model, _ = save_random_model(tmp_path / "model", is_tied=is_tied)
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "m.gguf"), "--type", kind]) == 0
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    rounded = get_model_tensors(round_weights(model, weights))
    assert len(tensors) == len(rounded)
    for name, tensor in rounded.items():
        found = tensors[rename_tensor(name, GGUF_NAMES)]
        assert found.n_bytes == found.data.nbytes
        assert np.array_equal(gguf.quants.dequantize(found.data, found.tensor_type), tensor.numpy()), name


def test_q4_1_rounds_within_half_a_step_of_its_block(tmp_path: Path) -> None:
    import gguf

    model, _ = save_random_model(tmp_path / "model")
    assert main(["gguf", str(tmp_path / "model"), str(tmp_path / "m.gguf"), "--type", "q4_1"]) == 0
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    weight = model.layers[1].feed_forward.up.weight.numpy()
    found = gguf.quants.dequantize(tensors["blk.1.ffn_up.weight"].data, gguf.GGMLQuantizationType.Q4_1)
    blocks = weight.reshape(-1, 32)
    steps = (blocks.max(1) - blocks.min(1)) / 15
    assert (np.abs(found - weight).reshape(-1, 32).max(1) <= 0.51 * steps + 1e-3).all()


@pytest.mark.parametrize("kind", ["q8_0", "q4_0", "q4_1"])
def test_widths_without_whole_blocks_are_refused(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = save_random_model(tmp_path / "model")
    config = ModelConfig.from_dict(model.config.to_dict() | {"d_ff": 72})
    save_model(tmp_path / "odd", Transformer(config), tokenizer, phase="sft")
    assert main(["gguf", str(tmp_path / "odd"), str(tmp_path / "m.gguf"), "--type", kind]) == 1
    assert "multiples of 32; found model.d_ff = 72; export f16" in capsys.readouterr().err
    assert not list(tmp_path.glob("m.*"))


def test_an_export_replaces_nothing_and_leaves_no_partial_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_random_model(tmp_path / "model")
    (tmp_path / "hf").mkdir()
    assert main(["hf", str(tmp_path / "model"), str(tmp_path / "hf")]) == 1
    assert "must not exist; found" in capsys.readouterr().err
    assert main(["hf", str(tmp_path / "nowhere"), str(tmp_path / "new")]) == 1
    assert "not a model folder" in capsys.readouterr().err
    assert main(["hf", str(tmp_path / "model"), str(tmp_path / "new")]) == 0
    assert json.loads((tmp_path / "new" / "config.json").read_text())["model_type"] == "qwen3"
    assert not list(tmp_path.glob("*.partial"))
