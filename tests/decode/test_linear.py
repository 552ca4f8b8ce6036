"""The CPU's linear layer and dropout against float64 and torch's own."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from braindecode_clip.decode import linear
from braindecode_clip.decode.linear import Dropout, Linear, multiply
from braindecode_clip.decode.network import ResidualMLP

#: Blocks of 1 MB cut the gradient's 2003 columns into 873, 873 and 257.
N, WIDE, NARROW = 37, 2003, 300


def layer(n_in=WIDE, n_out=NARROW, *, seed=0):
    torch.manual_seed(seed)
    return Linear(n_in, n_out), torch.randn(N, n_in), torch.randn(N, n_out)


def reference(made, x, d_out):
    """Output and gradients in float64 by numpy."""
    W, b, x, d = (t.detach().double().numpy() for t in (made.weight, made.bias, x, d_out))
    return x @ W.T + b, d @ W, d.T @ x, d.sum(axis=0)


def relative(found, expected):
    return np.linalg.norm(found.detach().double().numpy() - expected) / np.linalg.norm(expected)


def test_product_and_gradients_in_float64():
    made, x, d_out = layer()
    x.requires_grad_(True)
    out = made(x)
    out.backward(d_out)
    found = (out, x.grad, made.weight.grad, made.bias.grad)
    for part, expected in zip(found, reference(made, x, d_out), strict=True):
        assert part.dtype == torch.float32
        assert relative(part, expected) < 1e-6


def test_gradients_add_up_as_torchs_do():
    """Twice in one graph, and over two calls of backward; then the tensor is used again."""
    made, x, d_out = layer(n_out=WIDE)
    d_out = torch.randn(N, WIDE)
    made(made(x)).backward(d_out)
    made(2 * x).backward(d_out)
    W, b = (p.detach().double().requires_grad_(True) for p in (made.weight, made.bias))
    wide = x.double()
    functional.linear(functional.linear(wide, W, b), W, b).backward(d_out.double())
    functional.linear(2 * wide, W, b).backward(d_out.double())
    assert relative(made.weight.grad, W.grad.numpy()) < 1e-6
    assert relative(made.bias.grad, b.grad.numpy()) < 1e-6
    place = made.weight.grad.data_ptr()
    made.zero_grad(set_to_none=False)
    made(x).backward(d_out)
    assert made.weight.grad.data_ptr() == place
    assert relative(made.weight.grad, reference(made, x, d_out)[2]) < 1e-6


def test_one_row_one_unit_and_strides():
    made, x, d_out = layer(5, 1)
    strided = torch.randn(2 * N, 10)[::2, ::2]
    torch.testing.assert_close(made(strided), functional.linear(strided, made.weight, made.bias))
    made(x[:1]).backward(d_out[:1, :1])
    torch.testing.assert_close(made.weight.grad, d_out[:1, :1] * x[:1])
    a, b = torch.randn(4, 7), torch.randn(7, 3)
    torch.testing.assert_close(multiply(a, b.t()), a @ b)


def test_frozen_weights_get_no_gradient():
    made, x, _ = layer()
    made.requires_grad_(False)
    x.requires_grad_(True)
    made(x).sum().backward()
    assert made.weight.grad is None and made.bias.grad is None and x.grad is not None


def test_float64_and_no_one_dnn_are_torchs_own(monkeypatch):
    made, x, d_out = layer()
    expected = made(x)
    wide = Linear(WIDE, NARROW).double()
    assert torch.autograd.grad(wide(x.double()).sum(), wide.weight)[0].dtype == torch.float64
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(linear, "multiply", None)
    torch.testing.assert_close(made(x), expected, rtol=1e-4, atol=1e-4)
    made(x).backward(d_out)
    assert relative(made.weight.grad, reference(made, x, d_out)[2]) < 1e-6


def test_bfloat16_rounds_factors_while_training_alone():
    made, x, d_out = layer()
    x.requires_grad_(True)
    made.bfloat16 = True
    out = made(x)
    out.backward(d_out)
    found = (out, made.weight.grad)
    expected = reference(made, x, d_out)
    for part, wanted in zip(found, (expected[0], expected[2]), strict=True):
        assert part.dtype == torch.float32
        # The mantissa has 8 bits: a factor is off by 2⁻⁹ at most.
        assert 1e-4 < relative(part, wanted) < 2**-8
    assert relative(x.grad, expected[1]) < 1e-6
    made.eval()
    assert relative(made(x), expected[0]) < 1e-6


def test_whole_network_has_the_gradients_of_plain_layers():
    torch.manual_seed(2)
    network = ResidualMLP(70, 9, hidden=33, n_blocks=2).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x, d_out = torch.randn(12, 70), torch.randn(12, 9)
    network(x).backward(d_out)
    values = {k: v.detach().double().requires_grad_(True) for k, v in network.named_parameters()}
    h = functional.linear(x.double(), values["project.weight"], values["project.bias"])
    for i in range(2):
        start = f"blocks.{i}."
        own = {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
        part = functional.layer_norm(h, (33,), own["norm.weight"], own["norm.bias"])
        part = functional.gelu(functional.linear(part, own["rise.weight"], own["rise.bias"]))
        h = h + functional.linear(part, own["fall.weight"], own["fall.bias"])
    h = functional.layer_norm(h, (33,), values["norm.weight"], values["norm.bias"])
    functional.linear(h, values["head.weight"], values["head.bias"]).backward(d_out.double())
    for name, parameter in network.named_parameters():
        assert relative(parameter.grad, values[name].grad.numpy()) < 5e-6, name


@pytest.mark.parametrize("p", [0.1, 0.5, 0.93])
def test_dropout_has_its_share_and_keeps_the_mean(p):
    torch.manual_seed(1)
    dropout = Dropout(p)
    shape = (501, 1999)
    out = dropout(torch.ones(shape))
    n = np.prod(shape)
    # 5 standard deviations of a binomial share.
    assert float((out == 0).double().mean()) == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / n))
    assert out.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4 / (1 - p))
    # The units of one word are independent of each other.
    kept = (out.flatten()[: n // 4 * 4] > 0).double().reshape(-1, 4).numpy()
    correlation = np.corrcoef(kept.T) - np.eye(4)
    assert np.abs(correlation).max() < 5 / np.sqrt(n / 4)


def test_dropout_gradient_seed_and_evaluation():
    dropout = Dropout(0.4)
    x = torch.randn(3, 7, requires_grad=True)
    torch.manual_seed(3)
    first = dropout(x)
    first.sum().backward()
    torch.testing.assert_close(x.grad, first.detach() / x.detach())
    torch.manual_seed(3)
    torch.testing.assert_close(dropout(x), first, rtol=0, atol=0)
    assert not torch.equal(dropout(x), first)
    assert dropout.eval()(x) is x
    # Rounded to a share of one, all would be lost and the scale infinite.
    assert torch.isfinite(Dropout(1 - 1e-9)(x)).all()
