#!/usr/bin/env python3
"""Makes Fixtures/images: small pictures of every kind, and their results from Pillow and PyTorch.

Usage, from the repository's root:  python3 Tests/Interop/make_image_fixtures.py

Needs torch, numpy, pillow and safetensors (made with 2.13.0, 2.4.6, 12.1.0 and 0.8.0). Pillow 13 resizes rows before
columns in some cases, which moves a sample by one now and then: run with 13.0.0, the script leaves everything as it is
and adds what comes out otherwise. What the published processor does is spelt out here once more, in terms of the libraries that it calls:
Pillow for decoding, padding, cropping and 8-bit resizing, PyTorch for resizing floats (torchvision's Resize is a call
of interpolate). It writes

  *.png, *.jpg             the pictures
  decoded.safetensors      NAME.published, NAME.vllm, NAME.sglang: samples [H, W, 3] U8 (the last two where they differ)
  processed.safetensors    NAME.image [1, 3, 56, 56], NAME.crops [m, 3, 28, 28] F32
  layouts.safetensors      layouts [n, 10] I32: width, height, padded side or 0, whole picture's width and height, the
                           same of the picture for crops, side of a crop or 0, columns, rows
  pillow-13.safetensors    by Pillow 13: of processed.safetensors and of resized.safetensors what differs
  resized.safetensors      pillow.WIDTHxHEIGHT [H, W, 3] U8, float.FILTER.HEIGHTxWIDTH [3, H, W] F32,
                           positions.HEIGHTxWIDTH [H, W, 2] F32, and what each was made from
"""

import io
import pathlib
import random
import struct
import zlib

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from safetensors.numpy import load_file, save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "Fixtures" / "images"
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
generator = np.random.default_rng(20)


# Pictures


