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

RELEVANCE = 8.0
"""How many utterances of a class make its mean count half as much as was seen of it (the relevance factor of speaker
recognition: Reynolds et al., 2000, who take 16).
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

    With p_c the share of a class, d_c its mean less the mean m of all, drawn in by f_c, and T the covariance of all:

        W  =  T - sum_c p_c f_c d_c d_c'
        p(c | x)  ~  p_c exp(f_c d_c' W^-1 (x - m) - f_c^2 d_c' W^-1 d_c / 2)
        exposure(x)  =  KL(p || p(. | x))  in nats

    Exposure is zero where x tells nothing that the shares of the classes do not, and grows with the certainty of the
    reader. To hide from a reader that takes chance for knowledge costs words for nothing. N utterances do not determine
    W, so its diagonal is raised by S / N of itself; and a class of n_c = p_c N utterances has f_c = n_c / (n_c +
    `RELEVANCE`), so that of many who speak once or twice none is known by heart.

    The gradient is that of x alone: the reader is no network, so there are no two trainings to keep in balance. What it
    finds is a lower bound: a reader that is not linear, or that looks at single frames, may find more. Its sums are of
    use in training alone, and no part of `state_dict`.

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

        Returns:
            [C + C S + S S] float32, without a gradient.
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
            known = total.clamp(max=utterances)
            shares = self.counts / total
            mean = self.sums.sum(0) / total
            apart = self.sums / self.counts.clamp(min=1e-6)[:, None] - mean
            covariance = self.products / total - mean[:, None] * mean
            seen = shares * known
            drawn_in = seen / (seen + RELEVANCE)
            within = covariance - apart.T @ ((shares * drawn_in)[:, None] * apart)
            variance = within.diagonal().clamp(min=0)
            within = within + torch.diag(len(variance) / known * variance + 1e-10)
            apart = drawn_in[:, None] * apart
            # Without a check of its success, which would make the host wait for the device; the ridge sees to it.
            weights = torch.linalg.solve_ex(within, apart.T).result
            squares = (apart.T * weights).sum(0)
            log_shares = shares.clamp(min=1e-6).log()
            scores = (x.float() - mean) @ weights - 0.5 * squares + log_shares
            exposure: Tensor = (shares * (log_shares - scores.log_softmax(-1))).sum(-1)
            return exposure
