"""Adapters: their gradients are autograd's, they start as the base, and their folder is refused wherever it does not belong."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.data.batches import StreamBatches, TokenStream
from model.network.adapter_folder import (
    CONFIG,
    HF_MODULES,
    STATEMENT,
    WEIGHTS,
    load_adapter,
    merge_adapter,
    save_adapter,
)
from model.network.folder import load_model, save_model
from model.network.lora import (
    KINDS,
    TARGETS,
    AdaptedModel,
    LoraAdapter,
    LoraSettings,
    LowRank,
    compute_weight,
    hash_weights,
    set_matrix_gradients,
)
from model.network.transformer import Transformer
from model.tokenizer.tokenizer import Tokenizer
from model.training.loop import TrainSettings, train
from model.training.optim import OptimSettings
from tests.model.conftest import TINY, awake, write_shards

SETTINGS = {kind: LoraSettings(kind=kind, rank=3, alpha=6.0) for kind in KINDS}  # pyright: ignore[reportArgumentType]


def disturb(adapter: LoraAdapter, seed: int = 0) -> LoraAdapter:
    """Give every parameter of an adapter a random value, so that it changes what the model computes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return adapter


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_equal_autograd_in_fp64(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    base, grad = (torch.randn(12, 7, dtype=torch.float64, generator=generator) for _ in range(2))
    a, b = torch.randn(3, 7, dtype=torch.float64, generator=generator), torch.randn(12, 3, dtype=torch.float64)
    matrix = LowRank(a, b, base.norm(dim=1) * 1.3 if kind == "dora" else None)
    scale = SETTINGS[kind].scale
    (compute_weight(base, matrix, scale) * grad).sum().backward()
    expected = {name: parameter.grad for name, parameter in matrix.named_parameters()}
    assert len(expected) == (3 if kind == "dora" else 2)
    set_matrix_gradients(base, matrix, scale, grad)
    for name, parameter in matrix.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-12, atol=1e-12)


def test_the_scale_is_that_of_the_kind() -> None:
    assert LoraSettings(kind="lora", rank=4, alpha=8.0).scale == 2
    assert LoraSettings(kind="dora", rank=4, alpha=8.0).scale == 2
    assert LoraSettings(kind="rslora", rank=4, alpha=8.0).scale == 4


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_model_starts_as_its_base_and_can_be_restored(kind: str) -> None:
    model, ids = awake(), torch.arange(8)[None]
    before = model.compute_logits(model(ids)).detach()
    adapted = AdaptedModel(model, LoraAdapter(model, SETTINGS[kind], seed=1))
    adapted.write_weights()
    torch.testing.assert_close(model.compute_logits(model(ids)).detach(), before)
    disturb(adapted.adapter)
    adapted.write_weights()
    assert not torch.allclose(model.compute_logits(model(ids)).detach(), before, atol=1e-2)
    adapted.restore_base()
    assert torch.equal(model.compute_logits(model(ids)).detach(), before)


