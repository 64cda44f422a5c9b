"""Train the small Wav2Vec2 that ships in the package: CTC on synthetic speech, then the head is thrown away.

    python experiments/embedded_encoder/train.py --out disentangle_lightning/upstream/embedded

Its sentences and voices are disjoint from those of the synthetic corpus. Word error rates are printed on held-out
sentences, in voices it heard and in the synthetic corpus's voices, which it never heard.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import espeakng_loader
import jiwer
import numpy as np
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from disentangle_lightning.corpus.espeak import Prosody
from disentangle_lightning.corpus.sentences import make_sentences
from disentangle_lightning.corpus.synthetic import SPEAKERS, speak
from disentangle_lightning.corpus.tokenizer import CTCTokenizer

TOKENIZER = CTCTokenizer()
Clip = tuple[Tensor, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("config.yaml"))
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    arguments = parser.parse_args()
    config = yaml.safe_load(arguments.config.read_text())
    torch.manual_seed(config["seed"])
    started = time.time()

    train, heard, unheard = make_clips(config)
    hours = sum(len(waveform) for waveform, _ in train) / 16_000 / 3600
    print(f"{len(train)} clips, {hours:.2f} h, made in {time.time() - started:.0f} s", flush=True)

    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(**config["model"], vocab_size=len(TOKENIZER), pad_token_id=0, ctc_zero_infinity=True)
    )
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    fit(model, train, config["training"], config["seed"], heard, unheard)
    print(
        f"WER: {word_error_rate(model, heard):.3f} in heard voices, {word_error_rate(model, unheard):.3f} "
        f"in unheard voices, after {(time.time() - started) / 60:.1f} min",
        flush=True,
    )
    model.wav2vec2.half().save_pretrained(arguments.out)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False).save_pretrained(arguments.out)
    # Relative paths and the library's version are all that the folder says about where it was made.
    config_file = arguments.out / "config.json"
    written = json.loads(config_file.read_text())
    written.pop("_name_or_path", None)
    config_file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def make_clips(config: dict) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Training clips, held-out clips in the training voices, and held-out clips in the synthetic corpus's voices."""
    generator = random.Random(config["seed"])
    variants = Path(espeakng_loader.get_data_path(), "voices", "!v")
    left_out = {*SPEAKERS, *config["excluded_voices"]}
    voices = sorted(path.name for path in variants.iterdir() if path.name not in left_out)
    sentences = make_sentences(config["sentences"] + 150, config["seed"], part="encoder")

    def draw(sentence: str, choices: list[str]) -> tuple[str, str, Prosody]:
        prosody = Prosody(**{name: generator.randint(*limits) for name, limits in config["prosody"].items()})
        return sentence, generator.choice(choices), prosody

    jobs = [draw(s, voices) for s in sentences[150:] for _ in range(config["voices_per_sentence"])]
    jobs += [draw(s, voices) for s in sentences[:150]]
    jobs += [draw(s, list(SPEAKERS)) for s in sentences[:150]]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        waveforms = list(pool.map(_speak, jobs, chunksize=64))
    clips = [(torch.from_numpy(w), job[0]) for w, job in zip(waveforms, jobs, strict=True) if len(w)]
    print(f"{len(voices)} voices; {len(jobs) - len(clips)} clips came out empty", flush=True)
    return clips[:-300], clips[-300:-150], clips[-150:]


def _speak(job: tuple[str, str, Prosody]) -> np.ndarray:
    torch.set_num_threads(1)
    try:
        return speak(*job).numpy()
    except ValueError:  # a variant whose file this release cannot load
        return np.zeros(0, np.float32)


def fit(model: Wav2Vec2ForCTC, clips: list[Clip], config: dict, seed: int, *held_out: list[Clip]) -> None:
    generator = random.Random(seed)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": config["weight_decay"]}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config["learning_rate"])
    total = len(make_batches(clips, config["seconds_per_batch"], generator)) * config["epochs"]
    warmup = config["warmup_fraction"] * total

    def rate(step: int) -> float:
        done = (step - warmup) / (total - warmup)
        return step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    started, step = time.time(), 0
    for epoch in range(config["epochs"]):
        model.train()
        losses = []
        for batch in make_batches(clips, config["seconds_per_batch"], generator):
            loss = ctc_loss(model, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config["clip_gradient"])
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            step += 1
            if step == 20:
                print(f"{(time.time() - started) / 20 * total / 60:.0f} min expected", flush=True)
        errors = "  ".join(f"{word_error_rate(model, part):.3f}" for part in held_out)
        minutes = (time.time() - started) / 60
        print(f"epoch {epoch + 1}  {minutes:.1f} min  loss {np.mean(losses):.3f}  WER {errors}", flush=True)


def make_batches(clips: list[Clip], seconds: float, generator: random.Random) -> list[list[Clip]]:
    """Batches of clips of similar length, so that padding stays small, in random order."""
    order = sorted(clips, key=lambda clip: len(clip[0]) * generator.uniform(0.95, 1.05))
    batches: list[list[Clip]] = [[]]
    for clip in order:
        if (len(batches[-1]) + 1) * len(clip[0]) > seconds * 16_000:
            batches.append([])
        batches[-1].append(clip)
    generator.shuffle(batches)
    return batches


def ctc_loss(model: Wav2Vec2ForCTC, batch: list[Clip]) -> Tensor:
    lengths = torch.tensor([len(waveform) for waveform, _ in batch])
    padded = torch.nn.utils.rnn.pad_sequence([normalize(waveform) for waveform, _ in batch], batch_first=True)
    padded = padded + 0.02 * torch.rand(len(batch), 1) * torch.randn_like(padded)
    targets = [torch.tensor(TOKENIZER.encode(text)) for _, text in batch]
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(padded).logits
    frames = model._get_feat_extract_output_lengths(lengths)
    return F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1),
        torch.cat(targets),
        frames,
        torch.tensor([len(t) for t in targets]),
        zero_infinity=True,
    )


def normalize(waveform: Tensor) -> Tensor:
    return (waveform - waveform.mean()) / torch.sqrt(waveform.var(unbiased=False) + 1e-7)


@torch.no_grad()
def word_error_rate(model: Wav2Vec2ForCTC, clips: list[Clip]) -> float:
    model.eval()
    hypotheses = []
    for waveform, _ in clips:
        best = model(normalize(waveform)[None]).logits[0].argmax(-1)
        hypotheses.append(TOKENIZER.decode(torch.unique_consecutive(best).tolist()))
    return jiwer.wer([TOKENIZER.normalize(text) for _, text in clips], hypotheses)


if __name__ == "__main__":
    main()
