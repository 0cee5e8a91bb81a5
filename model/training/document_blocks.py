"""Block-sparse attention within the documents of a row: no B × T × T mask on the GPU, and fully masked blocks are skipped.

In: the document number of each token. Out: a function of queries, keys and values, to be called inside a function compiled with
torch.compile: uncompiled, FlexAttention materializes mask and scores (and model.network.transformer.make_document_mask takes less
memory). Memory: a few numbers per 128 × 128 block. Time: proportional to the number of blocks that are not fully masked.

A file of its own because its import is slow and only compiled training on a GPU needs it.

Paper: FlexAttention (Dong et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Int
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention


def make_block_attention(documents: Int[Tensor, "B T"]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a function (B H T K, B G T K, B G T K) → B H T K in which a token attends to itself and the earlier tokens of its
    document."""
    n_rows, n_tokens = documents.shape

    def is_visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents[row, query] == documents[row, key]) & (query >= key)

    blocks = create_block_mask(is_visible, n_rows, None, n_tokens, n_tokens, device=documents.device)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        y = flex_attention(q, k, v, block_mask=blocks, enable_gqa=q.shape[1] != k.shape[1])
        assert isinstance(y, Tensor)
        return y

    return attend
