"""Each kind of image file, against Pillow."""

import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from datamodules.decoding import BrokenImageError, decode_image, find_broken, fit_to_square, quiet_torchvision
from tests.datamodules.damaged_files import decode_damaged, decode_every_flip, in_a_process, write_interlaced_png
from tests.datamodules.image_files import png_chunk, smooth_pixels, write_image, write_sixteen_bit_png

ROTATED = 6  # EXIF: the camera was held upright


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet_torchvision()


def decoded(path: Path, channels: int = 3) -> np.ndarray:
    image = decode_image(path, channels)
    assert image.dtype == torch.uint8 and image.shape[0] == channels
    return image.permute(1, 2, 0).numpy()


def with_pillow(path: Path) -> np.ndarray:
    """The picture as Pillow sees it upright, over white."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    page = Image.new("RGBA", upright.size, "white")
    return np.asarray(Image.alpha_composite(page, upright).convert("RGB"))


def edit_png(path: Path, edit: Callable[[bytes], bytes]) -> Path:
    """Change the content of a file."""
    path.write_bytes(edit(path.read_bytes()))
    return path


def assert_close(got: np.ndarray, expected: np.ndarray, levels: int) -> None:
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= levels


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.ppm", "a.tif", "a.gif"])
def test_coloured_images_of_every_format_are_those_of_pillow(name: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / name)
    assert_close(decoded(path), with_pillow(path), levels=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_are_those_of_pillow(name: str, channels: int, tmp_path: Path) -> None:
    path = write_image(tmp_path / name, smooth_pixels()[:, :, 0])
    assert_close(decoded(path, channels), with_pillow(path)[:, :, :channels], levels=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp"])
def test_coloured_images_become_grey_as_pillow_does_it(name: str, tmp_path: Path) -> None:
    path = write_image(tmp_path / name)
    expected = np.asarray(Image.open(path).convert("L"))[:, :, None]
    assert_close(decoded(path, channels=1), expected, levels=0 if name != "a.jpg" else 2)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparent_pixels_are_laid_over_white(name: str, tmp_path: Path) -> None:
    alpha = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    path = write_image(tmp_path / name, np.dstack([smooth_pixels(), alpha]), **options)
    assert_close(decoded(path), with_pillow(path), levels=1)
    assert (decoded(path)[:, 0] == 255).all() and (decoded(path)[:, -1] == smooth_pixels()[:, -1]).all()


def test_a_grey_image_with_transparency_is_laid_over_white(tmp_path: Path) -> None:
    grey = Image.fromarray(smooth_pixels()[:, :, 0]).convert("LA")
    grey.putalpha(Image.fromarray(smooth_pixels(seed=1)[:, :, 0]))
    grey.save(tmp_path / "a.png")
    assert_close(decoded(tmp_path / "a.png"), with_pillow(tmp_path / "a.png"), levels=1)


@pytest.mark.parametrize("options", [{}, {"transparency": 0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_palette_gives_its_colours(options: dict[str, int], channels: int, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(smooth_pixels()).quantize(8).save(path, **options)
    expected = with_pillow(path)
    if channels == 1:
        expected = np.asarray(Image.fromarray(expected).convert("L"))[:, :, None]
    assert_close(decoded(path, channels), expected, levels=1)


def test_two_levels_are_black_and_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(smooth_pixels()).convert("1").save(path)
    assert_close(decoded(path), with_pillow(path), levels=0)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_colour_that_means_transparent_is_white(mode: str, tmp_path: Path) -> None:
    path, picture = tmp_path / "a.png", Image.fromarray(smooth_pixels()).convert(mode)
    picture.save(path, transparency=picture.getpixel((3, 4)))
    assert_close(decoded(path), with_pillow(path), levels=0)
    assert (decoded(path)[4, 3] == 255).all()


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3)])
def test_sixteen_bits_are_rounded_to_eight(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, shape, dtype=np.uint16)
    values.flat[:6] = [0, 127, 128, 129, 65406, 65535]
    path = write_sixteen_bit_png(tmp_path / "a.png", values)
    expected = np.rint(values.reshape(9, 11, -1) / 257)
    assert (decoded(path) == expected).all()
    with Image.open(path) as opened:
        theirs = np.asarray(opened)  # all sixteen bits of grey, the upper eight of colour
    assert_close(theirs // 257 if values.ndim == 2 else theirs, expected[:, :, 0] if values.ndim == 2 else expected, 1)


def test_sixteen_bits_of_a_tiff_are_rounded_to_eight(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (9, 11), dtype=np.uint16)
    path = write_image(tmp_path / "a.tif", values)
    assert (decoded(path) == np.rint(values / 257)[:, :, None]).all()


def test_cmyk_jpegs_are_those_of_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth_pixels()).convert("CMYK").save(path, quality=95)
    with Image.open(path) as opened:
        assert opened.mode == "CMYK"
    assert_close(decoded(path), with_pillow(path), levels=2)
    assert np.abs(decoded(path) - smooth_pixels().astype(float)).mean() < 3  # and the right way round


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(name: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = write_image(tmp_path / name, exif=exif)
    assert_close(decoded(path), with_pillow(path), levels=2)
    assert decoded(path).shape[:2] == ((24, 32) if orientation < 5 else (32, 24))


def test_a_jpeg_by_another_name_is_read_as_what_it_is(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg").rename(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        assert_close(decoded(tmp_path / "a.png"), np.asarray(opened), levels=2)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_file_that_is_cut_off_is_named(name: str, kept: float, tmp_path: Path) -> None:
    path = write_image(tmp_path / name)
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * kept)])
    with pytest.raises(BrokenImageError, match=rf"{name} cannot be decoded: \S"):
        decode_image(path, 3)


def test_a_png_with_any_byte_changed_is_broken(tmp_path: Path) -> None:
    assert in_a_process(decode_every_flip, str(tmp_path)) == []


def test_damaged_files_are_decoded_or_named_and_take_no_process_with_them(tmp_path: Path) -> None:
    found = in_a_process(decode_damaged, str(tmp_path), 14)
    assert {sum(outcomes.values()) for outcomes in found.values()} == {3 * 14} and len(found) == 14
    for name, outcomes in found.items():
        assert outcomes["broken"] >= 10, name
        assert "others" not in outcomes or not name.startswith("sums"), f"{name} was misread in silence"


def _header(**changes: int) -> Callable[[bytes], bytes]:
    """Change fields of a PNG's header, with the checksum that belongs to them."""
    fields = ["width", "height", "depth", "colour", "compression", "filters", "interlaced"]

    def edit(data: bytes) -> bytes:
        values = dict(zip(fields, struct.unpack(">IIBBBBB", data[16:29]), strict=True)) | changes
        return data[:8] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *values.values())) + data[33:]

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_header(height=48), r"its image data are 2328 bytes, and should be 4656"),
        (_header(width=0), r"the standard knows no such header: .*width=0"),
        (_header(depth=4), r"the standard knows no such header: .*depth=4"),
        (_header(colour=3), r"its palette has 0 bytes"),
        (lambda data: data[:33] + png_chunk(b"ABCD", b"") + data[33:], r"the standard knows no critical chunk 'ABCD'"),
        (lambda data: data[:8] + data[33:], r"it begins with a chunk 'IDAT' of \d+ bytes, and should with a header"),
        (lambda data: data[:-12], r"the file is cut off"),
        (lambda data: data[:-1] + b"x", r"the checksum of its chunk 'IEND', at byte \d+, is wrong"),
    ],
)
def test_a_png_against_the_standard_is_named(edit: Callable[[bytes], bytes], says: str, tmp_path: Path) -> None:
    path = edit_png(write_image(tmp_path / "a.png"), edit)
    with pytest.raises(BrokenImageError, match=rf"a\.png cannot be decoded: {says}"):
        decode_image(path, 3)


