"""The bundled and procedural data sets, and what happens to a damaged file."""

import gzip
import hashlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from sharplab.data import DATASETS, load_dataset
from sharplab.data.fashion_mnist import FOLDER, IMAGES, LABELS, fashion_mnist_10k
from sharplab.data.idx import parse_idx

DOWNLOADED = {name for name in DATASETS if name.startswith(("cifar", "tiny", "wikitext"))} | {"fashion-mnist"}
AT_HAND = sorted(set(DATASETS) - DOWNLOADED)


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "copy")


def declare(folder, name):
    """Make SHA256SUMS agree with the present bytes of `name`, so that only the parser is left to object."""
    lines = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if not line.endswith(name)]
    lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}")
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def test_fashion_mnist_has_the_stated_shapes_and_split():
    data = load_dataset("fashion-mnist-10k")
    assert data.train_inputs.shape == (8192, 32, 32, 1) and data.train_inputs.dtype == np.float32
    assert data.eval_inputs.shape == (1808, 32, 32, 1) and data.eval_inputs.dtype == np.float32
    assert data.train_targets.shape == (8192,) and data.eval_targets.shape == (1808,)
    assert data.train_targets.dtype == data.eval_targets.dtype == np.int32
    counts = np.bincount(np.concatenate([data.train_targets, data.eval_targets]))
    assert counts.tolist() == [1000] * data.classes


def test_fashion_mnist_pixels_invert_to_the_original_bytes():
    data = load_dataset("fashion-mnist-10k")
    inputs = np.concatenate([data.train_inputs, data.eval_inputs])[..., 0]
    original = np.frombuffer(gzip.decompress((FOLDER / IMAGES).read_bytes())[16:], np.uint8)
    np.testing.assert_array_equal(np.rint((inputs[:, 2:-2, 2:-2] + 1) * 127.5), original.reshape(10_000, 28, 28))
    inner = np.zeros((32, 32), bool)
    inner[2:-2, 2:-2] = True
    assert (inputs[:, ~inner] == -1).all() and inputs.min() == -1 and inputs.max() == 1


def test_gaussian_clusters_are_balanced_and_can_be_learned_but_not_perfectly():
    data = load_dataset("gaussian-clusters")
    assert data.train_inputs.shape == (1024, 16) and data.eval_inputs.shape == (256, 16)
    assert np.bincount(data.train_targets).tolist() == [128] * 8
    centres = np.stack([data.train_inputs[data.train_targets == c].mean(0) for c in range(data.classes)])
    distances = np.linalg.norm(data.eval_inputs[:, None] - centres, axis=-1)
    accuracy = np.mean(distances.argmin(1) == data.eval_targets)
    assert 0.6 < accuracy < 0.97


@pytest.mark.parametrize("name", AT_HAND)
def test_a_data_set_is_shared_read_only_and_reproducible(name):
    data, again = load_dataset(name), DATASETS[name]()
    assert load_dataset(name) is data and data.name == name and len(data.checksum) == 64
    assert again.checksum == data.checksum
    np.testing.assert_array_equal(again.train_inputs, data.train_inputs)
    with pytest.raises(ValueError, match="read-only"):
        data.train_inputs[0] = 0


def test_data_sets_have_different_checksums():
    assert len({load_dataset(name).checksum for name in AT_HAND}) == len(AT_HAND)


def test_own_data_sets_are_found_by_module_once_per_name():
    data = load_dataset("own_objects:clusters@2")
    assert data is load_dataset("own_objects:clusters@2") and data.name == "own clusters"
    with pytest.raises(ValueError, match=r"data set 'own_objects:make_number' .*int"):
        load_dataset("own_objects:make_number")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"data set 'fashion-mnist-1k'.*'fashion-mnist-10k'"):
        load_dataset("fashion-mnist-1k")


@pytest.mark.parametrize("name", sorted(DOWNLOADED))
def test_a_data_set_to_download_says_without_network_what_it_lacks(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SHARPLAB_CACHE", str(tmp_path))
    # A proxy where nobody listens: every address is out of reach, wherever the test runs.
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ValueError, match=rf"https?://.*{tmp_path}/{name.removesuffix('-bpe')}/.*"):
        load_dataset(name)


def test_the_table_of_names_neither_imports_nor_downloads():
    program = """
import sys
import sharplab.data
loaded = sorted(name for name in sys.modules if name.startswith("sharplab.data."))
print(*loaded)
assert not {"sentencepiece", "PIL", "urllib.request"} & set(sys.modules)
"""
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.split() == ["sharplab.data.augmentations", "sharplab.data.batches", "sharplab.data.dataset"]


def test_teacher_student_is_what_two_layers_make_of_the_inputs():
    data = load_dataset("teacher-student")
    assert data.train_inputs.shape == (1024, 16) and data.eval_targets.shape == (256, data.classes) == (256, 4)
    assert data.train_targets.dtype == data.train_inputs.dtype == np.float32
    inputs = data.train_inputs.astype(np.float64)
    assert abs(inputs.mean()) < 0.03 and abs(inputs.std() - 1) < 0.03
    # Without biases, f(x) − f(−x) = A W x is linear in x, and the outputs as a whole are not.
    rng = np.random.default_rng(20240601)
    hidden = rng.standard_normal((32, 16)) / 4
    readout = rng.standard_normal((4, 32)) / 4
    expected = np.where(inputs @ hidden.T > 0, inputs @ hidden.T, 0) @ readout.T
    np.testing.assert_allclose(data.train_targets, expected, atol=1e-5)
    residual = data.train_targets - inputs @ np.linalg.lstsq(inputs, data.train_targets, rcond=None)[0]
    assert 0.2 < np.mean(data.train_targets**2) < 5 and np.mean(residual**2) > 0.1 * np.mean(data.train_targets**2)


def test_one_changed_byte_is_refused_with_both_checksums(folder):
    content = bytearray((folder / IMAGES).read_bytes())
    content[1000] ^= 1
    (folder / IMAGES).write_bytes(content)
    actual = hashlib.sha256(content).hexdigest()
    expected = hashlib.sha256((FOLDER / IMAGES).read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"{IMAGES} .*{actual}.*{expected}"):
        fashion_mnist_10k(folder)


@pytest.mark.parametrize("name", [IMAGES, LABELS, "SHA256SUMS"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        fashion_mnist_10k(folder)


def test_a_truncated_gzip_file_is_refused(folder):
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-100])
    declare(folder, IMAGES)
    with pytest.raises(ValueError, match=f"{IMAGES} .*gzip"):
        fashion_mnist_10k(folder)


def test_labels_in_place_of_images_are_refused(folder):
    shutil.copy(folder / LABELS, folder / IMAGES)
    declare(folder, IMAGES)
    with pytest.raises(ValueError, match=f"{IMAGES} .*1 axes.*3"):
        fashion_mnist_10k(folder)


def test_other_source_bytes_give_another_checksum(folder):
    content = gzip.decompress((folder / LABELS).read_bytes())
    (folder / LABELS).write_bytes(gzip.compress(content[:-1] + bytes([(content[-1] + 1) % 10])))
    declare(folder, LABELS)
    assert fashion_mnist_10k(folder).checksum != load_dataset("fashion-mnist-10k").checksum


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "file .*nothing"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0]), "file .*00000d01"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 1]), "file .*header of 12 bytes"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), "file .*2 bytes.*3"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "file .*2 bytes.*1"),
    ],
)
def test_malformed_idx_is_refused(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_idx(content, "file")
