"""Times an evaluation per image on this device, with an image or two through a network with random weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from study.inference import predict
from study.models.build import build, build_backbone, stride_of, untrained
from study.spec.training import Inference, Training
from study.training.count import image_counts
from study.training.speed_probe import SEED, random_labels, settled, shortest


def image_seconds(training: Training, asked: Inference, classes: int, image: np.ndarray, device: str) -> float:
    """Seconds to evaluate one image uint8 (H, W, 3) with its crops, scales and CRF. Measured on an image of the data,
    since the time of a CRF depends on the number of colours."""
    network, on = dataclasses.replace(training.network, options=untrained(training.network)), torch.device(device)
    with settled(device):
        model = build(training.variant, network, classes, SEED).to(on).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        backbone = build_backbone(network).to(on).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        whole = torch.nn.Sequential(backbone, model) if network.frozen else model
        labels, stride = random_labels(image.shape[:2], classes), stride_of(network)

        def evaluate() -> None:
            (found,) = predict.predict(whole, image[None], asked, stride, on)
            image_counts(labels, found, labels == 0, classes)

        return shortest(evaluate, device, 2)
