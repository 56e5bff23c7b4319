"""docs/pytorch.md, where PyTorch is installed: its spectra are those of one network in JAX, and of dense Hessians."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from problems import promoting

import sharplab as sl

torch = pytest.importorskip("torch")
DOCS = Path(__file__).parents[2] / "docs"


def left_by(page):
    """What a page's examples leave, run one after the other."""
    found = {"__name__": "documentation"}
    with jax.numpy_rank_promotion("allow"):
        for block in re.findall(r"^```py\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE):
            exec(compile(block, page.name, "exec"), found)
    return found


@pytest.fixture(scope="module")
def names():
    torch.set_num_threads(1)  # whose products are too small for more
    return left_by(DOCS / "pytorch.md")


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


def test_the_sharpness_along_a_loop_is_that_of_the_dense_matrix_in_adams_metric(names):
    found = left_by(DOCS / "loops.md")
    net, optimizer, loss = found["net"], found["optimizer"], found["loss"]
    assert all(module.training for module in net.modules())  # as it was
    w = {name: p.detach() for name, p in net.eval().named_parameters()}

    def of_flat(flat):
        parts = flat.split([p.numel() for p in w.values()])
        own = {name: part.view_as(p) for part, (name, p) in zip(parts, w.items(), strict=True)}
        return loss(torch.func.functional_call(net, own, (found["inputs"],)), found["targets"])

    H = torch.autograd.functional.hessian(of_flat, torch.cat([p.flatten() for p in w.values()])).double().numpy()
    moments = torch.cat([optimizer.state[p]["exp_avg_sq"].flatten() for p in net.parameters()]).double().numpy()
    root = ((1 - 0.9**3) * (np.sqrt(moments / (1 - 0.999**3)) + 1e-8)) ** -0.5
    exact = np.linalg.eigvalsh(root[:, None] * H * root)[-1]
    assert abs(found["top"].values[0] - exact) <= found["top"].errors[0] + 1e-4 * exact


def test_sgd_has_no_metric_but_the_parameters_that_it_is_given_and_what_has_none_is_refused(names):
    net, batch = names["net"], (torch.nn.functional.cross_entropy, names["inputs"], names["targets"])
    readout = list(net[2].parameters())
    held = sl.torch_hessian(net, *batch, optimizer=torch.optim.SGD(readout, lr=0.1, momentum=0.9))
    v = {name: np.ones(p.shape, np.float32) for name, p in net.named_parameters()}
    masked = {name: x * name.startswith("2.") for name, x in v.items()}
    plain = sl.torch_hessian(net, *batch)(masked)
    for name, product in held(v).items():
        assert np.allclose(product, plain[name] if name.startswith("2.") else 0.0, atol=1e-6)
    for wrong in (
        torch.optim.RMSprop(readout),
        torch.optim.Adam(readout),  # without a step
        torch.optim.Adam(readout, amsgrad=True),
        torch.optim.Adam(readout, weight_decay=0.1),
        torch.optim.SGD([{"params": readout[:1]}, {"params": readout[1:], "lr": 0.5}], lr=0.1),
    ):
        with pytest.raises(ValueError, match="optimizer"):
            sl.torch_hessian(net, *batch, optimizer=wrong)
