"""Reading hidden states for many probes at once, without a mixed copy of them for each."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from disentangle_lightning.nn.segments import Segments, segment_softmax, segment_sum

GROUP, ROW = 8, 16
"""Readers are taken eight at a time, the last group filled up with readers of zeros, and dimensions are filled up to
whole cache lines: so every product has the same shape and every row of it the same alignment, and a reader gets the
same bits whether it is alone or one of many."""


def pool_layers(
    features: Tensor, weights: Tensor, queries: Tensor, segments: Segments, mixing: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """What each of H readers makes of every utterance: its own average over layers, its own attention over frames.

    For reader i with layer weights w_i and query q_i:

        x_i[t] = sum_l w_il h[l, t],   a_i = softmax over the utterance's frames of q_i . x_i[t],   sum_t a_i[t] x_i[t]

    that is, a `LayerMixer` and an `AttentionPooling` for each of them. One more reader may want its average over layers
    frame by frame, from the same pass.

    Args:
        features: [N, L, D] of any float dtype; they get no gradient.
        weights: [H, L] float32; H may be 0.
        queries: [H, D] float32, scaled as the scores shall be.
        segments: which frame is whose.
        mixing: [L] float32, the layer weights of the reader of frames.

    Returns:
        [B, H, D] float32, zeros for an utterance without frames; and [N, D] float32 where `mixing` is given.
    """
    with torch.autocast(features.device.type, enabled=False):
        count, dim = queries.shape
        more, wider = -count % GROUP, -dim % ROW
        weights, queries = F.pad(weights, (0, 0, 0, more)), F.pad(queries, (0, wider, 0, more))
        by_layer = features.detach().transpose(0, 1)
        if wider:
            by_layer = F.pad(by_layer, (0, wider))
        pool = _pool_by_utterance if features.device.type == "cpu" else _pool_at_once
        pooled: list[Tensor] = []
        mixed = None
        for group in zip(torch.split(weights, GROUP), torch.split(queries, GROUP), strict=True):
            of_group, of_frames = pool(by_layer, *group, segments, None if pooled else mixing)
            pooled.append(of_group)
            mixed = mixed if of_frames is None else of_frames[:, :dim]
        return torch.cat(pooled, dim=1)[:, :count, :dim], mixed


def _pool_at_once(
    by_layer: Tensor, weights: Tensor, queries: Tensor, segments: Segments, mixing: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The equations as they stand: few and large operations, which is what a GPU wants."""
    layers, frames, dim = by_layer.shape
    flat = by_layer.to(weights.dtype).reshape(layers, frames * dim)
    mixed = (weights @ flat).view(-1, frames, dim).transpose(0, 1)
    attention = segment_softmax((mixed * queries).sum(-1), segments)
    pooled = segment_sum(attention[:, :, None] * mixed, segments)
    return pooled, None if mixing is None else (mixing[None] @ flat).view(frames, dim)


def _pool_by_utterance(
    by_layer: Tensor, weights: Tensor, queries: Tensor, segments: Segments, mixing: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    pooled, mixed = _PoolByUtterance.apply(by_layer, weights, queries, segments.lengths.tolist(), mixing)
    return pooled, mixed


class _PoolByUtterance(torch.autograd.Function):
    """The same, utterance by utterance: each is cast to float32 and read while it lies in the processor's cache.

    Nothing of the size of the features is made. Mixed for eight readers, features of [2400, 12, 768] would fill 59 MB
    six times over, and memory is what a CPU waits for: forward and backward take 41 ms on one thread here, 80 ms there.

    With u_il = w_il q_i the scores are sum_l h[l, t] . u_il, so the layers need not be mixed before they are scored,
    nor before they are pooled: P[l, i] = sum_t a_i[t] h[l, t].
    """

    @staticmethod
    def forward(
        ctx: Any, by_layer: Tensor, weights: Tensor, queries: Tensor, lengths: list[int], mixing: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        layers, total, dim = by_layer.shape
        scorers = weights.T[:, :, None] * queries
        pooled = weights.new_empty(len(lengths), layers, len(weights), dim)
        mixed = None if mixing is None else weights.new_empty(total, dim)
        attentions, end = [], 0
        for frames, out in zip(torch.split(by_layer, lengths, dim=1), pooled, strict=True):
            frames = frames.to(weights.dtype)
            attention = _score(scorers, frames).softmax(-1)
            torch.matmul(attention, frames, out=out)
            attentions.append(attention)
            begin, end = end, end + frames.shape[1]
            if mixed is not None and mixing is not None:
                torch.mv(frames.flatten(1).T, mixing, out=mixed[begin:end].view(-1))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(by_layer, weights, queries, pooled, *attentions)
        ctx.lengths = lengths
        return torch.einsum("il,blid->bid", weights, pooled), mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        by_layer, weights, queries, pooled, *attentions = ctx.saved_tensors
        of_pooled = pooled.new_zeros(len(pooled), *queries.shape) if gradients[0] is None else gradients[0]
        of_mixed = gradients[1]
        of_mixing = None if of_mixed is None else weights.new_zeros(weights.shape[1])
        of_scorers, end = torch.zeros_like(pooled[0]), 0
        utterances = torch.split(by_layer, ctx.lengths, dim=1)
        for frames, gradient, attention in zip(utterances, of_pooled, attentions, strict=True):
            frames = frames.to(weights.dtype)
            of_attention = _score(weights.T[:, :, None] * gradient, frames)
            of_scores = attention * (of_attention - (attention * of_attention).sum(-1, keepdim=True))
            of_scorers += torch.matmul(of_scores, frames)
            begin, end = end, end + frames.shape[1]
            if of_mixing is not None and of_mixed is not None:
                of_mixing.addmv_(frames.flatten(1), of_mixed[begin:end].reshape(-1))
        of_weights = torch.einsum("lid,id->il", of_scorers, queries)
        of_weights += torch.einsum("blid,bid->il", pooled, of_pooled)
        return None, of_weights, torch.einsum("il,lid->id", weights, of_scorers), None, of_mixing


def _score(scorers: Tensor, frames: Tensor) -> Tensor:
    """sum_l h[l, t] . u_il: scorers [L, H, D] and frames [L, T, D] -> [H, T]."""
    by_layer = torch.bmm(scorers, frames.transpose(1, 2))
    # One by one, for Tensor.sum adds up its last columns in another order than the others.
    total: Tensor = reduce(torch.add, by_layer.unbind())
    return total
