from __future__ import annotations

import json

import pytest
import torch

from disentangle_lightning.nn.latent import LatentEncoder


@pytest.mark.parametrize(
    "encoder",
    [
        LatentEncoder(3, 4, 2),
        LatentEncoder(3, 4, 2, mixer="single", layer=1, variance="softplus"),
        LatentEncoder(3, 4, 2, mixer="random", deterministic=True),
    ],
)
def test_config_and_state_make_the_same_encoder_again(encoder: LatentEncoder) -> None:
    config = json.loads(json.dumps(encoder.config))
    again = LatentEncoder(**config)
    again.load_state_dict(encoder.state_dict())
    features = torch.randn(7, 3, 4)
    posterior, repeated = encoder(features), again(features)
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
