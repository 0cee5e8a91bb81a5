from __future__ import annotations

import pytest
import torch

from model.network.transformer import KVCache, Transformer, make_rope_tables
from tests.model.conftest import TINY, awake


def make_ids(rows: int = 2, tokens: int = 20) -> torch.Tensor:
    return torch.randint(0, TINY.vocab_size, (rows, tokens), generator=torch.Generator().manual_seed(5))


def test_attention_is_causal() -> None:
    model, ids = awake(), make_ids()
    changed = ids.clone()
    changed[:, 12:] = (changed[:, 12:] + 1) % TINY.vocab_size
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12], after[:, 12])


def test_cached_equals_full() -> None:
    model, ids = awake(), make_ids()
    cache = KVCache(TINY, 2, 20)
    pieces = [model(ids[:, :7], cache), model(ids[:, 7:12], cache)]
    pieces += [model(ids[:, n : n + 1], cache) for n in range(12, 20)]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids), atol=1e-5, rtol=1e-5)


def test_left_padding_changes_nothing() -> None:
    model, ids = awake(), make_ids(1, 10)
    cache = KVCache(TINY, 2, 20, n_pad=torch.tensor([0, 6]))
    both = torch.cat((make_ids(1, 16), torch.cat((torch.zeros(1, 6, dtype=torch.long), ids), 1)))
    padded = torch.cat((model(both[:, :12], cache), model(both[:, 12:], cache)), 1)
    torch.testing.assert_close(padded[1:, 6:], model(ids), atol=1e-5, rtol=1e-5)


def test_documents_do_not_attend_to_each_other() -> None:
    model, ids = awake(), make_ids(1, 20)
    documents = torch.tensor([[0] * 8 + [1] * 12])
    together = model(ids, documents=documents)
    torch.testing.assert_close(together[:, 8:], model(ids[:, 8:]), atol=1e-5, rtol=1e-5)


def test_model_equals_a_naive_reference() -> None:
    """Compare with the same network written naively, one position and one head at a time."""
    model, ids = awake(), make_ids(1, 9)
    weights = dict(model.named_parameters())
    x = weights["embedding.weight"][ids[0]]
    for layer in range(TINY.n_layer):
        name = f"layers.{layer}."
        h = _norm(x, weights[name + "attention_norm.weight"])
        x = x + _attention(h, weights, name + "attention.")
        h = _norm(x, weights[name + "feed_forward_norm.weight"])
        gate = h @ weights[name + "feed_forward.gate.weight"].T
        up = h @ weights[name + "feed_forward.up.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ weights[name + "feed_forward.down.weight"].T
    expected = _norm(x, weights["norm.weight"]) @ weights["embedding.weight"].T
    torch.testing.assert_close(model.compute_logits(model(ids))[0], expected, atol=1e-4, rtol=1e-4)


def _norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + TINY.norm_eps).sqrt() * weight


def _rotate(x: torch.Tensor, position: int) -> torch.Tensor:
    """Multiply the complex numbers (x[i], x[i + K/2]) by e^(i position θ^(-2i/K))."""
    half = TINY.d_head // 2
    angle = position * TINY.rope_theta ** (-torch.arange(half) * 2 / TINY.d_head)
    rotated = torch.complex(x[:half], x[half:]) * torch.polar(torch.ones(half), angle)
    return torch.cat((rotated.real, rotated.imag))


def _attention(h: torch.Tensor, weights: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    width, n_group = TINY.d_head, TINY.n_head // TINY.n_kv_head
    rows = []
    for t in range(len(h)):
        heads = []
        for head in range(TINY.n_head):
            part = slice(head * width, (head + 1) * width)
            kv = slice(head // n_group * width, (head // n_group + 1) * width)
            q = _norm(h[t] @ weights[name + "query.weight"][part].T, weights[name + "query_norm.weight"])
            ks = [
                _norm(h[s] @ weights[name + "key.weight"][kv].T, weights[name + "key_norm.weight"])
                for s in range(t + 1)
            ]
            scores = torch.stack([_rotate(q, t) @ _rotate(k, s) for s, k in enumerate(ks)]) / width**0.5
            values = h[: t + 1] @ weights[name + "value.weight"][kv].T
            heads.append(scores.softmax(0) @ values)
        rows.append(torch.cat(heads) @ weights[name + "out.weight"].T)
    return torch.stack(rows)


def test_rotary_tables_depend_on_the_distance_alone() -> None:
    cos, sin = make_rope_tables(TINY, 16)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))


def test_initial_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = Transformer(TINY, seed=3)
    torch.manual_seed(2)
    second = Transformer(TINY, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_full_context_window_is_rejected() -> None:
    with pytest.raises(ValueError, match="window is full"):
        awake()(make_ids(1, TINY.seq_len + 1))
