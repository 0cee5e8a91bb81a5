"""Attention within the documents of a row by blocks: a GPU writes no B × T × T mask, and skips the blocks that nobody sees.

In: the number of each token's document. Out: a function of queries, keys and values, to be called inside what torch.compile builds:
without it mask and scores would be written out after all (and model.network.transformer.make_document_mask needs less). Memory: a few numbers
for each 128 × 128 block. Time: that of the blocks that are not empty.

Paper: FlexAttention (Dong et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def make_block_attention(documents: Int[Tensor, "B T"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(B H T K, B G T K, B G T K) → B H T K; a token sees what came before it in its own document."""
    n_rows, n_tokens = documents.shape

    def sees(row: Tensor, head: Tensor, at: Tensor, other: Tensor) -> Tensor:
        return (documents[row, at] == documents[row, other]) & (at >= other)

    blocks = create_block_mask(sees, n_rows, None, n_tokens, n_tokens, device=documents.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = flex_attention(q, k, v, block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])
        assert isinstance(y, Tensor)
        return y

    return attend
