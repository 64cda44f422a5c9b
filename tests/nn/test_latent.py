from __future__ import annotations

import json

import pytest
import torch

from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.segments import Segments


@pytest.mark.parametrize(
    "encoder",
    [
        LatentEncoder(3, 4, 2),
        LatentEncoder(3, 4, 2, mixer="single", layer=1, variance="softplus"),
        LatentEncoder(3, 4, 2, mixer="random", deterministic=True),
        LatentEncoder(3, 4, 2, context=2),
    ],
)
def test_config_and_state_make_the_same_encoder_again(encoder: LatentEncoder) -> None:
    config = json.loads(json.dumps(encoder.config))
    again = LatentEncoder(**config)
    again.load_state_dict(encoder.state_dict())
    features, segments = torch.randn(7, 3, 4), Segments.from_lengths(torch.tensor([4, 3]), 7, 4)
    posterior, repeated = encoder(features, segments), again(features, segments)
    assert again.config == encoder.config
    assert torch.equal(posterior.mean, repeated.mean)
    assert torch.equal(posterior.log_variance, repeated.log_variance)


def test_posterior_is_the_bottleneck_of_the_mixed_layers() -> None:
    encoder = LatentEncoder(3, 4, 2, mixer="uniform").eval()
    features = torch.randn(7, 3, 4)
    posterior = encoder(features)
    torch.testing.assert_close(posterior.mean, encoder.bottleneck(features.mean(1)).mean)
    assert torch.equal(encoder.latent(posterior), posterior.mean)


def test_a_frame_gets_the_same_posterior_whatever_it_is_packed_with() -> None:
    encoder = LatentEncoder(3, 4, 2)
    features = torch.randn(7, 3, 4)
    torch.testing.assert_close(encoder(features[2:5]).mean, encoder(features).mean[2:5])


def test_an_encoder_with_context_must_be_told_whose_frames_they_are() -> None:
    with pytest.raises(ValueError, match="needs segments"):
        LatentEncoder(3, 4, 2, context=1)(torch.randn(7, 3, 4))


def test_context_starts_as_none_and_then_reaches_so_many_frames() -> None:
    plain, encoder = LatentEncoder(3, 4, 2), LatentEncoder(3, 4, 2, context=2)
    encoder.load_state_dict(plain.state_dict(), strict=False)
    features, segments = torch.randn(9, 3, 4), Segments.from_lengths(torch.tensor([9]), 9, 9)
    torch.testing.assert_close(encoder(features, segments).mean, plain(features).mean)
    assert encoder.context is not None
    torch.nn.init.normal_(encoder.context.weight)
    changed = features.clone()
    changed[4] += 1
    moved = (encoder(changed, segments).mean != encoder(features, segments).mean).any(1)
    assert moved.tolist() == [abs(t - 4) <= 2 for t in range(9)]