def test_what_a_png_says_beside_its_pixels_may_be_anything(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")
    expected = decoded(path)
    long = zlib.compress(bytes(2_000_000))  # Pillow reads one million bytes of text at most
    said = png_chunk(b"zTXt", b"a\0\0" + long) + png_chunk(b"eXIf", b"none") + png_chunk(b"iCCP", b"none")
    edit_png(path, lambda data: data[:33] + said + data[33:] + b"and more behind its end")
    assert (decoded(path) == expected).all()


def test_an_interlaced_png_is_that_of_pillow(tmp_path: Path) -> None:
    path = write_interlaced_png(tmp_path / "a.png", smooth_pixels())
    assert (decoded(path) == smooth_pixels()).all() and (with_pillow(path) == smooth_pixels()).all()


def test_data_in_several_chunks_are_put_together(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png")

    def split(data: bytes) -> bytes:
        body = data[41:-16]
        return data[:33] + b"".join(png_chunk(b"IDAT", part) for part in (body[:9], b"", body[9:])) + data[-12:]

    assert (decoded(edit_png(path, split)) == smooth_pixels()).all()


@pytest.mark.parametrize("colour", [0, 2])
def test_a_colour_of_sixteen_bits_that_means_transparent_is_white_and_its_neighbour_not(
    colour: int, tmp_path: Path
) -> None:
    values = np.full((2, 3) if colour == 0 else (2, 3, 3), 1000, dtype=np.uint16)
    values[0, 1] += 1  # the same in eight bits
    path = write_sixteen_bit_png(tmp_path / "a.png", values)
    transparent = png_chunk(b"tRNS", np.full(values[0, 0].size, 1000, dtype=">u2").tobytes())
    edit_png(path, lambda data: data[:33] + transparent + data[33:])
    assert decoded(path)[..., 0].tolist() == [[255, 4, 255], [255, 255, 255]]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_level_of_few_bits_that_means_transparent_is_white(depth: int, tmp_path: Path) -> None:
    levels = 2**depth
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", levels, 1, depth, 0, 0, 0, 0))
    bits = "".join(f"{level:0{depth}b}" for level in range(levels))
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    chunks = [
        header,
        png_chunk(b"tRNS", b"\0\1"),
        png_chunk(b"IDAT", zlib.compress(b"\0" + row)),
        png_chunk(b"IEND", b""),
    ]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    expected = [255 if level == 1 else level * 255 // (levels - 1) for level in range(levels)]
    assert decoded(path)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("channels", [2, 4])
def test_sixteen_bits_with_transparency_are_rounded_and_laid_over_white(channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2**16, (4, 5, channels), dtype=np.uint16)
    raw = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    header = struct.pack(">IIBBBBB", 5, 4, 16, 4 if channels == 2 else 6, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*each) for each in chunks))
    rounded = np.rint(values / 257)
    colour, opacity = rounded[..., :-1], rounded[..., -1:]
    expected = np.broadcast_to((colour * opacity + 255 * (255 - opacity)) / 255, (4, 5, 3))
    assert np.abs(decoded(path) - expected).max() <= 0.5


def test_a_text_file_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("not found")
    with pytest.raises(BrokenImageError, match=r"a\.jpg cannot be decoded: cannot identify image"):
        decode_image(tmp_path / "a.jpg", 3)


def test_all_broken_files_are_found_by_index(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{number}.jpg") for number in range(5)]
    for number in (1, 3):
        paths[number].write_bytes(b"")
    found = find_broken(paths, 3)
    assert list(found) == [1, 3] and "3.jpg cannot be decoded" in found[3]


def test_the_shorter_side_is_resized_and_the_middle_cut() -> None:
    image = torch.from_numpy(smooth_pixels(40, 100)).permute(2, 0, 1)
    square = fit_to_square(image, 16, resize_to=20)
    assert square.shape == (3, 16, 16)
    theirs = np.asarray(Image.fromarray(smooth_pixels(40, 100)).resize((50, 20), Image.Resampling.BILINEAR))
    assert_close(square.permute(1, 2, 0).numpy(), theirs[2:18, 17:33], levels=1)


def test_an_image_of_the_size_is_left_as_it_is() -> None:
    image = torch.from_numpy(smooth_pixels(20, 20)).permute(2, 0, 1)
    assert torch.equal(fit_to_square(image, 20), image)


def test_the_advice_of_torchvision_is_not_shown(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet_torchvision()
        decode_image(write_image(tmp_path / "a.jpg"), 3)
    assert [str(each.message) for each in shown] == []
