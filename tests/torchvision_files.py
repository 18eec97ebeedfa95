"""Small CIFAR, SVHN and Fashion-MNIST files in the authors' formats; the classes come as evenly as the sizes allow."""

import hashlib
import pickle

import numpy as np
import scipy.io
import torchvision.datasets as tv


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def images_and_labels(size, shape, num_classes, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(size, *shape), dtype=np.uint8)
    return images, rng.permutation(np.arange(size) % num_classes)


def write_cifar(root, monkeypatch, reader, key, num_classes, size=6):
    """Batches as the authors store them: rows of 3,072 bytes, red plane first; returns the images as NHWC."""
    folder = root / reader.base_folder
    folder.mkdir(parents=True)
    names = [name for name, _ in reader.train_list + reader.test_list]
    content = {}
    for seed, name in enumerate(names):
        images, labels = images_and_labels(size, (3, 32, 32), num_classes, seed)
        batch = {"data": images.reshape(size, 3072), key: labels.tolist(), "batch_label": name}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        content[name] = (images.transpose(0, 2, 3, 1), labels)
    meta = folder / reader.meta["filename"]
    meta.write_bytes(pickle.dumps({reader.meta["key"]: [f"class {label}" for label in range(num_classes)]}, protocol=2))
    for listed in ("train_list", "test_list"):
        sums = [[name, md5(folder / name)] for name, _ in getattr(reader, listed)]
        monkeypatch.setattr(reader, listed, sums)
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5(meta)})
    return content


def write_svhn(root, monkeypatch, size=12):
    content, sums = {}, {}
    for seed, part in enumerate(("train", "test")):
        images, labels = images_and_labels(size, (32, 32, 3), 10, seed)
        file = root / f"{part}_32x32.mat"
        # The authors store images last axis first and call the digit zero "10".
        stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": stored})
        content[part] = (images, labels)
        sums[part] = [tv.SVHN.split_list[part][0], file.name, md5(file)]
    monkeypatch.setattr(tv.SVHN, "split_list", {**tv.SVHN.split_list, **sums})
    return content


def idx_bytes(array):
    header = bytes((0, 0, 8, array.ndim)) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_fashion(root, size=9):
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    content = {}
    for seed, part in enumerate(("train", "t10k")):
        images, labels = images_and_labels(size, (28, 28), 10, seed)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        content[part] = (images[..., None], labels)
    return content
