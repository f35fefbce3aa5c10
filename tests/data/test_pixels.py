"""A picture is read as any viewer shows it, a mask as the numbers in its file; what cannot be so is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from study.data import pixels
from study.spec.errors import InputError

SIDES = (6, 9)
PICTURE = np.random.default_rng(0).integers(0, 256, (*SIDES, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 4, SIDES, np.uint8)


def grey_png(path: Path, values: np.ndarray, bits: int) -> Path:
    """A grey PNG of any bit depth, which Pillow does not write below 8 bits."""
    rows = []
    for row in values:
        packed = "".join(f"{int(value):0{bits}b}" for value in row)
        packed += "0" * (-len(packed) % 8)
        rows.append(b"\0" + int(packed, 2).to_bytes(len(packed) // 8, "big"))

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )
    return path


def palette(labels: np.ndarray, colours: list[int]) -> Image.Image:
    image = Image.fromarray(labels)
    image.putpalette(colours)
    return image


# pictures


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_a_picture(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a{suffix}"
    options: dict[str, Any] = {".webp": {"lossless": True, "exact": True}}.get(suffix, {})
    Image.fromarray(PICTURE).save(path, exif=exif, **options)
    found = pixels.picture(path)
    with Image.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file))
    assert np.array_equal(found, expected)
    assert found.shape[:2] == (SIDES if orientation < 5 else SIDES[::-1])
    if suffix != ".jpg":
        by_hand = {
            1: PICTURE,
            3: PICTURE[::-1, ::-1],
            6: PICTURE[::-1].swapaxes(0, 1),
            8: PICTURE[:, ::-1].swapaxes(0, 1),
        }
        assert orientation not in by_hand or np.array_equal(found, by_hand[orientation])


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_mask_is_turned_by_its_own_tag(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(LABELS).save(tmp_path / "a.png", exif=exif)
    by_hand = {3: LABELS[::-1, ::-1], 6: LABELS[::-1].swapaxes(0, 1)}
    assert np.array_equal(pixels.labels(tmp_path / "a.png").pixels, by_hand[orientation])


def test_metadata_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\xff\xff nonsense", icc_profile=b"none")
    assert np.array_equal(pixels.picture(tmp_path / "a.png"), PICTURE)


def test_colours_of_another_profile_become_those_of_srgb(tmp_path: Path) -> None:
    """In a profile of linear light the grey 55 is as bright as 128 of sRGB; sRGB's own profile changes nothing."""
    linear = _linear_profile()
    grey = np.full((2, 2, 3), 55, np.uint8)
    Image.fromarray(grey).save(tmp_path / "linear.png", icc_profile=linear)
    assert abs(pixels.picture(tmp_path / "linear.png").astype(int) - 128).max() <= 2
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PICTURE).save(tmp_path / "srgb.png", icc_profile=srgb)
    assert np.array_equal(pixels.picture(tmp_path / "srgb.png"), PICTURE)


def _linear_profile() -> bytes:
    """sRGB's profile with the tone curves replaced by straight lines."""
    content = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", content, 128)
    for number in range(count):
        name, at, size = struct.unpack_from(">4sII", content, 132 + 12 * number)
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            content[at : at + 12] = b"curv" + bytes(8)  # a curve of no points is the identity
        if name == b"desc":
            content[at : at + size] = content[at : at + size].replace(
                "sRGB".encode("utf-16-be"), "line".encode("utf-16-be")
            )
    return bytes(content)


def test_only_the_named_range_scales_deep_pictures(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 3000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert pixels.picture(tmp_path / "a.png", scale=(1000, 3000))[0, :, 0].tolist() == [0, 0, 255, 255]
    assert pixels.picture(tmp_path / "a.png", scale=(0, 65535))[0, :, 2].tolist() == [0, 4, 12, 255]
    Image.fromarray(values).save(tmp_path / "a.tif")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("a.tif", "float.tif"):
        assert pixels.picture(tmp_path / name, scale=(0, 2000))[0, :, 1].tolist() == [0, 128, 255, 255]
    Image.fromarray(PICTURE).save(tmp_path / "eight.png")
    refused(
        lambda: pixels.picture(tmp_path / "eight.png", scale=(0, 4095)), "grey with more than 8 bits", "RGB", "drop"
    )


@pytest.mark.parametrize("mode", ["grey", "float", "rgb"])
def test_deep_pictures_are_refused_without_a_range(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "float" else "a.png")
    if mode == "rgb":
        rows = b"".join(b"\0" + struct.pack(">12H", *range(0, 60000, 5000)) for _ in range(2))
        grey_png(path, np.zeros((2, 4)), 8)
        content = bytearray(path.read_bytes())
        head = struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)
        content[8:33] = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
        data = zlib.compress(rows)
        tail = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
        path.write_bytes(bytes(content[:33]) + tail + bytes(content[-12:]))
    else:
        Image.fromarray(np.ones((2, 2), np.float32 if mode == "float" else np.uint16)).save(path)
    refused(lambda: pixels.picture(path), "8 bits per channel", path.name, "range: [low, high]")


