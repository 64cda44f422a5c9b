"""Integrated Gradients through an encoder; a page in which the sound is the sound."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from planted_stage import FRAMES, TELLING, new_stage, planted_stage, planted_streams
from tiny_pipeline import tone, write_encoder
from torch import Tensor, nn

from disentangle_lightning.analysis.attribution.alignment import Alignment, Span
from disentangle_lightning.analysis.attribution.explanation import explain
from disentangle_lightning.analysis.attribution.gallery import waveform_figures
from disentangle_lightning.analysis.attribution.listening import as_data_uri, word_table, write_listening_page
from disentangle_lightning.analysis.attribution.portrait import Portrait, draw_portrait
from disentangle_lightning.analysis.attribution.prosody import measure_prosody
from disentangle_lightning.analysis.attribution.waveform import WaveformExplanation, explain_waveform
from disentangle_lightning.nn.bottleneck import Posterior
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

HOP = 320

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

MEASURE = """
<script>
window.onload = () => setTimeout(() => {
  document.title = document.querySelector('audio').duration.toFixed(2) + ' s';
}, 500);
</script>
"""


class Passing(nn.Module):
    """A latent encoder whose latents are the features of the first layer, or what a linear layer makes of them."""

    def __init__(self, linear: nn.Module | None = None) -> None:
        super().__init__()
        self.linear = linear or nn.Identity()

    def forward(self, features: Tensor, segments: Segments) -> Posterior:
        mean = self.linear(features[:, 0])
        return Posterior(mean, torch.zeros_like(mean))


class LoudnessEncoder:
    """Each of four dimensions of a frame is the power of its own samples."""

    family: Any = SimpleNamespace(inputs=lambda waveforms: waveforms, time_axis=-1, steps_per_frame=HOP)

    def frames(self, samples: int) -> int:
        return samples // HOP

    def hidden_states(self, inputs: Tensor, frames: int) -> Tensor:
        power = inputs[:, : frames * HOP].view(len(inputs), frames, HOP).square().mean(2)
        return power[:, :, None, None].expand(-1, -1, 1, 4)


def portrait(id: str = "clip") -> Portrait:
    frames, time = FRAMES, np.arange(FRAMES * HOP) / 16_000
    samples = 0.5 * np.sin(2 * np.pi * 200 * time)
    alignment = Alignment([Span("A<B>", 2, 8, 0.9), Span("C", 10, 30, 0.5)], [])
    return Portrait(
        id=id,
        task="emotion",
        predicted="glad",
        label="calm",
        samples=samples,
        frame_rate=50.0,
        explanation=explain(planted_stage(), *planted_streams(), steps=20),
        prosody=measure_prosody(torch.from_numpy(samples).float(), frames, 50.0),
        alignment=alignment,
        waveform=WaveformExplanation(np.arange(float(frames)), 0.25),
    )


def test_the_samples_on_which_a_prediction_rests_are_found() -> None:
    stage = planted_stage()
    stage.stage1.latent_encoder = stage.latent_encoder = Passing()  # type: ignore[assignment]
    waveform = 0.1 * torch.randn(FRAMES * HOP + 100, generator=torch.Generator().manual_seed(1))
    waveform[TELLING * HOP : (TELLING + 1) * HOP] *= 20
    found = explain_waveform(stage, LoudnessEncoder(), waveform, 1, 50)  # type: ignore[arg-type]
    assert found.scores.shape == (FRAMES,)
    assert found.scores.argmax() == TELLING
    assert found.scores[TELLING] > 0.8 * found.scores.sum() > 0
    assert found.completeness_error < 0.01


def test_through_a_real_encoder_scores_sum_to_the_change_and_more_steps_miss_less(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = FrozenSpeechEncoder.from_pretrained(str(write_encoder(tmp_path)))
    stage = new_stage()
    stage.stage1.latent_encoder = stage.latent_encoder = Passing(nn.Linear(encoder.dim, 4))  # type: ignore[assignment]
    waveform = torch.from_numpy(tone(0.3)).float()
    errors = [explain_waveform(stage, encoder, waveform, 1, steps).completeness_error for steps in (2, 40)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_figures_of_the_waveform_are_means_over_what_was_traced() -> None:
    figures = waveform_figures("x", [portrait(), portrait()])
    assert figures["x.waveform.completeness_error"] == 0.25
    assert -1 <= figures["x.waveform.ig"] <= 1


def test_the_sound_of_the_page_is_the_sound() -> None:
    samples = portrait().samples
    kind, content = as_data_uri(samples).split(",")
    assert kind == "data:audio/flac;base64"
    decoded, rate = soundfile.read(io.BytesIO(base64.b64decode(content)))
    assert rate == 16_000
    assert decoded == pytest.approx(samples, abs=1e-4)


def test_the_listening_page_needs_nothing_but_itself_and_escapes_what_it_shows(tmp_path: Path) -> None:
    portraits = [portrait("<script>alert(1)</script>"), portrait("other")]
    drawn = [(p, draw_portrait(p, f"p{i}")) for i, p in enumerate(portraits)]
    page = write_listening_page(tmp_path / "listen.html", "run", drawn).read_text()
    assert "<script" not in page
    assert "A<B>" not in page
    assert "A&lt;B&gt;" in page
    assert "media-src data:" in page
    loaded = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert all(address.startswith(("#", "data:")) for address in loaded)
    assert sum(address.startswith("data:audio/flac") for address in loaded) == 2
    assert len(set(re.findall(r'id="([^"]+)"', page))) == len(re.findall(r'id="([^"]+)"', page))


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on PATH")
@pytest.mark.parametrize(("policy", "seconds"), [("media-src data:", "0.80"), ("media-src 'none'", "NaN")])
def test_a_browser_decodes_the_sound_if_the_policy_of_the_page_lets_it(
    tmp_path: Path, policy: str, seconds: str
) -> None:
    page = write_listening_page(tmp_path / "listen.html", "run", [(portrait(), draw_portrait(portrait(), "p"))])
    text = page.read_text().replace("media-src data:", policy)
    text = text.replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    page.write_text(text.replace("</body>", f"{MEASURE}</body>"))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --virtual-time-budget=5000 --user-data-dir={tmp_path}/profile"
    done = subprocess.run(
        [str(CHROMIUM), *flags.split(), "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"<title>{seconds} s</title>" in done.stdout


def test_a_drawing_shows_words_both_streams_and_what_was_wrong() -> None:
    drawing = draw_portrait(portrait(), "p")
    for text in ("A&lt;B&gt;", "z_textual", "z_acoustic", "attention", "pitch (Hz, dots)", "intensity (dB, line)"):
        assert text in drawing.svg
    assert "emotion: glad, which is wrong: it is calm" in drawing.caption


def test_the_words_of_an_utterance_have_what_falls_on_their_frames() -> None:
    shown = portrait()
    table = word_table(shown)
    assert table is not None
    assert [word for word, _ in table.rows] == ["A<B>", "C"]
    where, letters, textual, _, ig_textual, ig_acoustic = (cell.text for cell in table.rows[1][1])
    assert (where, letters, ig_textual) == ("0.20 to 0.60", "50.0%", "0.00")
    scores = shown.explanation.scores
    assert textual == f"{100 * scores['attention_textual'][10:30].sum():.1f}%"
    assert float(ig_acoustic) == pytest.approx(scores["ig_acoustic"][10:30].sum(), abs=0.005)