def scene(height, width, channels=3):
    """Waves with a few sharp edges: compresses well, and no two rows or columns are alike."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [
        127.5 + 127.5 * np.sin(x * (2 + c) / width * 3 + y * (3 - c) / height * 2 + c) for c in range(channels)
    ]
    picture = np.stack(planes, axis=-1)
    picture[height // 3 : height // 2, width // 4 : width // 2] = 255 - picture[height // 3 : height // 2, width // 4 : width // 2]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def noise(height, width, channels=3, dtype=np.uint8):
    return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples, colour_type, depth, interlaced=False, extra=b""):
    """A PNG of kinds that Pillow does not write: 16-bit colour, Adam7, custom chunks. `samples` is [H, W, C]."""
    height, width = samples.shape[:2]
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for y, x, dy, dx in passes if interlaced else [(0, 0, 1, 1)]:
        for row in samples[y::dy, x::dx]:
            if row.size:
                rows += b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes()
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def pictures():
    rgb = scene(23, 37)
    rgba = np.concatenate([rgb, scene(23, 37, 4)[..., 3:]], axis=-1)
    image = Image.fromarray(rgb)
    yield "rgb.png", encoded(image, "PNG")
    yield "rgba.png", encoded(Image.fromarray(rgba), "PNG")
    yield "gray.png", encoded(image.convert("L"), "PNG")
    yield "gray-alpha.png", encoded(Image.fromarray(rgba).convert("LA"), "PNG")
    yield "gray-key.png", encoded(image.convert("L"), "PNG", transparency=int(rgb[0, 0, 0]))
    yield "bits-1.png", encoded(image.convert("1"), "PNG")
    yield "palette.png", encoded(image.quantize(40), "PNG")
    yield "palette-4.png", encoded(image.quantize(11), "PNG", bits=4)
    yield "palette-alpha.png", encoded(image.quantize(40), "PNG", transparency=bytes(range(0, 240, 6)))
    ramp = np.arange(40 * 16, dtype=np.uint16).reshape(16, 40) * 97
    ramp[0] = np.arange(230, 270)
    yield "gray16.png", encoded(Image.fromarray(ramp), "PNG")
    yield "rgb16.png", png(noise(9, 11, 3, np.uint16), 2, 16)
    yield "rgba16.png", png(noise(9, 11, 4, np.uint16), 6, 16)
    yield "gray-alpha16.png", png(noise(9, 11, 2, np.uint16), 4, 16)
    yield "interlaced.png", png(rgb, 2, 8, interlaced=True)
    yield "interlaced-1x1.png", png(rgb[:1, :1], 2, 8, interlaced=True)
    # Gamma 1.0, and a transparent colour: neither may change the decoded samples.
    key = struct.pack(">HHH", *(int(v) for v in rgb[5, 5]))
    yield "gamma.png", png(rgb, 2, 8, extra=chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"tRNS", key))
    yield "oriented.png", encoded(image, "PNG", exif=exif(8))

    photograph = Image.fromarray(scene(61, 83))
    yield "baseline-420.jpg", encoded(photograph, "JPEG", quality=85, subsampling=2)
    yield "baseline-422.jpg", encoded(photograph, "JPEG", quality=70, subsampling=1)
    yield "baseline-444.jpg", encoded(photograph, "JPEG", quality=95, subsampling=0)
    yield "progressive.jpg", encoded(photograph, "JPEG", quality=60, progressive=True)
    yield "restarts.jpg", encoded(photograph, "JPEG", quality=50, restart_marker_blocks=2)
    yield "gray.jpg", encoded(photograph.convert("L"), "JPEG")
    yield "rgb-components.jpg", encoded(photograph, "JPEG", keep_rgb=True)
    yield "cmyk.jpg", encoded(Image.fromarray(scene(40, 30, 4), "CMYK"), "JPEG", quality=90)
    for orientation in range(1, 9):
        yield f"oriented-{orientation}.jpg", encoded(Image.fromarray(scene(17, 29)), "JPEG", exif=exif(orientation))
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "oriented-xmp.jpg", encoded(Image.fromarray(scene(17, 29)), "JPEG", xmp=packet)

    # For the processor: two crops side by side, two above each other and partly black, a strip, a padded picture, one
    # that is shrunk, one without crops, one of exactly the size at which vLLM begins to crop.
    yield "beside.jpg", encoded(Image.fromarray(scene(600, 800)), "JPEG", quality=30)
    yield "below.jpg", encoded(Image.fromarray(scene(1100, 450)), "JPEG", quality=30)
    yield "strip.png", encoded(Image.fromarray(scene(33, 140)), "PNG")
    yield "padded.png", encoded(Image.fromarray(scene(12, 100)), "PNG")
    blocks = np.kron(noise(13, 31)[..., :1][..., 0], np.ones((90, 101), np.uint8))
    yield "shrunk.png", encoded(Image.fromarray(blocks).quantize(16), "PNG", bits=4)
    yield "single.png", encoded(Image.fromarray(scene(70, 90)), "PNG")
    yield "limit.png", encoded(Image.fromarray(np.kron(noise(8, 7)[..., 0], np.ones((91, 91), np.uint8))), "PNG")


# Reading


def published(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def sglang(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def vllm(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if not transparent or image.mode == "I;16":
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


# The published rule


def plan(width, height, whole_limit=728, window_side=504, longest=3024, thin=32):
    padded = 0
    if min(width, height) < thin and max(width, height) > 4 * min(width, height):
        padded = width = height = max(width, height)
    if max(width, height) > longest:
        factor = longest / max(width, height)
        width, height = int(width * factor), int(height * factor)
    long, short = max(width, height), min(width, height)
    if long <= whole_limit:
        window = short if long / short > 1.5 else 0
    else:
        window = min(short, window_side) if long / short > 4 else window_side
    if window == 0:
        return width, height, padded, (width, height), 0, 0, 0

    def fitted(side):
        if side < window:
            return side, 1
        count = int(side / window)
        count += side / window - side // window > 0.2
        return count * window, count

    (crop_width, columns), (crop_height, rows) = fitted(width), fitted(height)
    return width, height, padded, (crop_width, crop_height), window, columns, rows


def layout(width, height):
    new_width, new_height, padded, (crop_width, crop_height), window, columns, rows = plan(width, height)
    return [width, height, padded, new_width, new_height, crop_width, crop_height, window, columns, rows]


def tensor(image, side):
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div(255)
    planes = (planes - MEAN) / DEVIATION
    if image.size == (side, side):
        return planes[None]
    return torch.nn.functional.interpolate(
        planes[None], (side, side), mode="bilinear", align_corners=False, antialias=True
    )


def processed(image, image_size, crop_size):
    width, height, padded, crop_picture, window, columns, rows = plan(*image.size)
    if padded:
        square = Image.new("RGB", (padded, padded), 0)
        square.paste(image, (0, 0))
        image = square
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    whole = tensor(image, image_size)
    sheet = image.resize(crop_picture, Image.Resampling.BILINEAR)
    crops = [
        tensor(sheet.crop((x * window, y * window, (x + 1) * window, (y + 1) * window)), crop_size)
        for y in range(rows)
        for x in range(columns)
    ]
    return whole, torch.cat(crops) if crops else None


# Writing


PROCESSED = ("beside.jpg", "below.jpg", "strip.png", "padded.png", "shrunk.png", "single.png", "limit.png")


def processed_fixtures():
    tensors = {}
    for name in PROCESSED:
        whole, crops = processed(published((OUT / name).read_bytes()), 56, 28)
        tensors[f"{name}.image"] = whole.contiguous().numpy()
        if crops is not None:
            tensors[f"{name}.crops"] = crops.contiguous().numpy()
    return tensors


def pillow_resized(source):
    for width, height in [(26, 31), (13, 31), (26, 9), (7, 5), (40, 77), (27, 30), (16, 10), (1, 1)]:
        result = Image.fromarray(source).resize((width, height), Image.Resampling.BILINEAR)
        yield f"pillow.{width}x{height}", np.array(result)


def write_pictures():
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    decoded = {}
    for name, data in pictures():
        (OUT / name).write_bytes(data)
        assert len(data) < 20_000, (name, len(data))
        if name in PROCESSED:
            continue
        decoded[f"{name}.published"] = first = np.array(published(data))
        for reader in (vllm, sglang):
            other = np.array(reader(data))
            if other.shape != first.shape or (other != first).any():
                decoded[f"{name}.{reader.__name__}"] = other
    save_file(decoded, OUT / "decoded.safetensors")


def write_layouts():
    sizes = [(728, 728), (729, 729), (728, 485), (728, 486), (504, 504), (504, 336), (3024, 3024), (3025, 3025)]
    sizes += [(31, 124), (31, 125), (32, 400), (5000, 33), (4000, 1000), (1, 1), (1, 4), (1, 5), (1008, 605)]
    draw = random.Random(5)
    while len(sizes) < 600:
        width = int(2 ** draw.uniform(0, 13))
        height = max(1, int(width * 2 ** draw.uniform(-4, 4)))
        new_width, new_height, padded, *_ = plan(width, height)
        if height <= 12_000 and new_width > 0 and new_height > 0 and padded <= 4 * 3024:
            sizes.append((width, height))
    save_file({"layouts": np.array([layout(*size) for size in sizes], np.int32)}, OUT / "layouts.safetensors")


def write_resized():
    source = noise(31, 26)
    resized = {"pillow.source": source, **dict(pillow_resized(source))}
    planes = torch.from_numpy(generator.standard_normal((3, 19, 23)).astype(np.float32))
    resized["float.source"] = planes.numpy()
    for mode in ("bilinear", "bicubic"):
        for height, width in [(7, 5), (19, 11), (40, 23), (53, 61), (20, 22), (1, 1)]:
            result = torch.nn.functional.interpolate(
                planes[None], (height, width), mode=mode, align_corners=False, antialias=True
            )
            resized[f"float.{mode}.{height}x{width}"] = result[0].contiguous().numpy()
    # The published grid of position embeddings, in two channels, for the crops' grid of 36 x 36.
    grid = torch.from_numpy(generator.standard_normal((1, 2, 52, 52)).astype(np.float32))
    resized["positions.source"] = grid[0].permute(1, 2, 0).contiguous().numpy()
    result = torch.nn.functional.interpolate(grid, (36, 36), mode="bicubic", align_corners=False, antialias=True)
    resized["positions.36x36"] = result[0].permute(1, 2, 0).contiguous().numpy()
    save_file(resized, OUT / "resized.safetensors")


def write_differences():
    before = {**load_file(OUT / "processed.safetensors"), **load_file(OUT / "resized.safetensors")}
    now = {**processed_fixtures(), **dict(pillow_resized(before["pillow.source"]))}
    differences = {name: values for name, values in now.items() if (values != before[name]).any()}
    assert all(np.abs(values - before[name].astype(float)).max() < 2 for name, values in differences.items())
    save_file(differences, OUT / "pillow-13.safetensors")


def main():
    if int(PIL.__version__.split(".")[0]) >= 13:
        write_differences()
    else:
        write_pictures()
        write_layouts()
        write_resized()
        save_file(processed_fixtures(), OUT / "processed.safetensors")
    for file in OUT.glob("*.safetensors"):
        file.chmod(0o644)


if __name__ == "__main__":
    main()
