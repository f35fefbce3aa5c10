"""Image files -> pixels: a picture as any viewer shows it (D106, D107), a mask as the numbers in its file (D108).

All other content raises a one-line error, so that no pixel changes silently.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageCms

from study.spec.constants import VOID
from study.spec.errors import InputError

# We limit memory ourselves: Pillow's own error names no file.
Image.MAX_IMAGE_PIXELS = None
MOST_PX = 180_000_000
LOSSLESS = {"PNG", "BMP", "GIF", "TIFF"}
LOSSY_TIFF = {"jpeg", "tiff_jpeg", "webp"}
COLOURED = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}  # modes whose pixels have a colour of 8 bits per channel
UNSIGNED = "I;32N"  # a raw mode of TIFFs, see _raw_mode
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # the TIFF tag for the meaning of numbers, and one of its values
SRGB_GAMMA = 1 / 2.2
TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what a viewer does for each value of the orientation tag

Size = tuple[int, int]
Colour = tuple[int, ...]
Read = TypeVar("Read")


class Labels(NamedTuple):
    """A mask's labels uint8 (H, W), and for a palette image the colour of each label in use (None: no colours)."""

    pixels: np.ndarray
    colours: dict[int, Colour] | None


def check_name(path: Path) -> None:
    """Raises InputError for a file whose name is not text: no list, report or table could hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"the name of a file must be text (UTF-8), got {os.fsencode(path)!r}; rename it") from None


def check_fits(size: Size, limit: Size, what: str | Path) -> None:
    """Raises InputError unless an image of ``size`` (height, width) fits into ``limit``, the ``pad`` of its data."""
    if any(side > most for side, most in zip(size, limit, strict=True)):
        raise InputError(f"{what} must fit into {limit}, got {size} (height, width); enlarge `pad` in params.yaml")


def check_labels(labels: np.ndarray, size: Size, classes: int, what: str) -> None:
    """Raises InputError unless a mask (H, W) has the ``size`` (height, width) of its image and holds only void and
    labels of ``classes`` classes."""
    if size != labels.shape:
        raise InputError(
            f"an image and its mask must have the same size, got {size} and {labels.shape} for {what} "
            "(height, width, as a viewer shows them: turned by their orientation tags); replace one of them"
        )
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    if wrong := [int(value) for value in values if value >= classes and value != VOID]:
        raise InputError(
            f"a mask must hold class labels 0 to {classes - 1} or void only, got {wrong[0]} in {what}; "
            "correct the mask or the class list"
        )


def smaller_size(size: Size, longest: int) -> Size:
    """The (height, width) of an image whose longest side is reduced to ``longest`` px; unchanged if it is not
    longer."""
    side = max(size)
    if side <= longest:
        return size
    return max(1, round(size[0] * longest / side)), max(1, round(size[1] * longest / side))


def smaller(pixels: np.ndarray, longest: int) -> np.ndarray:
    """Reduce an image uint8 (H, W, 3) or labels uint8 (H, W) to their smaller_size. Images are antialiased (bilinear
    over all that a new pixel covers); labels take the one in the middle of a new pixel."""
    size = smaller_size((pixels.shape[0], pixels.shape[1]), longest)
    if size == pixels.shape[:2]:
        return pixels
    how = Image.Resampling.NEAREST if pixels.ndim == 2 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))


def picture(path: Path, limit: Size | None = None, scale: Size | None = None) -> np.ndarray:
    """Pixels uint8 (H, W, 3) of a picture in sRGB, with its orientation tag applied.

    ``limit`` is the (height, width) that it must fit into. ``scale`` (low, high) are the values that become 0 and 255
    if a channel has more than 8 bits. Raises InputError for a file that is damaged, too large, animated, partly
    transparent, with another gamma, or deeper than 8 bits without a ``scale``.
    """
    try:
        with Image.open(path) as file:
            _check_frames(file, path)
            _check_bitmap(file, path)
            _check_size(file, path, limit)
            raw = _raw_mode(file)
            file.load()
            image = _turned(file)
            check_fits((image.height, image.width), limit or (MOST_PX, MOST_PX), path)
            if file.mode.startswith(("I", "F")) or ";16" in raw or scale is not None:
                if getattr(file, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
                    raise InputError(
                        f"a picture of more than 8 bits must have black below white, got white as 0 in {path}; invert "
                        "it, or save it with 8 bits"
                    )
                return _scaled(image, raw, scale, path)
            _check_gamma(file, path)
            return np.asarray(_opaque(_in_srgb(image, file.info.get("icc_profile")), path))
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise _unreadable(path, error) from error


def size_of(path: Path) -> Size:
    """The (height, width) of an image as a viewer shows it, from the header of its file. Raises InputError for a
    damaged file."""
    try:
        with Image.open(path) as file:
            told = file.format in ("JPEG", "MPO", "TIFF") or "exif" in file.info  # for others, getexif would decode it
            turned = told and file.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return (file.width, file.height) if turned else (file.height, file.width)
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise _unreadable(path, error) from error


def labels(path: Path, limit: Size | None = None) -> Labels:
    """The labels of a mask, with its orientation tag applied. Raises InputError for a file that is damaged, too large
    (see ``picture``) or animated, for a lossy format, and for anything but a palette or grey image of labels 0 to
    255."""

    def read(file: Image.Image, raw: str) -> Labels:
        found = _numbers(_turned(file), raw, path)
        return Labels(found, _colours(file, found))

    return _of_mask(path, limit, read)


def colours(path: Path, limit: Size | None = None) -> np.ndarray:
    """The colours uint8 (H, W, 3) of a mask as in its file or, if it has one, its palette, with its orientation tag
    applied. Raises InputError as ``labels`` does, and if a channel has more than 8 bits or a pixel is transparent."""

    def read(file: Image.Image, raw: str) -> np.ndarray:
        if file.mode not in COLOURED or ";16" in raw:
            raise InputError(
                f"a mask of colours must be red, green and blue of 8 bits, or have a palette, got {raw} in {path}; "
                "convert it to RGB"
            )
        return np.asarray(_opaque(_turned(file), path, "a mask of colours"))

    return _of_mask(path, limit, read)


def _of_mask(path: Path, limit: Size | None, read: Callable[[Image.Image, str], Read]) -> Read:
    """Open the file of a mask, check it, and return ``read(file, raw mode)``."""
    try:
        with Image.open(path) as file:
            if file.format not in LOSSLESS or file.info.get("compression") in LOSSY_TIFF:
                raise InputError(
                    f"a mask must be in a lossless format, PNG, BMP, GIF or TIFF (others change labels near edges), "
                    f"got {file.format} in {path}; export it again from its source, as PNG"
                )
            _check_frames(file, path)
            _check_bitmap(file, path)
            _check_size(file, path, limit)
            raw = _raw_mode(file)
            file.load()
            return read(file, raw)
    except InputError:
        raise
    except Exception as error:  # Pillow raises many kinds of errors for damaged files
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"an image must be whole, got {path} ({error}); fetch it again, or save it again")


def _check_frames(file: Image.Image, path: Path) -> None:
    """Raises InputError for several pictures, except in a phone's JPEG (MPO): there the others are previews, which
    viewers do not show."""
    frames = getattr(file, "n_frames", 1)
    if frames > 1 and file.format != "MPO":
        raise InputError(f"an image must hold one picture, got {frames} in {path}; save the one that you need")


def _check_bitmap(file: Image.Image, path: Path) -> None:
    """Raises InputError for a BMP that Pillow would misread: it takes one with a palette of greys for one of 1 or 8
    bits."""
    bits_taken = {"1": 1, "L": 8}.get(_raw_mode(file))
    if file.format != "BMP" or bits_taken is None:
        return
    with path.open("rb") as raw:
        head = raw.read(30)
    if (bits := head[24] if head[14] == 12 else head[28]) != bits_taken:
        raise InputError(
            f"a BMP with a palette of 2 greys must have 1 bit, with more greys 8 bits (others are misread), got "
            f"{bits} in {path}; save it as PNG"
        )


def _check_size(file: Image.Image, path: Path, limit: Size | None) -> None:
    """Raises InputError for an image that is too large. It is not decoded yet, so its tag may still swap the sides."""
    if file.width * file.height > MOST_PX:
        raise InputError(
            f"an image must have at most {MOST_PX:,} pixels (more would exhaust memory), got {file.width} x "
            f"{file.height} in {path}; cut it into tiles or make it smaller"
        )
    size = (file.height, file.width)
    if limit is not None and any(side > most for side, most in zip(sorted(size), sorted(limit), strict=True)):
        check_fits(size, limit, path)


def _raw_mode(file: Image.Image) -> str:
    """How the file stores pixels, such as ``L;2`` for grey of two bits, which Pillow stretches to 0..255."""
    tiles = getattr(file, "tile", ())
    args = tiles[0].args if tiles else None
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else file.mode


def _turned(file: Image.Image) -> Image.Image:
    try:
        orientation = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # viewers ignore unreadable metadata too
        orientation = None
    method = TURNED.get(orientation) if isinstance(orientation, int) else None
    return file if method is None else file.transpose(method)


def _check_gamma(file: Image.Image, path: Path) -> None:
    gamma = file.info.get("gamma")
    if gamma and "srgb" not in file.info and "icc_profile" not in file.info and abs(gamma - SRGB_GAMMA) > 0.02:
        raise InputError(
            f"a picture must have the gamma of sRGB ({SRGB_GAMMA:.3f}), got {gamma:.3f} in {path}; convert it to sRGB"
        )


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image with another colour profile to sRGB. Unusable profiles are ignored, as viewers do."""
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        alpha = image.getchannel("A") if "A" in image.getbands() else None
        plain = image.convert(image.mode.removesuffix("A")) if alpha else image
        found = ImageCms.profileToProfile(plain, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        assert found is not None
        if alpha:
            found.putalpha(alpha)
        return found
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _opaque(image: Image.Image, path: Path, what: str = "a picture") -> Image.Image:
    """The image as RGB. Raises InputError for transparent pixels, which viewers show differently."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if _least_alpha(image) < 255:
            raise InputError(
                f"{what} must be opaque (viewers show transparent pixels differently), got transparent pixels in "
                f"{path}; put it on a background"
            )
    return image.convert("RGB")


def _least_alpha(image: Image.Image) -> int:
    return int(np.asarray(image.getchannel("A")).min())


def _scaled(image: Image.Image, raw: str, scale: Size | None, path: Path) -> np.ndarray:
    """Grey of more than 8 bits as uint8 (H, W, 3): ``scale`` (low, high) becomes 0 and 255 (D107)."""
    if scale is None:
        raise InputError(
            f"a picture must have 8 bits per channel (with more, we cannot guess which value is white), got "
            f"{raw} in {path}; save it with 8 bits, or set `range: [low, high]` for grey in the data block of a folder"
        )
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        raise InputError(
            f"a picture must be grey with more than 8 bits if the data block has a `range`, got {raw} in {path}; "
            "drop `range`, or save all pictures in this way"
        )
    low, high = scale
    values = _deep(image, raw).astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"a picture must hold finite values, got others in {path}; replace them first")
    grey = np.rint((values - low).clip(0, high - low) * (255 / (high - low))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _numbers(image: Image.Image, raw: str, path: Path) -> np.ndarray:
    """The numbers in the file, uint8 (H, W), with Pillow's conversions undone."""
    kind, _, form = raw.partition(";")
    if image.mode == "LA" and raw == "LA" and _least_alpha(image) == 255:
        return np.asarray(image.getchannel("L"))
    if image.mode == "P":
        return np.asarray(image)
    if image.mode == "1" or (image.mode == "L" and kind in ("L", "LX")):
        bits = 1 if image.mode == "1" else int("".join(filter(str.isdigit, form)) or 8)
        most = 2**bits - 1
        found = np.asarray(image.convert("L")) // (255 // most)
        return most - found if "I" in form else found  # white is 0 in the file
    if image.mode == "I" or image.mode.startswith("I;16"):
        return as_labels(_deep(image, raw), path)
    raise InputError(f"a mask must be a palette or grey image, got mode {image.mode} in {path}; convert it")


def _deep(image: Image.Image, raw: str) -> np.ndarray:
    """Grey of more than 8 bits as the numbers in the file: Pillow has no mode for unsigned 32 bits."""
    values = np.asarray(image)
    return values.view(np.uint32) if raw == UNSIGNED else values


def as_labels(values: np.ndarray, path: Path) -> np.ndarray:
    """Numbers of any type as labels uint8. Raises InputError for a number that is not a label."""
    wrong = ~((values >= 0) & (values <= 255) & (values == np.floor(values)))
    if wrong.any():
        raise InputError(f"a mask must hold labels 0 to 255, got {values[wrong][0]} in {path}; correct the mask")
    return values.astype(np.uint8)


def _colours(file: Image.Image, found: np.ndarray) -> dict[int, Colour] | None:
    if file.format == "BMP" and file.mode == "1":
        palette = [0, 0, 0, 255, 255, 255]  # Pillow replaces this palette by mode 1
    elif file.mode == "P":
        palette = file.getpalette("RGB") or []
    else:
        return None
    used = np.flatnonzero(np.bincount(found.ravel(), minlength=256))
    return {int(label): tuple(palette[3 * label : 3 * label + 3]) for label in used}


def voc_palette() -> np.ndarray:
    """VOC's colours, uint8 (256, 3): the bits of a class, lowest first, go in turn to the highest free bit of red,
    green and blue."""
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        colours[:, bit % 3] |= ((np.arange(256) >> bit & 1) << 7 - bit // 3).astype(np.uint8)
    return colours