def run_beside_base(model: Transformer, adapter: LoraAdapter, ids: Tensor) -> Tensor:
    """Return the logits of the base with the adapter computed beside each matrix: y = m ⊙ (x Wᵀ + s (x Aᵀ) Bᵀ) / ‖W + s B A‖."""
    hooks, scale = [], adapter.settings.scale
    for layer in range(model.config.n_layer):
        for place in (TARGETS[name] for name in adapter.settings.targets):
            matrix, linear = adapter.get(f"layers.{layer}.{place}"), model.get_submodule(f"layers.{layer}.{place}")

            def add(module: torch.nn.Module, inputs: tuple[Tensor], output: Tensor, matrix: LowRank = matrix) -> Tensor:
                output = output + scale * (inputs[0] @ matrix.a.T) @ matrix.b.T
                if matrix.magnitude is None:
                    return output
                weight = module.weight + scale * matrix.b @ matrix.a  # pyright: ignore
                return output * matrix.magnitude / weight.norm(dim=1)

            hooks.append(linear.register_forward_hook(add))
    with torch.no_grad():
        logits = model.compute_logits(model(ids))
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_computes_what_base_and_adapter_compute(kind: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    config = replace(TINY, vocab_size=tokenizer.vocab_size)
    save_model(tmp_path / "base", awake(config), tokenizer, phase="pretrain")
    model, _, _ = load_model(tmp_path / "base")
    adapted = AdaptedModel(model, disturb(LoraAdapter(model, SETTINGS[kind])))
    save_adapter(tmp_path / "adapter", adapted, tokenizer)
    ids = torch.arange(16, 40)[None]
    expected = run_beside_base(model, adapted.adapter, ids)
    merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    merged, _, about = load_model(tmp_path / "merged")
    assert about["phase"] == "sft"
    with torch.no_grad():
        logits = merged.compute_logits(merged(ids))
        assert not torch.allclose(logits, model.compute_logits(model(ids)), atol=1e-2)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="must not exist"):
        merge_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rank": 0}, "adapter.rank"),
        ({"alpha": 0.0}, "adapter.alpha"),
        ({"targets": ("query", "embedding")}, "embedding"),
        ({"targets": ()}, "adapter.targets"),
        ({"kind": "vera"}, "adapter.kind"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        LoraSettings(**change)  # pyright: ignore[reportArgumentType]


def test_a_rank_above_that_of_a_matrix_is_refused_by_the_matrix_s_name() -> None:
    with pytest.raises(ValueError, match=r"found 17, but layers\.0\.attention\.key is 16 × 32"):
        LoraAdapter(Transformer(TINY), LoraSettings(rank=17, alpha=1.0))


def make_adapter_folder(folder: Path, tokenizer: Tokenizer) -> Transformer:
    model = awake(replace(TINY, vocab_size=tokenizer.vocab_size))
    save_adapter(folder, AdaptedModel(model, disturb(LoraAdapter(model, SETTINGS["dora"]))), tokenizer)
    return model


def test_an_adapter_is_loaded_as_it_was_saved(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = awake(replace(TINY, vocab_size=tokenizer.vocab_size))
    settings = LoraSettings(kind="rslora", rank=2, alpha=4.0, targets=("query", "down"))
    saved = disturb(LoraAdapter(model, settings))
    save_adapter(tmp_path, AdaptedModel(model, saved), tokenizer)
    loaded = load_adapter(tmp_path, model, tokenizer)
    assert loaded.settings == settings
    assert loaded.n_parameters == 2 * 2 * (32 + 32 + 32 + 64)
    for name, parameter in saved.named_parameters():
        assert torch.equal(dict(loaded.named_parameters())[name], parameter)


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    model = make_adapter_folder(tmp_path, tokenizer)
    load_adapter(tmp_path, model, tokenizer)
    with torch.no_grad():
        model.norm.weight[0] += 1e-3
    with pytest.raises(ValueError, match=f"another base; found weights with SHA-256 {hash_weights(model)[:12]}"):
        load_adapter(tmp_path, model, tokenizer)
    with torch.no_grad():
        model.norm.weight[0] -= 1e-3
    statement = json.loads((tmp_path / STATEMENT).read_text()) | {"base_sha256": hash_weights(model)}
    (tmp_path / STATEMENT).write_text(json.dumps(statement | {"tokenizer_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="found tokenizer with"):
        load_adapter(tmp_path, model, tokenizer)


def test_an_incomplete_or_damaged_folder_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    whole = tmp_path / "whole"
    model = make_adapter_folder(whole, tokenizer)
    for number, name in enumerate((WEIGHTS, CONFIG, STATEMENT)):
        folder = tmp_path / f"without-{number}"
        shutil.copytree(whole, folder)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"found no {name}"):
            load_adapter(folder, model, tokenizer)
        shutil.copy(whole / name, folder)
        data = (whole / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match="is damaged" if name != STATEMENT else "can't be read"):
            load_adapter(folder, model, tokenizer)
    statement = json.loads((whole / STATEMENT).read_text())
    for value in ({"files": {}}, {"files": None}, {"files": []}):
        (folder / STATEMENT).write_text(json.dumps(statement | value))
        with pytest.raises(ValueError, match="can't be read"):
            load_adapter(folder, model, tokenizer)
    with pytest.raises(ValueError, match="not an adapter"):
        load_adapter(tmp_path, model, tokenizer)


def test_the_modules_of_peft_are_those_of_the_export() -> None:
    from model.export.hf import HF_NAMES

    for name, place in TARGETS.items():
        assert HF_NAMES[f"{place}.weight"] == f"model.layers.{{}}.{HF_MODULES[name]}.weight"


def train_adapter(
    folder: Path, shards: Path, kind: str, n_steps: int, stop_at: int | None = None, *, use_kernels: bool = True
) -> AdaptedModel:
    """Train an adapter on a stream; with `stop_at`, raise KeyboardInterrupt at that step."""
    model = awake(seed=4)
    adapted = AdaptedModel(model, LoraAdapter(model, SETTINGS[kind], seed=2))

    def on_step(record: object) -> None:
        if record.step == stop_at:  # pyright: ignore
            raise KeyboardInterrupt

    train(
        model,
        StreamBatches(TokenStream(shards, "train"), seq_len=32, batch_rows=4, seed=0),
        settings=TrainSettings(
            total_steps=n_steps,
            checkpoint_every=4,
            optim=OptimSettings(matrix_lr=0.3, norm_lr=0.1),
            use_compile=False,
            use_kernels=use_kernels,
            precision="auto" if use_kernels else "fp32",
        ),
        checkpoints=folder,
        on_step=on_step,
        adapted=adapted,
    )
    return adapted


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_training_changes_the_adapter_alone_and_resumes_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "shards")
    whole = train_adapter(tmp_path / "whole", tmp_path / "shards", kind, 12)
    history = json.loads(next((tmp_path / "whole").glob("step-*12/state.json")).read_text())["history"]
    assert history[-1]["loss_nats"] < history[0]["loss_nats"] - 0.05
    with pytest.raises(KeyboardInterrupt):
        train_adapter(tmp_path / "parts", tmp_path / "shards", kind, 12, stop_at=6)
    resumed = train_adapter(tmp_path / "parts", tmp_path / "shards", kind, 12)
    for name, parameter in whole.adapter.named_parameters():
        assert torch.equal(parameter, dict(resumed.adapter.named_parameters())[name])
    for name, parameter in whole.model.named_parameters():
        assert torch.equal(parameter, dict(resumed.model.named_parameters())[name]), "the model has the adapted weights"
    whole.restore_base()
    for name, parameter in awake(seed=4).named_parameters():
        assert torch.equal(parameter, dict(whole.model.named_parameters())[name]), name


def test_plain_torch_trains_the_adapter_that_the_kernels_train(tmp_path: Path) -> None:
    """The first step, before rounding to bf16 adds up: A still has no gradient, and B moves in the same directions."""
    write_shards(tmp_path / "shards")
    one, other = (
        train_adapter(tmp_path / str(use), tmp_path / "shards", "dora", 1, use_kernels=use) for use in (True, False)
    )
    for name, parameter in one.adapter.named_parameters():
        expected = dict(other.adapter.named_parameters())[name]
        assert torch.nn.functional.cosine_similarity(parameter.flatten(), expected.flatten(), dim=0) > 0.97, name
