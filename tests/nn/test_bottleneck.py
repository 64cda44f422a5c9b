from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.bottleneck import LOG_VARIANCE_RANGE, Posterior, VIBBottleneck


def paper_bottleneck(x: Tensor, weights: dict[str, Tensor], noise: Tensor) -> tuple[Tensor, Tensor]:
    """The paper's equations straight down: z and the mean KL per frame, in nats."""
    h = F.gelu(x @ weights["net.0.weight"].T + weights["net.0.bias"])
    h = F.gelu(h @ weights["net.2.weight"].T + weights["net.2.bias"])
    mu = h @ weights["mean_head.weight"].T + weights["mean_head.bias"]
    variance = torch.log(1 + torch.exp(h @ weights["variance_head.weight"].T + weights["variance_head.bias"]))
    z = mu + torch.sqrt(variance) * noise
    kl = 0.5 * (mu**2 + variance - torch.log(variance) - 1)
    return z, kl.sum(1).mean()


def test_softplus_mode_is_the_paper_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    bottleneck = VIBBottleneck(6, 3, variance="softplus")
    x = 4 * torch.randn(20, 6)
    torch.manual_seed(1)
    posterior = bottleneck(x)
    z = bottleneck.latent(posterior)
    kl = posterior.kl().sum(1).mean()
    (z.square().sum() + 0.3 * kl).backward()

    torch.manual_seed(1)
    noise = torch.randn(20, 3)
    weights = {name: p.double().requires_grad_() for name, p in bottleneck.state_dict().items()}
    paper_z, paper_kl = paper_bottleneck(x.double(), weights, noise.double())
    (paper_z.square().sum() + 0.3 * paper_kl).backward()

    torch.testing.assert_close(z.double(), paper_z, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(kl.double(), paper_kl, rtol=1e-5, atol=1e-5)
    assert weights.keys() == dict(bottleneck.named_parameters()).keys()
    for name, parameter in bottleneck.named_parameters():
        expected = weights[name].grad
        assert expected is not None
        torch.testing.assert_close(parameter.grad, expected.float(), rtol=1e-4, atol=1e-4)


def test_evaluation_hands_on_the_mean_and_training_a_fresh_draw() -> None:
    bottleneck = VIBBottleneck(6, 3)
    posterior = bottleneck(torch.randn(5, 6))
    assert not torch.equal(bottleneck.latent(posterior), bottleneck.latent(posterior))
    assert torch.equal(bottleneck.eval().latent(posterior), posterior.mean)


def test_samples_have_the_posterior_mean_and_variance() -> None:
    torch.manual_seed(0)
    mean = torch.tensor([[1.0, -2.0]]).expand(100_000, 2)
    log_variance = torch.tensor([[0.25, 9.0]]).log().expand(100_000, 2)
    samples = Posterior(mean, log_variance).sample()
    torch.testing.assert_close(samples.mean(0), torch.tensor([1.0, -2.0]), rtol=0, atol=0.04)
    torch.testing.assert_close(samples.var(0), torch.tensor([0.25, 9.0]), rtol=0.02, atol=0)


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(50, 4), 3 * torch.randn(50, 4)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), expected, rtol=1e-5, atol=1e-5)
    assert Posterior(torch.zeros(1, 4), torch.zeros(1, 4)).kl().tolist() == [[0.0] * 4]


@pytest.mark.parametrize("head", [-700.0, -200.0, -20.001, -19.999, 0.0, 50.0])
def test_softplus_variance_keeps_finite_kl_and_gradient_where_it_underflows(head: float) -> None:
    # log(softplus(-200)) is -inf in float32, where the paper's own code stops being finite.
    bottleneck = VIBBottleneck(2, 1, variance="softplus")
    assert bottleneck.variance_head is not None
    with torch.no_grad():
        bottleneck.variance_head.weight.zero_()
        bottleneck.variance_head.bias.fill_(head)
    posterior = bottleneck(torch.randn(3, 2))
    exact = F.softplus(torch.tensor(head, dtype=torch.float64)).log()
    torch.testing.assert_close(posterior.log_variance.double(), exact.expand(3, 1), rtol=1e-6, atol=1e-6)
    (posterior.kl().sum() + posterior.sample().sum()).backward()
    slope = bottleneck.variance_head.bias.grad
    assert slope is not None
    assert slope.isfinite().all()
    assert slope.abs() > 0 or head == 50.0


def test_predicted_log_variance_is_clamped_to_its_range() -> None:
    bottleneck = VIBBottleneck(2, 2)
    assert bottleneck.variance_head is not None
    with torch.no_grad():
        bottleneck.variance_head.weight.zero_()
        bottleneck.variance_head.bias.copy_(torch.tensor([-1e4, 1e4]))
    posterior = bottleneck(torch.randn(3, 2))
    assert posterior.log_variance.tolist() == [list(LOG_VARIANCE_RANGE)] * 3
    assert posterior.kl().isfinite().all()


@pytest.mark.parametrize("variance", ["softplus", "log_variance"])
def test_posterior_is_float32_under_autocast(variance: str) -> None:
    bottleneck = VIBBottleneck(6, 3, variance=variance)  # type: ignore[arg-type]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = bottleneck(torch.randn(5, 6))
    assert {posterior.mean.dtype, posterior.log_variance.dtype} == {torch.float32}


def test_deterministic_draws_nothing_costs_nothing_and_trains_every_parameter() -> None:
    bottleneck = VIBBottleneck(6, 3, deterministic=True).train()
    posterior = bottleneck(torch.randn(5, 6))
    latent = bottleneck.latent(posterior)
    assert torch.equal(latent, posterior.mean)
    assert torch.equal(posterior.kl(), torch.zeros(5, 3))
    latent.sum().backward()
    assert all(p.grad is not None for p in bottleneck.parameters())


def test_unknown_variance_is_refused() -> None:
    with pytest.raises(UserError, match="expected one of softplus, log_variance"):
        VIBBottleneck(6, 3, variance="exp")  # type: ignore[arg-type]
