"""What the framework is compared with: the encoder itself trained on, with the loss of a plain probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.layer_mixer import LayerMixer
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.probe_head import ClassHead
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder


class FineTuning(Probe):
    """A probe on hidden states whose gradient goes on into the encoder: the same batches, heads and loss.

    Clips are encoded one by one, since padding would change the features of many encoders. Every block of the encoder
    is trained; its first layers are often left frozen in practice, which costs less.

    Args:
        encoder: in fp32; it starts to be trained.
        utterances: {id: where its audio is}.
        arguments: of `Probe`.
    """

    def __init__(self, encoder: FrozenSpeechEncoder, utterances: Mapping[str, Utterance], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.encoder = encoder.requires_grad_(True)
        self._utterances = utterances

    def logits(self, batch: FrameBatch) -> dict[str, Tensor]:
        """As `Probe.logits`, of hidden states made anew; the probe's own pass would give them no gradient."""
        features = torch.cat([self._encode(id) for id in batch.ids])
        logits = {}
        for name, head in self.each_head():
            inputs = cast(LayerMixer, head.mixer)(features)
            if isinstance(head, ClassHead):
                inputs, _ = head.pool(inputs, batch.segments)
            logits[name] = head.classifier(inputs)
        return logits

    def configure_gradient_clipping(self, *arguments: Any, **named: Any) -> None:
        super().configure_gradient_clipping(*arguments, **named)
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), self.clip_gradient)

    def _encode(self, id: str) -> Tensor:
        waveform = load_utterance(self._utterances[id]).to(self.device)
        inputs = self.encoder.family.inputs(waveform[None])
        return self.encoder.hidden_states(inputs, self.encoder.frames(len(waveform)))[0]


def trained_parameters(module: torch.nn.Module) -> int:
    """How many numbers are trained: those that require a gradient; a frozen stage inside a module does not count."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def quiet_trainer(**arguments: Any) -> Trainer:
    """A trainer that writes nothing and never looks at dev."""
    nothing = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    return Trainer(use_distributed_sampler=False, enable_model_summary=False, **arguments | nothing)