def _transparent(path: Path) -> None:
    Image.fromarray(np.dstack([PICTURE, np.arange(54, dtype=np.uint8).reshape(SIDES)])).save(path)


def _transparent_colour(path: Path) -> None:
    palette(LABELS, [0, 0, 0] * 4).save(path, transparency=1)


def _animated(path: Path) -> None:
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1])]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _gamma(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", struct.pack(">I", 100_000))
    Image.fromarray(PICTURE).save(path, pnginfo=info)


def _long_text(path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(PICTURE).save(path, pnginfo=info)


def _cut(path: Path) -> None:
    Image.fromarray(PICTURE).save(path)
    path.write_bytes(path.read_bytes()[:-40])


def _huge(path: Path) -> None:
    grey_png(path, np.zeros((1, 8)), 1)
    content = bytearray(path.read_bytes())
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    content[8:33] = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("make", "rule", "got", "remedy"),
    [
        (_transparent, "must be opaque", "transparent pixels", "background"),
        (_transparent_colour, "must be opaque", "transparent pixels", "background"),
        (_animated, "must hold one picture", "2", "save the one"),
        (_gamma, "gamma of sRGB", "1.000", "convert it"),
        (_long_text, "must be whole", "a.png", "save it again"),
        (_cut, "must be whole", "a.png", "fetch it again"),
        (_huge, "at most 180,000,000 pixels", "20000 x 20000", "tiles"),
    ],
)
def test_ambiguous_or_unreadable_pictures_are_refused(
    tmp_path: Path, make: Callable[[Path], None], rule: str, got: str, remedy: str
) -> None:
    make(tmp_path / "a.png")
    refused(lambda: pixels.picture(tmp_path / "a.png"), rule, got, remedy)


def test_an_opaque_alpha_channel_is_accepted(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(pixels.picture(tmp_path / "a.png"), PICTURE)


def test_previews_in_a_phone_jpeg_are_ignored(tmp_path: Path) -> None:
    first, preview = Image.fromarray(PICTURE), Image.fromarray(PICTURE[:2])
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    first.save(tmp_path / "b.jpg")
    assert np.array_equal(pixels.picture(tmp_path / "a.jpg"), pixels.picture(tmp_path / "b.jpg"))


@pytest.mark.parametrize("read", [pixels.picture, pixels.labels])
def test_oversized_files_are_reported_before_decoding(tmp_path: Path, read: Callable[..., Any]) -> None:
    grey_png(tmp_path / "a.png", np.zeros((40, 50)), 8)
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[:60])  # its pixels are missing: to decode it would be another error
    refused(lambda: read(tmp_path / "a.png", (30, 64)), "a.png must fit into (30, 64)", "(40, 50)", "enlarge `pad`")


def test_a_turned_picture_must_fit_as_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    assert pixels.picture(tmp_path / "a.png", SIDES[::-1]).shape == (9, 6, 3)
    refused(lambda: pixels.picture(tmp_path / "a.png", SIDES), "must fit into (6, 9)", "(9, 6)", "enlarge")


# masks


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png_values_of_any_depth_are_labels(tmp_path: Path, bits: int) -> None:
    labels = np.random.default_rng(bits).integers(0, 2 ** min(bits, 8), SIDES)
    found = pixels.labels(grey_png(tmp_path / "a.png", labels, bits))
    assert found.pixels.dtype == np.uint8 and found.pixels.tolist() == labels.tolist() and found.colours is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_indices_of_any_depth_are_labels(tmp_path: Path, bits: int) -> None:
    labels = np.random.default_rng(bits).integers(0, 2**bits, SIDES, np.uint8)
    colours = np.random.default_rng(9).integers(0, 256, 3 * 2**bits).tolist()
    for suffix in ("png", "gif", "bmp", "tif"):
        options = {"bits": bits} if suffix == "png" else {}
        palette(labels, colours).save(tmp_path / f"a.{suffix}", **options)
        found = pixels.labels(tmp_path / f"a.{suffix}")
        if suffix == "gif":  # Pillow writes its palette in another order
            assert found.colours is not None
            continue
        assert found.pixels.tolist() == labels.tolist()
        used = np.unique(labels).tolist()
        assert found.colours == {label: tuple(colours[3 * label : 3 * label + 3]) for label in used}


def test_labels_are_the_numbers_in_other_grey_files(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS)
    image.save(tmp_path / "a.bmp")
    image.save(tmp_path / "a.tif", compression="tiff_lzw")
    Image.merge("LA", [image, Image.new("L", image.size, 255)]).save(tmp_path / "la.png")
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "deep.tif")
    Image.fromarray(LABELS > 1).save(tmp_path / "one.tif")
    for name in ("a.bmp", "a.tif", "la.png", "deep.tif"):
        assert np.array_equal(pixels.labels(tmp_path / name).pixels, LABELS), name
    assert np.array_equal(pixels.labels(tmp_path / "one.tif").pixels, LABELS > 1)


