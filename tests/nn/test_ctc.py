from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from disentangle_lightning.corpus import tokenizer
from disentangle_lightning.nn import ctc
from disentangle_lightning.nn.ctc import ctc_losses, greedy_decode
from disentangle_lightning.nn.segments import Segments


def packed(lengths: list[int]) -> Segments:
    return Segments.from_lengths(torch.tensor(lengths), total=sum(lengths), max_length=max(lengths))


def losses_of(logits: Tensor, lengths: list[int], targets: list[list[int]]) -> tuple[Tensor, Tensor]:
    letters = torch.tensor([letter for target in targets for letter in target], dtype=torch.int64)
    return ctc_losses(logits, packed(lengths), letters, torch.tensor([len(t) for t in targets]))


def collapse(path: tuple[int, ...]) -> list[int]:
    return [c for i, c in enumerate(path) if c != 0 and (i == 0 or path[i - 1] != c)]


def enumerated(logits: Tensor, target: list[int]) -> Tensor:
    """Minus the log of the summed probability of every path through [T, V] that collapses to the target."""
    log_p = logits.double().log_softmax(1)
    paths = torch.tensor([p for p in product(range(logits.shape[1]), repeat=len(logits)) if collapse(p) == target])
    return -log_p[torch.arange(len(logits)), paths].sum(1).logsumexp(0)


def test_losses_and_gradients_are_those_of_every_alignment_summed_by_hand() -> None:
    torch.manual_seed(0)
    logits = torch.randn(12, 3, requires_grad=True)
    lengths, targets = [4, 3, 5], [[1, 2], [1, 1], [2, 2, 1]]
    losses, feasible = losses_of(logits, lengths, targets)
    by_hand = torch.stack([enumerated(u, t) for u, t in zip(logits.split(lengths), targets, strict=True)])
    assert feasible.all()
    torch.testing.assert_close(losses, by_hand.float())
    aim = torch.tensor([1.0, -2.0, 0.5])
    ours, theirs = (torch.autograd.grad((loss * aim).sum(), logits)[0] for loss in (losses, by_hand))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_packed_losses_are_those_of_each_utterance_alone() -> None:
    torch.manual_seed(0)
    logits = torch.randn(60, 7, requires_grad=True)
    lengths, targets = [30, 9, 21], [[1, 2, 2, 3], [6, 5], [4, 4, 4, 1, 3]]
    losses, _ = losses_of(logits, lengths, targets)
    alone = torch.stack(
        [
            F.ctc_loss(
                u.log_softmax(1),
                torch.tensor(t),
                torch.tensor(len(u)),
                torch.tensor(len(t)),
                reduction="sum",
            )
            for u, t in zip(logits.split(lengths), targets, strict=True)
        ]
    )
    torch.testing.assert_close(losses, alone)
    ours, theirs = (torch.autograd.grad(loss.sum(), logits)[0] for loss in (losses, alone))
    torch.testing.assert_close(ours, theirs)


def test_bf16_logits_under_autocast_give_float32_losses_and_finite_gradients() -> None:
    logits = torch.randn(30, 7).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = losses_of(logits, [20, 10], [[1, 2, 3], [4, 4]])
    expected, _ = losses_of(logits.float(), [20, 10], [[1, 2, 3], [4, 4]])
    assert losses.dtype == torch.float32
    assert torch.equal(losses, expected)
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("frames", "target", "fits"),
    [
        (3, [1, 2, 3], True),
        (2, [1, 2, 3], False),
        (4, [1, 1, 2], True),
        (3, [1, 1, 2], False),
        (5, [1, 1, 1], True),
        (4, [1, 1, 1], False),
        (1, [1], True),
        (0, [1], False),
        (4, [], False),
        (0, [], False),
    ],
)
def test_infeasible_clips_are_flagged_and_add_neither_loss_nor_gradient(
    frames: int, target: list[int], fits: bool
) -> None:
    # Between two good clips that end and begin with the letter 1, which is no repeat across the border.
    logits = torch.randn(10 + frames, 4, requires_grad=True)
    losses, feasible = losses_of(logits, [5, frames, 5], [[2, 1], target, [1, 2]])
    losses.sum().backward()
    assert logits.grad is not None
    good, clip, also_good = (g.abs().sum() for g in logits.grad.split([5, frames, 5]))
    assert feasible.tolist() == [True, fits, True]
    assert logits.grad.isfinite().all()
    assert good > 0
    assert also_good > 0
    assert bool(losses[1] > 0) == bool(clip > 0) == fits


def test_feasible_agrees_with_the_frames_the_tokenizer_asks_for() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = [torch.randint(1, 3, (n,), generator=generator).tolist() for n in [1, 2, 3, 4, 5, 6] * 5]
    lengths = [tokenizer.frames_needed(t) - i % 2 for i, t in enumerate(targets)]
    _, feasible = losses_of(torch.randn(sum(lengths), 3), lengths, targets)
    assert feasible.tolist() == [i % 2 == 0 for i in range(30)]


def test_a_batch_without_any_transcription_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(6, 4, requires_grad=True)
    losses, feasible = losses_of(logits, [4, 2], [[], []])
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0]
    assert feasible.tolist() == [False, False]
    assert torch.equal(logits.grad, torch.zeros(6, 4))


def test_greedy_decoding_collapses_repeats_and_drops_blanks_within_each_utterance() -> None:
    # Utterance 1 ends with the letter that utterance 2 begins with; the third is all blank, the fourth empty.
    best = [[1, 1, 0, 1, 2, 2], [2, 0, 3], [0, 0], [], [3]]
    logits = F.one_hot(torch.tensor([c for path in best for c in path]), 4).float()
    decoded = greedy_decode(logits, packed([len(path) for path in best]))
    assert decoded == [[1, 1, 2], [2, 3], [], [], [3]]
    assert decoded == [collapse(tuple(path)) for path in best]


def test_the_blank_is_the_tokenizers() -> None:
    assert ctc.BLANK == tokenizer.BLANK
