"""Batches for training, with labels: images, randomly flipped and cropped, or cached features of a frozen backbone."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import nn

from study.data import originals
from study.data.originals import Original
from study.data.pixels import smaller_size
from study.data.prepare import (
    DataSet,
    band_name,
    folder_of,
    intact,
    open_data,
    originals_name,
    padded,
    training_size,
)
from study.models.backbones import Backbone
from study.models.build import Inputs, build_backbone
from study.seeds import batch_indices, generator
from study.spec.digest import digest
from study.spec.documents.data import Facts
from study.spec.training import Network, Training
from study.store.code_digest import code_digest, entry
from study.store.keys import FEATURE_CODE
from study.store.runs import allocate, file_digest, weights_digest, write_json
from study.training.loop import Batch, labelled
from study.training.memory import keep_freed_memory

EVALUATION_BATCH = 16  # most images of a batch
EVALUATION_PX = EVALUATION_BATCH * 512 * 512  # most pixels, but at least one image: a street scene has two million
FEATURE_BATCH = 4  # larger batches do not fit into the processor's caches


Raw = dict[
    str, torch.Tensor
]  # as read: images uint8 (N, H, W, 3) under IMAGES, or features float16 (N, h, w, C) by level
IMAGES = "images"


class Source:
    """The data of one training. Random draws depend only on (seed, step), so all variants of a seed share them."""

    def __init__(
        self,
        training: Training,
        classes: int,
        device: torch.device,
        *,
        folder: Path,
        features: Path | None,
        band: dict[str, str],
        moments: dict[str, np.ndarray] | None = None,
        stream: Callable[[], DataSet] | None = None,
        longest: int | None = None,
    ) -> None:
        """``folder`` and ``features`` hold cached arrays. ``band`` names the file of a split's boundary band or, if
        images are reduced to ``longest`` px, the file of its labels and bands at the size of their files.

        ``moments`` {level: (2, C)} are the mean and the scale by which features are standardised (D32). ``stream``
        opens the data set from which training images are read if they are not cached (D56); an evaluation reads none.
        """
        self.training, self.classes, self.device = training, classes, device
        self.folder, self.features, self.band, self.longest = folder, features, band, longest
        self._open = stream
        self._stream: DataSet | None = None
        self._arrays: dict[str, np.ndarray] = {}
        self._moments = {level: torch.from_numpy(pair).to(device) for level, pair in (moments or {}).items()}

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files again, and only the calling process uses the device."""
        return self.__dict__ | {"_arrays": {}, "_moments": {}, "device": None}

    def array(self, name: str, folder: Path | None = None) -> np.ndarray:
        """A cached array, mapped into memory once."""
        if name not in self._arrays:
            self._arrays[name] = np.load((folder or self.folder) / name, mmap_mode="r")
        return self._arrays[name]

    def _training_images(self, indices: list[int]) -> tuple[np.ndarray | None, np.ndarray]:
        """Images (N, H, W, 3), None if features replace them, and labels of training images."""
        if self._open is not None:
            self._stream = stream = self._stream or self._open()
            size = training_size(stream)
            images, labels = zip(*(padded(*stream.read("train", i), size) for i in indices), strict=True)
            return np.stack(images), np.stack(labels)
        labels = self.array("train-labels.npy")[indices]
        return (self.array("train-images.npy")[indices] if self.features is None else None), labels

    def _features(self, split: str, indices: list[int], flips: np.ndarray) -> Raw:
        found = {}
        for level in self.training.network.levels:
            maps = self.array(f"{split}-{level}.npy", self.features)[indices]
            if flips.any():
                maps[flips] = self.array(f"{split}-{level}-flipped.npy", self.features)[np.array(indices)[flips]]
            found[level] = torch.from_numpy(maps)
        return found

    def raw_batch(self, step: int) -> tuple[Raw, torch.Tensor]:
        """The batch of a training step, drawn, flipped and cropped, in the memory of the calling process; it depends
        only on the step. Labels are (N, H / s, W / s), where s is the network's output stride, or (N,) for classes of
        images."""
        recipe, seed = self.training.recipe, self.training.seed
        indices = batch_indices(len(self.array("train-names.npy")), recipe.batch, seed, step)
        flips = (generator(seed, "flip", step).random(recipe.batch) < 0.5) & recipe.flip
        images, labels = self._training_images(indices)
        corners = None
        if recipe.crop is not None and images is not None:
            room = np.subtract(images.shape[1:3], recipe.crop)
            corners = generator(seed, "crop", step).integers(0, room + 1, (recipe.batch, 2))
        if labels.ndim > 1:
            labels = _cropped(labels, recipe.crop, corners)
            labels[flips] = labels[flips, :, ::-1]
            stride = self.training.network.output_stride
            labels = np.ascontiguousarray(labels[:, stride // 2 :: stride, stride // 2 :: stride])
        if images is None:
            return self._features("train", indices, flips), torch.from_numpy(labels)
        images = _cropped(images, recipe.crop, corners)
        images[flips] = images[flips, :, ::-1]
        return {IMAGES: torch.from_numpy(images)}, torch.from_numpy(labels)

    def inputs(self, raw: Raw) -> Inputs:
        """The network's input on the device: images float32 (N, 3, H, W) in 0..255, or standardised features."""
        if IMAGES in raw:
            tensor = raw[IMAGES].to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(torch.float32)
            return tensor.contiguous(memory_format=torch.channels_last)
        found = {}
        for level, maps in raw.items():
            mean, scale = self._moments[level]
            tensor = maps.to(self.device, torch.float32, non_blocking=True).sub_(mean).mul_(scale)
            found[level] = tensor.permute(0, 3, 1, 2)  # in memory: channels last
        return found

    def finish(self, raw: Raw, labels: torch.Tensor) -> Batch:
        """The batch on the device, as the training loop takes it."""
        return Batch(self.inputs(raw), labels.to(self.device, non_blocking=True), labelled(labels))

    def training_batch(self, step: int) -> Batch:
        """Inputs and labels of a training step."""
        return self.finish(*self.raw_batch(step))

    def _evaluated(self, split: str, indices: list[int]) -> Inputs:
        if self.features is None:
            return self.inputs({IMAGES: torch.from_numpy(self.array(f"{split}-images.npy")[indices])})
        return self.inputs(self._features(split, indices, np.zeros(len(indices), bool)))

    def examples(self, split: str, limit: int | None = None) -> Iterator[tuple[Inputs, np.ndarray, np.ndarray]]:
        """Inputs, labels (N, H, W) and boundary band (N, H, W) of a split in order. The band is empty on ``train``, and
        if images are made smaller (see ``original``). In a classification set, labels and the empty band are (N,)."""
        labels = self.array(f"{split}-labels.npy")
        has_band = split in self.band and labels.ndim > 1 and self.longest is None
        band = self.array(self.band[split]) if has_band else None
        number = len(labels) if limit is None else min(limit, len(labels))
        batch = EVALUATION_BATCH
        if labels.ndim > 1:
            batch = max(1, min(batch, EVALUATION_PX // (labels.shape[1] * labels.shape[2])))
        for start in range(0, number, batch):
            indices = list(range(start, min(start + batch, number)))
            near = np.zeros(labels[indices].shape, bool) if band is None else band[indices]
            yield self._evaluated(split, indices), labels[indices], near

    def original(self, split: str, index: int) -> Original:
        """The full-size labels and band by which an image of tune or val is scored if images are made smaller."""
        assert self.longest is not None
        labels, band = originals.read(self.folder / self.band[split], index)
        return Original(labels, band, smaller_size((labels.shape[0], labels.shape[1]), self.longest))

    def sample(self, index: int) -> tuple[Inputs, np.ndarray, np.ndarray, str]:
        """Inputs of one val image, the image (H, W, 3), its labels (H, W), or () in a classification set, and its
        name."""
        image, labels, name = (self.array(f"val-{what}.npy")[index] for what in ("images", "labels", "names"))
        return self._evaluated("val", [index]), image, labels, str(name)


def _cropped(maps: np.ndarray, crop: tuple[int, int] | None, corners: np.ndarray | None) -> np.ndarray:
    """maps (N, H, W, ...) cut at ``corners`` (N, 2) to ``crop`` (height, width); unchanged if there are none."""
    if crop is None or corners is None:
        return maps
    return np.stack([one[y : y + crop[0], x : x + crop[1]] for one, (y, x) in zip(maps, corners, strict=True)])


def open_source(
    training: Training,
    facts: Facts,
    cache: Path,
    device: torch.device,
    *,
    origin: Facts | None = None,
    root: Path | None = None,
) -> Source:
    """The source of a training whose data (and features, for a frozen backbone) are cached.

    ``origin`` are the facts of the first of several stages (None: the data's own), whose training split standardises
    the features: weights that are handed on must see the features that they were trained on. ``root`` is the data set's
    folder, needed for training if its images are streamed.
    """
    features, moments, stream = None, None, None
    if training.network.frozen:
        features = features_folder(training.network, facts, cache, training.recipe.flip)
        moments = moments_of(training, origin or facts, cache)
    longest = facts.get("longest")
    named = band_name if longest is None else originals_name
    band = {split: named(split, training.band_px) for split in ("tune", "val")}
    folder = folder_of(cache, facts["fingerprint"], facts["streamed"])
    if facts["streamed"]:
        stream = functools.partial(open_data, training.data, root, cache)
    return Source(
        training,
        len(facts["classes"]),
        device,
        folder=folder,
        features=features,
        band=band,
        moments=moments,
        stream=stream,
        longest=longest,
    )


def moments_of(training: Training, facts: Facts, cache: Path) -> dict[str, np.ndarray]:
    """{level: (2, C)}: mean and scale of a frozen backbone's cached features over a training split (D32)."""
    folder = features_folder(training.network, facts, cache, training.recipe.flip)
    return {level: np.load(folder / f"moments-{level}.npy") for level in training.network.levels}


class WholeNetwork(nn.Module):
    """images (N, 3, H, W) in 0..255 -> scores, for networks of both kinds: if the training used cached features, its
    backbone runs first and its features are standardised as in training."""

    def __init__(
        self, model: nn.Module, backbone: nn.Module | None, moments: dict[str, torch.Tensor], rounded: bool = False
    ) -> None:
        """``moments`` {level: (2, C)} are the mean and the scale of a frozen backbone's features. ``rounded`` rounds
        the features to float16, as in the cache (D31)."""
        super().__init__()
        self.model, self.backbone, self.rounded = model, backbone, rounded
        self.moments = {level: pair[:, None, :, None, None] for level, pair in moments.items()}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.backbone is None:
            return self.model(images)
        maps = self.backbone(images)
        if self.rounded:
            maps = {level: found.half().float() for level, found in maps.items()}
        standard = {n: (maps[n] - m.to(images.device)) * s.to(images.device) for n, (m, s) in self.moments.items()}
        return self.model(standard)


class FromImages(WholeNetwork):
    """The whole network of a training whose data are cached."""

    def __init__(self, model: nn.Module, training: Training, facts: Facts, cache: Path) -> None:
        """``facts`` are those of the data whose training split standardised the features."""
        backbone, moments = None, {}
        if training.network.frozen:
            backbone = frozen_backbone(training.network)
            moments = {n: torch.from_numpy(pair) for n, pair in moments_of(training, facts, cache).items()}
        super().__init__(model, backbone, moments)


def frozen_backbone(network: Network) -> Backbone:
    """The backbone whose features a training uses. It is the same wherever it is built, even if its weights are random
    because no file gives them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_backbone(network)


def features_of(backbone: nn.Module, images: np.ndarray, mirrored: bool) -> dict[str, torch.Tensor]:
    """Images uint8 (N, H, W, 3), mirrored or not -> the backbone's {level: features}."""
    batch = torch.from_numpy(np.array(images[:, :, ::-1] if mirrored else images))
    with torch.inference_mode():
        return backbone(batch.permute(0, 3, 1, 2).float())


def channel_moments(maps: np.ndarray) -> np.ndarray:
    """maps (N, H, W, C) -> (2, C) float32: the mean of each channel and the scale that gives it variance 1 (D32)."""
    parts = [maps[start : start + 64] for start in range(0, len(maps), 64)]
    number = maps.size / maps.shape[-1]
    mean = sum(np.sum(part, (0, 1, 2), np.float64) for part in parts) / number
    square = sum(np.sum(np.square(part, dtype=np.float32), (0, 1, 2), np.float64) for part in parts) / number
    return np.stack([mean, 1 / np.sqrt(np.maximum(square - mean**2, 1e-6))]).astype(np.float32)


def features_folder(network: Network, facts: Facts, cache: Path, flip: bool) -> Path:
    """The folder of a frozen backbone's features, named by the data, the backbone's code and weights, and torch."""
    backbone = entry("study.models.backbones", "BACKBONES", network.backbone)
    reached = code_digest(backbone, *FEATURE_CODE)
    built = [network.backbone, network.options, weights_digest(network), reached, torch.__version__]
    return cache / f"features-{digest([*built, network.levels, facts['fingerprint'], flip])[:16]}"


def cache_features(
    network: Network,
    facts: Facts,
    cache: Path,
    flip: bool,
    tick: Callable[[int, int], None] = lambda done, all_: None,
) -> None:
    """Run a frozen backbone once over every image (and its mirror image) and cache its maps, float16 (N, h, w, C),
    channels last as convolutions need them (D31)."""
    folder, images_folder = features_folder(network, facts, cache, flip), folder_of(cache, facts["fingerprint"])
    with FileLock(
        cache.with_name(f"{cache.name}.lock")
    ):  # two drivers that share the store must not compute the same features at once
        if intact(folder):
            return
        keep_freed_memory()
        backbone = frozen_backbone(network).eval().to(memory_format=torch.channels_last)
        temporary = cache / f"features-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        passes = [(split, False) for split in facts["splits"]] + [("train", True)] * flip
        done, every = 0, sum(facts["splits"][split] for split, _ in passes)
        for split, mirrored in passes:
            images = np.load(images_folder / f"{split}-images.npy", mmap_mode="r")
            files: dict[str, np.ndarray] = {}
            for start in range(0, len(images), FEATURE_BATCH):
                batch = images[start : start + FEATURE_BATCH]
                maps = features_of(backbone, batch, mirrored)
                for level in network.levels:
                    found = maps[level].permute(0, 2, 3, 1).numpy()
                    if level not in files:
                        path = temporary / f"{split}-{level}{'-flipped' if mirrored else ''}.npy"
                        shape = (len(images), *found.shape[1:])
                        files[level] = allocate(path, np.float16, shape)
                    files[level][start : start + len(batch)] = found
                done += len(batch)
                tick(done, every)
        for level in network.levels:
            moments = channel_moments(np.load(temporary / f"train-{level}.npy", mmap_mode="r"))
            np.save(temporary / f"moments-{level}.npy", moments)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)
        write_json(folder / "meta.json", {"files": {p.name: file_digest(p) for p in sorted(folder.glob("*.npy"))}})
