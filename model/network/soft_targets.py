"""A teacher's distribution over the next token as a target of training: cross-entropy of the text mixed with a divergence.

In: logits, targets, and for each target the teacher's K most likely tokens with their log-probabilities. Out: the loss of a chunk
and its slope for the logits. The loss of one position, in nats, is

    (1 - share) × nats of the target + share × temperature² × KL(teacher ‖ student), both softened by the temperature.

The KL divergence is that of K + 1 outcomes: the K tokens, and "any other token" with the remaining mass of either side. Without
that outcome, a student is pulled towards a renormalized teacher that never says anything else; Anshumann et al. 2025 (Sparse Logit
Sampling) show that such targets are biased. The minimum is at the teacher's K probabilities and its remaining mass; how the student
divides that mass is left to the cross-entropy. Merging outcomes never increases a divergence (data processing), so this is a lower
bound of the divergence over the vocabulary, and equal to it for K = V.

The slope is that of a cross-entropy with a dense target: the teacher's probabilities at the K tokens, and elsewhere the student's
own, scaled to the teacher's remaining mass. Memory: three arrays of chunk × V. Paper: Hinton et al. 2015 (temperature, and the
factor temperature², which keeps the size of the gradient).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class SoftTargets(NamedTuple):
    """A teacher's K most likely next tokens at every position; those at positions without a target have no effect.

    `log_probs` are natural logarithms of probabilities at `temperature`, over the whole vocabulary: exp adds up to at most 1.
    """

    ids: Int[Tensor, "*B K"]
    log_probs: Float[Tensor, "*B K"]
    share: float  # of the divergence in the loss, 0 … 1
    temperature: float

    def flatten(self) -> SoftTargets:
        """Return the same targets with one dimension of positions."""
        k = self.ids.shape[-1]
        return self._replace(ids=self.ids.reshape(-1, k), log_probs=self.log_probs.reshape(-1, k))

    def select(self, rows: slice | Int[Tensor, " N"]) -> SoftTargets:
        """Return the targets of some rows, or of some positions of flattened targets."""
        return self._replace(ids=self.ids[rows], log_probs=self.log_probs[rows])

    def pad(self, n: int) -> SoftTargets:
        """Return flattened targets with `n` positions more, which need no target to be ignored."""
        ids = torch.nn.functional.pad(self.ids, (0, 0, 0, n))
        return self._replace(ids=ids, log_probs=torch.nn.functional.pad(self.log_probs, (0, 0, 0, n)))

    def check(self, vocab_size: int) -> None:
        """Raise ValueError for settings out of range, or for more tokens than the vocabulary has."""
        k = self.ids.shape[-1]
        if not 1 <= k <= vocab_size:
            raise ValueError(
                f"soft targets need between 1 and {vocab_size} tokens (the vocabulary) per position; found {k}; change top_k."
            )
        if not 0 <= self.share <= 1 or not self.temperature > 0:
            raise ValueError(
                f"soft targets need a share between 0 and 1 and a temperature above 0; found {self.share} and "
                f"{self.temperature}; correct them."
            )


def mix_losses(
    logits: Float[Tensor, "N V"], index: Int[Tensor, "N 1"], soft: SoftTargets
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N V"]]:
    """Return the loss of each position and its slope for the logits. `index` are the targets."""
    share, temperature = soft.share, soft.temperature
    log_norm = logits.logsumexp(-1, keepdim=True)
    nats = (log_norm - logits.gather(1, index))[:, 0]
    columns = torch.arange(logits.shape[1], device=logits.device)
    slope = (1 - share) * ((logits - log_norm).exp() - (columns == index).float())
    scaled = logits / temperature
    log_student = scaled - scaled.logsumexp(-1, keepdim=True)
    student = log_student.exp()
    teacher = soft.log_probs.exp()
    others = student.scatter(1, soft.ids, 0.0)
    rest, teacher_rest = others.sum(-1), (1 - teacher.sum(-1)).clamp(min=0)
    has_rest = (rest > 0) & (teacher_rest > 0)  # for K = V there is none
    ratio = torch.where(has_rest, teacher_rest / rest.where(has_rest, 1), 0)
    divergence = (teacher * (soft.log_probs - log_student.gather(1, soft.ids))).sum(-1)
    divergence = divergence + torch.where(has_rest, teacher_rest * ratio.where(has_rest, 1).log(), 0)
    dense = (others * ratio[:, None]).scatter(1, soft.ids, teacher)
    slope = slope + share * temperature * (student - dense)
    return (1 - share) * nats + share * temperature**2 * divergence, slope
