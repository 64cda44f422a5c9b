"""Train a run's encoder on with CTC, on the training split of the run; a folder in the Hugging Face layout comes out.

    python experiments/fine_tuned_encoder/train.py runs/real_speech --out runs/fine_tuned/encoder

The head is thrown away, so that the folder is an encoder like any other, for `--encode.encoder`. What precedes the
Transformer stays as it is, as usual in fine-tuning with CTC. The word error rate on dev is printed after each epoch.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.nn.ctc import ctc_losses, greedy_decode
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.upstream.loading import EMBEDDED, Checkpoint, load_checkpoint

BEFORE_THE_TRANSFORMER = ("feature_extractor", "feature_projection", "conv1", "conv2", "conv3", "embed_positions")
"""Modules of the encoders of all families that are not trained."""

CLIPS_PER_STEP = 8


@dataclass(frozen=True)
class Clip:
    """Samples at 16 kHz, and the letters that are spoken."""

    waveform: Tensor
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run directory of a finished run")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the encoder to")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning_rate", type=float, default=1e-4, help="the highest, after a tenth of the steps")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)

    run = TrainedRun(arguments.run)
    made = run.settings.encode
    checkpoint = load_checkpoint(made.encoder, made.revision)
    if made.window_seconds is not None:
        checkpoint.family.shorten_window(checkpoint.encoder, made.window_seconds)
    tokenizer = CTCTokenizer(run.data().alphabet)
    train, dev = (read_clips(run, split) for split in ("train", "dev"))
    model = Transcriber(checkpoint, tokenizer)
    fit(model, train, dev, arguments.epochs, arguments.learning_rate, random.Random(arguments.seed))
    save_encoder(checkpoint, made.encoder, made.revision, arguments.out)


def read_clips(run: TrainedRun, split: str) -> list[Clip]:
    """The clips of a split that the run could encode and that have a transcription."""
    encoded = set(FeatureStore.open(run.store, verify=False).ids)
    wanted = [u for u in run.utterances.values() if u.split == split and u.transcription and u.id in encoded]
    return [Clip(load_utterance(u), str(u.transcription)) for u in wanted]


class Transcriber(nn.Module):
    """The encoder, and a linear map from its last layer to letters."""

    def __init__(self, checkpoint: Checkpoint, tokenizer: CTCTokenizer) -> None:
        super().__init__()
        self.encoder, self.family, self.tokenizer = checkpoint.encoder, checkpoint.family, tokenizer
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(name.split(".")[0] not in BEFORE_THE_TRANSFORMER)
        self.head = nn.Linear(self.encoder.config.hidden_size, len(tokenizer))

    def forward(self, clips: Sequence[Clip]) -> tuple[Tensor, Segments]:
        """Logits [N, V] of all frames, packed.

        Clips go one by one where their inputs differ in length, since padding would change the features of many
        encoders; those of Whisper all fill one window.
        """
        frames = [self.family.frames(len(clip.waveform)) for clip in clips]
        inputs = [self.family.inputs(clip.waveform[None]) for clip in clips]
        batches = [torch.cat(inputs)] if len({one.shape for one in inputs}) == 1 else inputs
        with torch.autocast("cpu", torch.bfloat16):
            layers = [layer for batch in batches for layer in self.encoder(batch).last_hidden_state]
            kept = [self.family.on_frame_grid(layer[None], n)[0] for layer, n in zip(layers, frames, strict=True)]
            logits = self.head(torch.cat(kept))
        return logits, Segments.from_lengths(torch.tensor(frames), sum(frames), max(frames))

    def loss(self, clips: Sequence[Clip]) -> Tensor:
        """CTC in nats per letter."""
        letters = [torch.tensor(self.tokenizer.encode(clip.text)) for clip in clips]
        lengths = torch.tensor([len(of_clip) for of_clip in letters])
        losses, feasible = ctc_losses(*self(clips), torch.cat(letters), lengths)
        return losses.sum() / lengths[feasible].sum().clamp(min=1)

    @torch.no_grad()
    def word_error_rate(self, clips: Sequence[Clip]) -> float:
        self.eval()
        spoken = [self.tokenizer.decode(ids) for clip in clips for ids in greedy_decode(*self([clip]))]
        self.train()
        return float(jiwer.wer([self.tokenizer.normalize(clip.text) for clip in clips], spoken))


def fit(
    model: Transcriber, train: Sequence[Clip], dev: Sequence[Clip], epochs: int, rate: float, generator: random.Random
) -> None:
    """AdamW, its rate warmed up over a tenth of the steps and then let down to zero."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, rate)
    steps = epochs * -(-len(train) // CLIPS_PER_STEP)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, steps // 10, steps)
    print(f"{len(train)} clips, {sum(p.numel() for p in trained):,} trained parameters", flush=True)
    begun = time.monotonic()
    model.train()
    for epoch in range(1, epochs + 1):
        order = generator.sample(train, len(train))
        total = 0.0
        for start in range(0, len(order), CLIPS_PER_STEP):
            loss = model.loss(order[start : start + CLIPS_PER_STEP])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * CLIPS_PER_STEP / len(order)
        minutes = (time.monotonic() - begun) / 60
        error = model.word_error_rate(dev)
        print(f"epoch {epoch}: loss {total:.3f}, dev WER {100 * error:.1f} %, {minutes:.1f} min", flush=True)


def save_encoder(checkpoint: Checkpoint, name: str, revision: str | None, folder: Path) -> None:
    """The encoder with its config and feature extractor. A shortened input window is its only window from now on."""
    attribute = checkpoint.family.encoder_attribute
    prefix = "" if attribute is None else f"{attribute}."
    extractor = getattr(transformers, checkpoint.family.extractor_class)
    extractor = extractor.from_pretrained(EMBEDDED if name == "embedded" else name, revision=revision or "main")
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.encoder.config.save_pretrained(folder)
    extractor.save_pretrained(folder)
    weights = {prefix + key: weight.contiguous() for key, weight in checkpoint.encoder.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
