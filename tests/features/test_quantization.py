"""Eight bits a value: how far off, and that no layer or frame pays for another."""

from __future__ import annotations

import pytest
import torch

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.quantization import STEPS, dequantize, quantize
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.writer import StoreWriter


def make_store(folder, features, dtype="int8", shard_bytes=1_000_000) -> FeatureStore:
    """A store of these features [frames, layers, dim], named by their place."""
    header = {"format": FORMAT, "encoder": {}, "dtype": dtype, "dim": features[0].shape[2]}
    header["layers"] = list(range(1, features[0].shape[1] + 1))
    header |= {"precision": "fp32", "frame_rate": 50.0, "manifest_sha256": ""}
    with StoreWriter(folder, header, shard_bytes) as writer:
        for i, part in enumerate(features):
            writer.add([(str(i), part)])
        writer.finish([])
    return FeatureStore.open(folder)


def test_known_values():
    rows = torch.tensor([[127.0, -127.0, 63.4, 0.0], [0.5, 0.25, -0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    values, scales = quantize(rows)
    assert values.tolist() == [[127, -127, 63, 0], [127, 64, -127, 0], [0, 0, 0, 0]]
    torch.testing.assert_close(scales[:2], torch.tensor([1.0, 0.5 / 127]))
    assert torch.equal(dequantize(values, scales)[2], torch.zeros(4, dtype=torch.float16))
    assert dequantize(values, scales)[0].tolist() == [127, -127, 63, 0]


@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_a_value_is_off_by_half_a_step_of_its_own_row_at_most(spread):
    generator = torch.Generator().manual_seed(0)
    loudness = torch.exp(spread * torch.randn(40, 3, 1, generator=generator))
    features = torch.randn(40, 3, 64, generator=generator) * loudness
    values, scales = quantize(features)
    step = features.abs().amax(dim=2, keepdim=True) / STEPS
    error = (values.double() * scales[..., None].double() - features.double()).abs()
    assert bool((error <= 0.5001 * step).all())
    assert bool((error.amax(dim=2) > 0.3 * step[..., 0]).all())  # the bound is reached: rows are not stored finer
    # What is read is rounded once more, to float16: by 2^-11 of the value.
    assert bool(((dequantize(values, scales).double() - features.double()).abs() <= 0.57 * step).all())


def test_a_loud_frame_and_a_loud_layer_cost_the_others_nothing(tmp_path):
    features = torch.randn(20, 3, 8, generator=torch.Generator().manual_seed(0))
    loud = features.clone()
    loud[5] *= 1000
    loud[:, 1] *= 30
    quiet = make_store(tmp_path / "quiet", [features]).read(0)
    mixed = make_store(tmp_path / "loud", [loud]).read(0)
    others = [i for i in range(20) if i != 5]
    assert torch.equal(mixed[others][:, [0, 2]], quiet[others][:, [0, 2]])
    torch.testing.assert_close(mixed[5, 0].float(), quiet[5, 0].float() * 1000, rtol=2e-3, atol=1)


def test_a_store_holds_what_quantising_gives_and_takes_half_the_bytes(tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n, 3, 64, generator=generator) for n in (7, 1, 30)]
    store = make_store(tmp_path / "int8", features)
    assert store.dtype == torch.int8
    for i, part in enumerate(features):
        assert torch.equal(store.read(i), dequantize(*quantize(part)))
        assert torch.equal(store.read(i, [3, 1]), dequantize(*quantize(part))[:, [2, 0]])
    half = make_store(tmp_path / "half", [part.half() for part in features], dtype="float16")
    sizes = [(s.path / "shards/00000.safetensors").stat().st_size for s in (store, half)]
    assert 0.5 < sizes[0] / sizes[1] < 0.6
    assert store.frame_bytes([1, 2]) == 2 * (64 + 4)
    assert half.frame_bytes([1, 2]) == 2 * 64 * 2


def test_encoding_quantises_the_exact_values_and_leaves_nan_out(make_manifest, encoder, tmp_path):
    class Fragile(type(encoder)):
        def __call__(self, waveforms):
            features = super().__call__(waveforms)
            features[waveforms.abs().amax(dim=1) > 0.4999] = torch.nan
            return features

    manifest = make_manifest([1600, 3200, 1600, 4800] * 3)
    skipped = encode(manifest, Fragile(), tmp_path / "int8", dtype="int8").skipped
    encode(manifest, Fragile(), tmp_path / "exact", dtype="float32")
    stored, exact = (FeatureStore.open(tmp_path / name) for name in ("int8", "exact"))
    assert 0 < len(skipped) < 12
    assert stored.ids == exact.ids
    for index in range(len(stored)):
        assert torch.equal(stored.read(index), dequantize(*quantize(exact.read(index))))


def test_values_that_float16_could_not_show_are_refused(make_manifest, encoder, tmp_path):
    encoder.scale = 1e5
    with pytest.raises(UserError, match=r"utterance 'u\d+' do not fit int8, .* the largest is \d+; .* bfloat16"):
        encode(make_manifest([1600]), encoder, tmp_path / "store", dtype="int8")
