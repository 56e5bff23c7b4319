"""Downloaded images: each real format, made small by the test, through server, cache and loader."""

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from sharplab.data.cifar import TEST, TRAIN, cifar_10
from sharplab.data.downloads import Source
from sharplab.data.fashion_mnist import IMAGES, LABELS, SOURCES, TRAIN_IMAGES, TRAIN_LABELS, fashion_mnist
from sharplab.data.images import scale_pixels
from sharplab.data.tiny_imagenet import tiny_imagenet

RNG = np.random.default_rng(0)


def serve_file(server, name, content):
    server.files[name] = content
    return Source(f"set/{name}", (f"{server.url}/{name}",), hashlib.sha256(content).hexdigest(), len(content))


def pixels(inputs):
    """The bytes that prepared images were made from."""
    return np.rint((inputs + 1) * 127.5).astype(int)


def test_scaling_is_exact_at_both_ends_and_inverts():
    every = np.arange(256, dtype=np.uint8)
    scaled = scale_pixels(every)
    assert scaled.dtype == np.float32 and scaled[0] == -1 and scaled[255] == 1
    np.testing.assert_array_equal(pixels(scaled), every)
    assert every[1] == 1  # the argument is as it was


def cifar_archive(batches):
    """As the real one: per image a byte for the class, then the planes of red, green and blue."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, (images, classes) in batches.items():
            records = [
                bytes([c]) + image.transpose(2, 0, 1).tobytes() for image, c in zip(images, classes, strict=True)
            ]
            member = tarfile.TarInfo(name)
            member.size = sum(map(len, records))
            archive.addfile(member, io.BytesIO(b"".join(records)))
    return buffer.getvalue()


def cifar_batches(classes=range(3)):
    classes = list(classes)
    return {
        name: (RNG.integers(0, 256, (len(classes), 32, 32, 3), np.uint8), classes)
        for name in ("cifar-10-batches-bin/readme.html", *TRAIN, TEST)
    }


def test_cifar_10_is_read_from_its_binary_batches(server):
    batches = cifar_batches()
    data = cifar_10(serve_file(server, "cifar-10-binary.tar.gz", cifar_archive(batches)))
    assert data.name == "cifar-10" and data.classes == 10
    assert data.train_inputs.shape == (15, 32, 32, 3) and data.train_inputs.dtype == np.float32
    np.testing.assert_array_equal(pixels(data.train_inputs), np.concatenate([batches[name][0] for name in TRAIN]))
    np.testing.assert_array_equal(pixels(data.eval_inputs), batches[TEST][0])
    assert data.train_targets.tolist() == [0, 1, 2] * 5 and data.eval_targets.tolist() == [0, 1, 2]
    assert data.train_targets.dtype == data.eval_targets.dtype == np.int32
    with pytest.raises(ValueError, match="read-only"):
        data.train_inputs[0] = 0


@pytest.mark.parametrize(
    ("batches", "complaint"),
    [
        (cifar_batches([10]), "class 10"),
        ({k: v for k, v in cifar_batches().items() if k != TRAIN[2]}, r"no .*data_batch_3\.bin"),
    ],
)
def test_another_archive_is_refused(server, batches, complaint):
    with pytest.raises(ValueError, match=complaint):
        cifar_10(serve_file(server, "cifar-10-binary.tar.gz", cifar_archive(batches)))


def test_cifar_records_cut_short_are_refused(server):
    batches = cifar_batches()
    batches[TEST] = (batches[TEST][0][:, :31], batches[TEST][1])
    with pytest.raises(ValueError, match=r"bytes .*3073"):
        cifar_10(serve_file(server, "cifar-10-binary.tar.gz", cifar_archive(batches)))


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def test_fashion_mnist_is_read_from_its_four_files(server):
    arrays = {
        TRAIN_IMAGES: RNG.integers(0, 256, (6, 28, 28)),
        TRAIN_LABELS: np.array([9, 0, 0, 3, 0, 2]),
        IMAGES: RNG.integers(0, 256, (2, 28, 28)),
        LABELS: np.array([9, 2]),
    }
    data = fashion_mnist({name: serve_file(server, name, idx(array)) for name, array in arrays.items()})
    assert data.train_inputs.shape == (6, 32, 32, 1) and data.eval_inputs.shape == (2, 32, 32, 1)
    np.testing.assert_array_equal(pixels(data.train_inputs)[:, 2:-2, 2:-2, 0], arrays[TRAIN_IMAGES])
    np.testing.assert_array_equal(pixels(data.eval_inputs)[:, 2:-2, 2:-2, 0], arrays[IMAGES])
    assert data.train_targets.tolist() == [9, 0, 0, 3, 0, 2] and data.eval_targets.tolist() == [9, 2]
    assert set(SOURCES) == set(arrays)


def jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def tiny_archive(wnids, colours, size=64, **replaced):
    """Two training images per class and one to evaluate, each of one colour or, in two dimensions, of one grey."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("tiny-imagenet-200/wnids.txt", "".join(f"{wnid}\n" for wnid in wnids))
        for wnid, colour in zip(sorted(wnids), colours, strict=True):
            picture = jpeg(np.full((size, size, *np.shape(colour)), colour, np.uint8))
            for i in (10, 9):
                name = f"{wnid}_{i}.JPEG"
                archive.writestr(f"tiny-imagenet-200/train/{wnid}/images/{name}", replaced.get(f"{wnid}_{i}", picture))
            archive.writestr(f"tiny-imagenet-200/train/{wnid}/{wnid}_boxes.txt", f"{wnid}_9.JPEG\t0\t0\t62\t62\n")
            archive.writestr(f"tiny-imagenet-200/val/images/val_{wnid}.JPEG", picture)
        archive.writestr("tiny-imagenet-200/test/images/test_0.JPEG", b"never read")
        annotations = "".join(f"val_{wnid}.JPEG\t{wnid}\t0\t32\t44\t62\n" for wnid in wnids)
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", annotations)
    return buffer.getvalue()


CUT = jpeg(RNG.integers(0, 256, (64, 64), np.uint8))[:-1000]
WNIDS, COLOURS = ["n02", "n01", "n03"], [(200, 30, 40), (10, 220, 90), 128]  # of n01, n02 and n03


def test_tiny_imagenet_is_read_class_by_class_in_turn(server):
    data = tiny_imagenet(serve_file(server, "tiny-imagenet-200.zip", tiny_archive(WNIDS, COLOURS)))
    assert data.classes == 3 and data.train_inputs.shape == (6, 64, 64, 3) and data.train_inputs.dtype == np.float32
    assert data.train_targets.tolist() == [0, 1, 2, 0, 1, 2] and data.eval_targets.tolist() == [0, 1, 2]
    expected = np.array([COLOURS[1], COLOURS[0], (128, 128, 128)])
    for inputs in (data.train_inputs[:3], data.train_inputs[3:], data.eval_inputs):
        means = pixels(inputs).mean((1, 2))
        np.testing.assert_allclose(means, expected, atol=3)  # JPEG rounds


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (tiny_archive(WNIDS, COLOURS, n01_9=b"GIF89a"), r"n01_9\.JPEG.*JPEG"),
        (tiny_archive(WNIDS, COLOURS, n02_10=CUT), r"n02_10\.JPEG.*JPEG"),
        (tiny_archive(WNIDS, COLOURS, size=32), r"shape \(32, 32, 3\)"),
    ],
)
def test_a_tiny_imagenet_picture_that_is_none_is_named(server, archive, complaint):
    with pytest.raises(ValueError, match=complaint):
        tiny_imagenet(serve_file(server, "tiny-imagenet-200.zip", archive))
