"""docs/pytorch.md, where PyTorch is installed: its spectra are those of one network in JAX, and of dense Hessians."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import promoting

import sharplab as sl

torch = pytest.importorskip("torch")
PAGE = Path(__file__).parents[2] / "docs" / "pytorch.md"


@pytest.fixture(scope="module")
def names():
    """What the page's examples leave, run one after the other."""
    torch.set_num_threads(1)  # whose products are too small for more
    found = {"__name__": "documentation"}
    with jax.numpy_rank_promotion("allow"):
        for block in re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE):
            exec(compile(block, PAGE.name, "exec"), found)
    return found


def test_a_network_has_one_spectrum_in_pytorch_and_in_jax(names):
    top, same = names["top"], names["same"]
    assert np.allclose(top.values, same.values, rtol=1e-5)
    own = sl.torch_hessian(names["net"], torch.nn.functional.cross_entropy, names["inputs"], names["targets"])
    of_jax = sl.hessian(sl.losses.cross_entropy, names["w"], names["batch"], model=promoting(names["model"]))
    v = {name: np.random.default_rng(0).standard_normal(x.shape).astype(np.float32) for name, x in names["w"].items()}
    for mine, other in zip(jax.tree.leaves(own(v)), jax.tree.leaves(of_jax(v)), strict=True):
        assert np.allclose(mine, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_the_eigenvalues_of_a_transformer_lie_within_their_errors_of_the_dense_ones(names):
    layer = torch.nn.TransformerEncoderLayer(4, 2, dim_feedforward=4, batch_first=True)
    model = torch.nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    w = {name: p.detach() for name, p in model.named_parameters()}
    inputs, targets = torch.randn(6, 3, 4), torch.randn(6, 3, 4)

    def loss(outputs, targets):
        return ((outputs - targets) ** 2).mean()

    def of_flat(flat):
        parts = flat.split([p.numel() for p in w.values()])
        own = {name: part.view_as(p) for part, (name, p) in zip(parts, w.items(), strict=True)}
        return loss(torch.func.functional_call(model, own, (inputs,)), targets)

    with names["sdpa_kernel"](names["SDPBackend"].MATH):
        found = sl.eigsh(sl.torch_hessian(model, loss, inputs, targets), k=2, which="BE")
        flat = torch.cat([p.flatten() for p in w.values()])
        dense = torch.autograd.functional.hessian(of_flat, flat).double().numpy()
    exact = np.linalg.eigvalsh((dense + dense.T) / 2)
    assert np.abs(dense - dense.T).max() <= 1e-5 * np.abs(exact).max()
    assert (np.abs(np.asarray(found.values) - exact[[-1, 0]]) <= np.asarray(found.errors) + 1e-5 * exact[-1]).all()
