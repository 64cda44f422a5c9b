"""What a linear reader of whole utterances can tell of a label, in closed form and with a gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from disentangle_lightning.nn.segments import Segments, segment_mean

MEMORY = 50
"""How many batches back the classes are known: what was seen so long ago counts 1/e.

The latents move while they are trained. A reader that is far behind them is evaded and not satisfied: they end on the
other side of where it still sees them.
"""

_LEAST_VARIANCE = 1e-4
"""Of the deviation over an utterance's frames: the root of zero has no gradient."""


def utterance_statistics(x: Tensor, segments: Segments) -> Tensor:
    """Mean and standard deviation over each utterance's frames: [N, d] -> [B, 2 d]."""
    mean = segment_mean(x, segments)
    variance = segment_mean((x - mean[segments.index]).square(), segments)
    return torch.cat([mean, (variance + _LEAST_VARIANCE).sqrt()], dim=-1)


class RunningDiscriminant(nn.Module):
    """Fisher's linear discriminant of C classes, from running sums over what it was shown.

    With p_c, m_c the share and mean of a class and W the covariance within classes, its diagonal raised by S / N:

        p(c | x)  ~  p_c exp(m_c' W^-1 x - m_c' W^-1 m_c / 2)
        exposure(x)  =  KL(p || p(. | x))  in nats

    Exposure is zero where x tells nothing that the shares of the classes do not, and grows with the certainty of the
    reader. N utterances do not determine W: without the raise, a reader of few knows them by heart, and to hide from it
    costs words for nothing. The gradient is that of x alone: the reader is no network, so there are no two trainings to
    keep in balance. What it finds is a lower bound: a reader that is not linear, or that looks at single frames, may
    find more. Its sums are of use in training alone, and no part of `state_dict`.

    Args:
        classes: C.
        size: S, of what it is shown.
    """

    counts: Tensor
    sums: Tensor
    products: Tensor

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes), persistent=False)
        self.register_buffer("sums", torch.zeros(classes, size), persistent=False)
        self.register_buffer("products", torch.zeros(size, size), persistent=False)

    def batch_sums(self, x: Tensor, labels: Tensor) -> Tensor:
        """What `update` needs to know of a batch, as one vector that can be summed over processes.

        Args:
            x: [B, S].
            labels: [B] int64, -1 where there is none.
        """
        x = x.detach().float()
        member = F.one_hot(labels + 1, len(self.counts) + 1)[:, 1:].to(x.dtype)
        known = member.sum(1, keepdim=True)
        parts = (member.sum(0), member.T @ x, (known * x).T @ x)
        return torch.cat([part.flatten() for part in parts])

    @torch.no_grad()
    def update(self, batch_sums: Tensor) -> None:
        """Forget a little, and add a batch (`batch_sums`)."""
        sizes = [part.numel() for part in (self.counts, self.sums, self.products)]
        counts, sums, products = torch.split(batch_sums, sizes)
        kept = 1 - 1 / MEMORY
        self.counts.mul_(kept).add_(counts)
        self.sums.mul_(kept).add_(sums.view_as(self.sums))
        self.products.mul_(kept).add_(products.view_as(self.products))

    def exposure(self, x: Tensor, utterances: int) -> Tensor:
        """How much each row tells of its class, in nats, from 0; with a gradient.

        Args:
            x: [B, S].
            utterances: how many different ones it is shown over time; N is that, or fewer where it remembers fewer.

        Returns:
            [B].
        """
        with torch.autocast(x.device.type, enabled=False):
            total = self.counts.sum().clamp(min=1.0)
            shares = self.counts / total
            means = self.sums / self.counts.clamp(min=1e-6)[:, None]
            within = self.products / total - means.T @ (shares[:, None] * means)
            variance = within.diagonal().clamp(min=0)
            within = within + torch.diag(len(variance) / total.clamp(max=utterances) * variance + 1e-10)
            # Without a check of its success, which would make the host wait for the device; the ridge sees to it.
            weights = torch.linalg.solve_ex(within, means.T).result
            log_shares = shares.clamp(min=1e-6).log()
            scores = x.float() @ weights - 0.5 * (means.T * weights).sum(0) + log_shares
            exposure: Tensor = (shares * (log_shares - scores.log_softmax(-1))).sum(-1)
            return exposure