def test_white_may_be_zero_in_a_tiff(tmp_path: Path) -> None:
    """Which says how a viewer shows the numbers, not what they are. Pillow turns them when it writes and reads."""
    Image.fromarray(LABELS).save(tmp_path / "a.tif", tiffinfo={262: 0})
    content = (tmp_path / "a.tif").read_bytes()
    assert (255 - LABELS).tobytes() in content and LABELS.tobytes() not in content
    assert np.array_equal(pixels.labels(tmp_path / "a.tif").pixels, 255 - LABELS)


def bitmap(path: Path, bits: int, greys: list[int], row: bytes) -> Path:
    """A BMP of one row of four pixels, with a palette of greys."""
    colours = b"".join(bytes([grey, grey, grey, 0]) for grey in greys)
    at = 54 + len(colours)
    head = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", at + 4, 0, 0, at, 40, 4, 1, 1, bits, 0, 4, 0, 0, len(greys), 0)
    path.write_bytes(head + colours + row)
    return path


def test_grey_bitmaps_that_pillow_misreads_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    for bits, greys, row in ((1, [0, 255], b"\x50\0\0\0"), (8, [0, 1, 2], b"\0\1\0\1")):
        assert pixels.labels(bitmap(path, bits, greys, row)).pixels.tolist() == [[0, 1, 0, 1]]
    for bits, greys in ((8, [0, 255]), (4, list(range(16)))):
        bitmap(path, bits, greys, b"\0\1\0\1")
        for read in (pixels.labels, pixels.picture):
            refused(lambda read=read: read(path), "palette of 2 greys", f"{bits} in ", "save it as PNG")


def test_the_order_of_black_and_white_is_kept(tmp_path: Path) -> None:
    black_first, white_first = (
        pixels.labels(bitmap(tmp_path / "a.bmp", 1, greys, b"\x50\0\0\0")) for greys in ([0, 255], [255, 0])
    )
    assert black_first.colours == {0: (0, 0, 0), 1: (255, 255, 255)}
    assert white_first.colours == {0: (255, 255, 255), 1: (0, 0, 0)}


def deep_tiff(path: Path, values: np.ndarray, photometric: int = 1) -> Path:
    """A TIFF of one strip of whole numbers without a sign, which Pillow does not write at 32 bits."""
    tags = {256: values.shape[1], 257: values.shape[0], 258: 8 * values.itemsize, 259: 1, 262: photometric}
    tags |= {273: 8 + 2 + 12 * 8 + 4, 278: values.shape[0], 279: values.nbytes}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + values.tobytes())
    return path


def test_unsigned_32_bit_tiffs_are_read_unsigned(tmp_path: Path) -> None:
    deep_tiff(tmp_path / "a.tif", np.array([[0, 1, 2, 2**32 - 1]], np.uint32))
    assert pixels.picture(tmp_path / "a.tif", scale=(0, 2))[0, :, 0].tolist() == [0, 128, 255, 255]
    refused(lambda: pixels.labels(tmp_path / "a.tif"), "labels 0 to 255", "4294967295", "correct the mask")


def test_a_deep_picture_with_inverted_greys_is_refused(tmp_path: Path) -> None:
    deep_tiff(tmp_path / "a.tif", np.array([[0, 1, 2, 3]], np.uint16), photometric=0)
    refused(lambda: pixels.picture(tmp_path / "a.tif", scale=(0, 3)), "black below white", "white as 0", "invert it")
    assert pixels.labels(tmp_path / "a.tif").pixels.tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("suffix", "options"), [("jpg", {"quality": 100}), ("webp", {"lossless": True}), ("tif", {"compression": "jpeg"})]
)
def test_a_mask_in_a_lossy_format_is_refused(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    Image.fromarray(LABELS).save(tmp_path / f"a.{suffix}", **options)
    refused(lambda: pixels.labels(tmp_path / f"a.{suffix}"), "lossless format", f"a.{suffix}", "as PNG")


def test_rgb_masks_and_labels_above_255_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS)
    Image.fromarray(PICTURE).save(tmp_path / "rgb.png")
    Image.merge("LA", [image, image]).save(tmp_path / "la.png")
    refused(lambda: pixels.labels(tmp_path / "rgb.png"), "palette or grey", "mode RGB", "convert it")
    refused(lambda: pixels.labels(tmp_path / "la.png"), "palette or grey", "mode LA", "convert it")
    grey_png(tmp_path / "deep.png", np.array([[3, 300]]), 16)
    refused(lambda: pixels.labels(tmp_path / "deep.png"), "labels 0 to 255", "300", "correct the mask")


def refused(action: Callable[[], Any], rule: str, got: str, remedy: str) -> None:
    with pytest.raises(InputError) as told:
        action()
    before, after = str(told.value).split("got ", 1)
    assert rule in before + after and got in after and remedy in after, str(told.value)
