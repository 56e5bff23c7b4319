"""The bundled and procedural data sets, and what happens to a damaged file."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest

from sharplab.data import DATASETS, load_dataset
from sharplab.data.fashion_mnist import FOLDER, IMAGES, LABELS, fashion_mnist_10k
from sharplab.data.idx import parse_idx


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


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_data_set_is_shared_read_only_and_reproducible(name):
    data, again = load_dataset(name), DATASETS[name]()
    assert load_dataset(name) is data and data.name == name and len(data.checksum) == 64
    assert again.checksum == data.checksum
    np.testing.assert_array_equal(again.train_inputs, data.train_inputs)
    with pytest.raises(ValueError, match="read-only"):
        data.train_inputs[0] = 0


def test_data_sets_have_different_checksums():
    assert len({load_dataset(name).checksum for name in DATASETS}) == len(DATASETS)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown data set 'fashion-mnist': did you mean 'fashion-mnist-10k'"):
        load_dataset("fashion-mnist")


def test_one_changed_byte_is_refused_with_both_checksums(folder):
    content = bytearray((folder / IMAGES).read_bytes())
    content[1000] ^= 1
    (folder / IMAGES).write_bytes(content)
    actual = hashlib.sha256(content).hexdigest()
    expected = hashlib.sha256((FOLDER / IMAGES).read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"{IMAGES} has SHA-256 {actual}, expected {expected}.*restore it"):
        fashion_mnist_10k(folder)


@pytest.mark.parametrize("name", [IMAGES, LABELS, "SHA256SUMS"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        fashion_mnist_10k(folder)


def test_a_truncated_gzip_file_is_refused(folder):
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-100])
    declare(folder, IMAGES)
    with pytest.raises(ValueError, match=f"{IMAGES} is not a whole gzip file"):
        fashion_mnist_10k(folder)


def test_labels_in_place_of_images_are_refused(folder):
    shutil.copy(folder / LABELS, folder / IMAGES)
    declare(folder, IMAGES)
    with pytest.raises(ValueError, match=f"{IMAGES} holds 1 axes where 3 belong"):
        fashion_mnist_10k(folder)


def test_other_source_bytes_give_another_checksum(folder):
    content = gzip.decompress((folder / LABELS).read_bytes())
    (folder / LABELS).write_bytes(gzip.compress(content[:-1] + bytes([(content[-1] + 1) % 10])))
    declare(folder, LABELS)
    assert fashion_mnist_10k(folder).checksum != load_dataset("fashion-mnist-10k").checksum


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "starts with nothing"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0]), "not an idx file of unsigned bytes: it starts with 00000d01"),
        (bytes([0, 0, 8, 2, 0, 0, 0, 1]), "ends within its header of 12 bytes"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), "holds 2 bytes of data where its header says 3"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "holds 2 bytes of data where its header says 1"),
    ],
)
def test_malformed_idx_is_refused(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_idx(content, "file")
