"""DisentangledEncoder: the deployable result of both stages, waveforms in and disentangled frames out."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from rich.console import Console
from rich.progress import Progress
from safetensors import SafetensorError
from torch import Tensor, nn

from disentangle_lightning.corpus.audio import SAMPLE_RATE, load_audio
from disentangle_lightning.corpus.manifest import Skipped
from disentangle_lightning.deployment.model_folder import (
    CARD_TEMPLATE,
    LIBRARY,
    first_line,
    locate,
    read_config,
    read_weights,
    replace_model,
)
from disentangle_lightning.deployment.output_folder import DisentangleSummary, OutputFolder
from disentangle_lightning.deployment.sound_files import find_sound_files
from disentangle_lightning.deployment.stages import Disentangled, TrainedStages
from disentangle_lightning.deployment.trained_upstream import FEATURES, IDENTITY, load_trained_upstream
from disentangle_lightning.deployment.waveforms import checked_waveform, equal_length_batches
from disentangle_lightning.errors import UserError
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

_BATCH_SAMPLES = 60 * SAMPLE_RATE
"""How much audio goes through the encoder at once; a longer clip goes alone."""


class DisentangledEncoder(
    nn.Module,
    PyTorchModelHubMixin,
    library_name=LIBRARY,
    tags=["speech", "disentanglement"],
    pipeline_tag="feature-extraction",
    model_card_template=CARD_TEMPLATE,
):
    """Trained stages on top of their frozen speech encoder; nothing here is trained any further.

    >>> from disentangle_lightning.corpus.audio import load_audio
    >>> encoder = DisentangledEncoder.from_pretrained("model")  # a folder or a hub id
    >>> speech = encoder(load_audio("clip.wav"))
    >>> len(speech.z_textual) == len(speech.z_acoustic["emotion"])
    True
    >>> many = encoder([torch.randn(8_000), torch.randn(12_000)], sampling_rate=8_000)
    >>> len(many)
    2

    The speech encoder is no part of what is saved. It is loaded when it is first needed, from the name that it
    had in training, and only the very same weights are accepted.

    Args:
        upstream: which encoder (name, revision, family, fingerprint, window_seconds), and what the stages take
            from it (precision, layers by number from 1, frame_rate).
        alphabet, latent_encoder, tasks: see `TrainedStages`.
    """

    def __init__(
        self,
        upstream: dict[str, Any],
        alphabet: str,
        latent_encoder: dict[str, Any],
        tasks: list[dict[str, Any]],
    ) -> None:
        super().__init__()
        self.identity = {name: upstream[name] for name in IDENTITY + FEATURES}
        self.stages = TrainedStages(alphabet, latent_encoder, tasks)
        self._layers = [number - 1 for number in self.identity["layers"]]
        self._moved_to: str | None = None
        # Empty or one; in a list, where nn.Module does not see it and will not save it with the rest.
        self._loaded: list[FrozenSpeechEncoder] = []
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_checkpoints(cls, checkpoints: str | Path | Sequence[str | Path]) -> Self:
        """Put trained stages together.

        Args:
            checkpoints: of one `Stage1VIB`, or of one or several `Stage2ConditionalVIB`, which carry their
                Stage 1 with them.

        Raises:
            UserError: a file is no such checkpoint, two are of the same task, or they carry different Stage 1s.
        """
        from disentangle_lightning.deployment.checkpoints import read_stages  # imports Lightning: slow

        arguments, weights = read_stages([checkpoints] if isinstance(checkpoints, str | Path) else checkpoints)
        encoder = cls(**arguments)
        encoder.stages.load_state_dict(weights)
        return encoder

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        upstream: str | Path | None = None,
        **hub_arguments: Any,
    ) -> Self:
        """Load what `save_pretrained` or `push_to_hub` wrote. Nothing in it can run code.

        Args:
            pretrained_model_name_or_path: a folder or a hub id.
            upstream: where the speech encoder is now, if not where it was in training; the weights must be
                the same.
            hub_arguments: revision, token, cache_dir... of `huggingface_hub.snapshot_download`.

        Raises:
            UserError: there is no such model, or its files are damaged, missing, or of another kind.
        """
        folder = locate(str(pretrained_model_name_or_path), **hub_arguments)
        config = read_config(folder, set(cls._hub_mixin_init_parameters) - {"self"})
        weights = read_weights(folder)
        try:
            encoder = cls(**config)
            encoder.load_state_dict(weights)
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"the files of model {folder} are damaged or of different models: {first_line(error)}"
            ) from error
        encoder._moved_to = None if upstream is None else str(upstream)
        return encoder

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        figures: Mapping[str, float] | None = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        **hub_arguments: Any,
    ) -> str | None:
        """Write config.json, model.safetensors and README.md: all of them, or nothing.

        A model that is already there is replaced; a README.md that this library did not write is kept.

        Args:
            save_directory: the folder; made if need be.
            figures: what was measured, {name: value}, for the model card; without them it claims nothing.
            repo_id, push_to_hub, hub_arguments: see `huggingface_hub.PyTorchModelHubMixin`.

        Returns:
            The address of the commit, where it was pushed to the hub.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(save_directory)
        card = {"figures": dict(figures or {})} | (hub_arguments.pop("model_card_kwargs", None) or {})
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
                super().save_pretrained(temporary, model_card_kwargs=card)
                replace_model(Path(temporary), folder)
        except (OSError, SafetensorError) as error:
            raise UserError(f"model folder {folder} cannot be written: {first_line(error)}") from error
        if not push_to_hub:
            return None
        return str(self.push_to_hub(repo_id or folder.name, model_card_kwargs=card, **hub_arguments))

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The model card; takes `figures` as `save_pretrained` does."""
        card = super().generate_model_card(*args, **self.config, **kwargs)
        if self.identity["revision"] is not None:  # else a folder, whose name says nothing elsewhere
            card.data["base_model"] = self.identity["name"]
        return card

    @property
    def config(self) -> dict[str, Any]:
        """What config.json holds and `__init__` takes; plain types."""
        config: dict[str, Any] = self._hub_mixin_config  # type: ignore[assignment]
        return config

    @property
    def fingerprint(self) -> str:
        """SHA-256 over config and weights: the same for two models that compute the same."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        digest.update(safetensors.torch.save({name: value.cpu() for name, value in self.state_dict().items()}))
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def upstream(self) -> FrozenSpeechEncoder:
        """The speech encoder, on the device of the stages.

        Raises:
            UserError: it is not where it was, or its weights are other ones.
        """
        if not self._loaded:
            self._loaded.append(load_trained_upstream(self.identity, self._moved_to))
        encoder = self._loaded[0]
        return encoder if encoder.device == self.device else encoder.to(self.device)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever a parent module does."""
        return super().train(False)

    def forward(
        self, waveforms: Tensor | Sequence[Tensor], sampling_rate: int = SAMPLE_RATE
    ) -> Disentangled | list[Disentangled]:
        """Take clips apart; those of equal length go through the encoder together, as if each were alone.

        Args:
            waveforms: [samples] float, mono, or a list of such; each is encoded whole.
            sampling_rate: of all of them, in Hz; other rates than 16 kHz are resampled.

        Returns:
            For one waveform its `Disentangled`; for a list a list in the same order; on the encoder's device.

        Raises:
            UserError: naming the waveform that is not [samples], is empty, silent, too short or too long, or
                holds NaN or infinite samples.
        """
        if not isinstance(sampling_rate, int) or sampling_rate < 1:
            raise UserError(f"sampling_rate is {sampling_rate!r}; expected a whole number of Hz")
        if isinstance(waveforms, Tensor):
            named = [("the waveform", waveforms)]
        else:
            named = [(f"waveforms[{i}]", waveform) for i, waveform in enumerate(waveforms)]
        clips = [(name, checked_waveform(name, w, sampling_rate, self.upstream)) for name, w in named]
        results = [_or_raise(outcome) for outcome in self._encode(clips)]
        return results[0] if isinstance(waveforms, Tensor) else results

    def encode_files(self, paths: Iterable[str | Path]) -> Iterator[Disentangled]:
        """Take sound files apart (WAV, FLAC, OGG, MP3), in order, reading about a minute of audio ahead.

        Raises:
            UserError: when the turn comes of a file that cannot be used.
        """
        return (_or_raise(outcome) for _, outcome in self.attempt_files(paths))

    def attempt_files(self, paths: Iterable[str | Path]) -> Iterator[tuple[Path, Disentangled | UserError]]:
        """As `encode_files`, each with its path; a file that cannot be used comes with its error, and others go on."""
        encoder = self.upstream  # outside of `try`: what is wrong with it is no file's fault
        batch: list[tuple[Path, Tensor | UserError]] = []
        samples = 0
        for path in map(Path, paths):
            try:
                waveform = checked_waveform(f"audio file {path}", load_audio(path), SAMPLE_RATE, encoder)
            except UserError as error:
                batch.append((path, error))
                continue
            batch.append((path, waveform))
            samples += len(waveform)
            if samples >= _BATCH_SAMPLES:
                yield from self._attempt(batch)
                batch, samples = [], 0
        yield from self._attempt(batch)

    def _attempt(
        self, batch: Sequence[tuple[Path, Tensor | UserError]]
    ) -> Iterator[tuple[Path, Disentangled | UserError]]:
        clips = [(f"audio file {path}", clip) for path, clip in batch if isinstance(clip, Tensor)]
        outcomes = iter(self._encode(clips))
        for path, clip in batch:
            yield path, next(outcomes) if isinstance(clip, Tensor) else clip

    @torch.no_grad()  # not inference_mode: what comes out may well be the input of somebody's training
    def _encode(self, clips: Sequence[tuple[str, Tensor]]) -> list[Disentangled | UserError]:
        """The outcome of each clip (name, waveform at 16 kHz), in order."""
        outcomes: dict[int, Disentangled | UserError] = {}
        for batch in equal_length_batches([len(waveform) for _, waveform in clips], _BATCH_SAMPLES):
            features = self.upstream(torch.stack([clips[i][1].to(self.device) for i in batch]))
            finite = features.isfinite().all(dim=(1, 2, 3)).tolist()
            results = self.stages(features[:, :, self._layers], self.identity["frame_rate"])
            for i, usable, result in zip(batch, finite, results, strict=True):
                outcomes[i] = result if usable else UserError(f"the encoder makes NaN of {clips[i][0]}")
        return [outcomes[i] for i in range(len(clips))]


def disentangle(
    model: str,
    audio: Sequence[str | Path],
    out: str | Path,
    device: str = "cpu",
    progress: bool = True,
    upstream: str | None = None,
) -> DisentangleSummary:
    """Take sound files apart and write what they hold, in the layout of `deployment/output_folder.py`.

    A file in a folder keeps its place below it: AUDIO/a/b.wav becomes OUT/a/b.safetensors. Where two files would
    get the same name, the second becomes NAME-2. A run that was interrupted goes on where it stopped: the
    outputs of files that an earlier run finished are kept.

    Args:
        model: folder or hub id of a `DisentangledEncoder`.
        audio: sound files, and folders that are searched for them.
        out: the folder to write to; made if need be.
        device: where to compute, such as cpu or cuda.
        progress: show a progress bar, if standard error is a terminal.
        upstream: see `DisentangledEncoder.from_pretrained`.

    Raises:
        UserError: the model or the device cannot be used, not one sound file can, or `out` holds what another
            model made, is being written by another process, or cannot be written.
    """
    sounds, skipped = find_sound_files(audio)
    if not sounds:
        raise UserError(f"no sound files in {', '.join(map(str, audio))}")
    encoder = _on_device(DisentangledEncoder.from_pretrained(model, upstream=upstream), device)
    _ = encoder.upstream  # loads it: what is wrong with it shows before anything is written
    console = Console(stderr=True)
    with OutputFolder(Path(out), encoder.fingerprint) as folder:
        ids = {sound.path: folder.reserve(sound) for sound in sounds if not folder.holds(sound.path)}
        kept, written = len(sounds) - len(ids), 0
        with Progress(console=console, disable=not (progress and console.is_terminal)) as bar:
            task = bar.add_task("Disentangling", total=len(sounds), completed=kept)
            for path, outcome in encoder.attempt_files(ids):
                if isinstance(outcome, UserError):
                    skipped.append(Skipped(str(path), str(outcome)))
                else:
                    folder.add(ids[path], path, outcome)
                    written += 1
                bar.advance(task)
        folder.write_skipped(skipped)
    if not written + kept:
        raise UserError(f"none of {len(sounds)} sound files could be used; the first: {skipped[0].reason}")
    return DisentangleSummary(Path(out), written, kept, skipped)


def _or_raise(outcome: Disentangled | UserError) -> Disentangled:
    if isinstance(outcome, UserError):
        raise outcome
    return outcome


def _on_device(encoder: DisentangledEncoder, device: str) -> DisentangledEncoder:
    try:
        return encoder.to(device)
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without CUDA
        raise UserError(f"device {device!r} cannot be used: {first_line(error)}") from None
