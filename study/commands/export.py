"""`study export`: writes a trained network as an ONNX file and checks that its classes are equal."""

from __future__ import annotations

from pathlib import Path

from study.commands.predict import images_of
from study.spec.errors import InputError
from study.spec.words import counted


def main(model: Path, images: tuple[str, ...], to: Path | None) -> int:
    """Write the model to ``to`` (None: to the current folder). Raises InputError for a model that cannot be loaded or
    exported, for unreadable images, and if the file's classes differ."""
    found = images_of(images)
    to = to or Path(model.with_suffix(".onnx").name)  # not next to the model: DVC owns that folder
    if to.suffix != ".onnx":
        raise InputError(f"--to must be a file that ends in .onnx, got {to}; rename it")
    from study.inference import onnx_file
    from study.inference.exported import load
    from study.training.device import settle

    settle("cpu")
    network = load(model)
    if network.about["meaningless"]:
        print(f"note: {network.about['tier']} only shows that the pipeline works; its predictions mean nothing")
    ties = onnx_file.write(network, to, list(found.values()))
    height, width = network.size
    print(f"{to}: {network.about['label']}, {to.stat().st_size / 1e6:.1f} MB")
    print(f"input {onnx_file.PIXELS}: uint8 (1, {height}, {width}, 3), red, green and blue")
    print(
        f"output {onnx_file.SCORES}: float32 (1, {len(network.names)}, {height}, {width}), probabilities of "
        + ", ".join(network.names)
    )
    checked = ["random pixels", *([f"the upper left window of {counted(len(ties), 'image')}"] if ties else [])]
    note = f" ({counted(sum(ties), 'pixel')} with tied probabilities may differ)" if any(ties) else ""
    print(f"ONNX Runtime gives the same classes on {' and '.join(checked)}{note}")
    return 0
