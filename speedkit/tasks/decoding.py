"""From a picture file to pixels: whatever Pillow opens keeps what it shows, or is refused by the name of its file."""

from collections import Counter

import numpy as np
import PIL
import torch
from PIL import Image, ImageCms, features

from speedkit.support.errors import DataError
from speedkit.support.faults import reason, shown
from speedkit.support.messages import N_, Message, plural_message

DEEP = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # grey with more levels than 256
GROUNDS = (255, 0, 128)  # for transparent pictures: white, black, grey
STANDS_OUT = 60  # levels between a pixel and its ground
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION = 0x0112  # the EXIF tag
REPLACE = N_("replace or remove it.")


def decoded(file, image_size: int, **options) -> torch.Tensor:
    """A picture file or file object as uint8 [3, image_size, image_size]; options: those of :func:`squared`."""
    with Image.open(file) as image:
        return squared(image, image_size, **options)


def squared(image, image_size: int, span: tuple | None = None, done: Counter | None = None) -> torch.Tensor:
    """The middle square of a PIL image as a viewer shows it, resized: uint8 [3, image_size, image_size].

    span: the lowest and highest level of all pictures of the set, for those with more than 256 levels. done: counts
    the pictures, and what was done to them.
    """
    image.load()
    what = Counter(read=1)
    turn = _turn(image)
    if _several_frames(image):
        what["frames"] += 1
    if image.mode in DEEP:
        image = _scaled(image, span)
        what["scaled"] += 1
    elif image.has_transparency_data:
        whole = image.convert("LA") if image.mode == "La" else image  # Pillow knows no shorter way
        image, transparent = _on_ground(whole.convert("RGBA"))
        what["ground"] += transparent
    elif image.mode == "LAB":
        image = ImageCms.profileToProfile(
            image, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    image = image.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))
    if turn is not None:
        image = image.transpose(turn)
        what["turned"] += 1
    if done is not None:
        done.update(what)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def notes(done: Counter) -> tuple:
    """What was done to the pictures read so far, as one message; none if nothing was."""
    said = {
        "turned": N_("{n} turned upright (EXIF)"),
        "scaled": N_("{n} scaled to 256 levels"),
        "ground": N_("{n} transparent, now on a plain ground"),
        "frames": N_("{n} with several frames, only the first used"),
    }
    parts = [Message(words, words, done[what]) for what, words in said.items() if done[what]]
    if not parts:
        return ()
    whole = parts[0]
    for part in parts[1:]:
        whole = Message("{first}; {second}", first=whole, second=part)
    read = plural_message(
        "Of the first picture: {what}.", "Of the first {n} pictures: {what}.", done["read"], what=whole
    )
    return (read,)


def _turn(image):
    try:
        return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # the picture is whole, even if what is noted in it is not
        return None


def _several_frames(image):
    try:
        return image.format != "MPO" and getattr(image, "is_animated", False)  # MPO: a photograph and its preview
    except Exception:  # of a damaged second frame
        return True


def _scaled(image, span):
    """Grey levels from ``span``, or from the range of the picture itself if that is wider, as 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    low, high = joined(span, _span(values))
    levels = np.nan_to_num((values - low) * (255 / (high - low)), nan=0.0, posinf=255.0, neginf=0.0)
    return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _span(values):
    """The range that levels are meant to have: 0 to 1, or 0 to a power of two, if they fit into one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    if low < 0:
        return low, max(high, low + 1e-12, 0.0)
    if high <= 1:
        return 0.0, 1.0 if high > 1 / 16 else max(high, 1e-12)
    bits = next((bits for bits in (8, 10, 12, 14, 16, 24, 32) if high < 2**bits), None)
    return 0.0, 2.0**bits - 1 if bits else high


def joined(one, other):
    """The smallest range that holds two, of which either may be None."""
    spans = [span for span in (one, other) if span is not None]
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None


def span_of(paths, most: int = 50):
    """The range of levels of a set of picture files, from ``most`` of those that may have more than 256; else None."""
    found = None
    may = [path for path in paths if not str(path).lower().endswith((".jpg", ".jpeg", ".gif", ".bmp", ".webp"))]
    for path in may[:: max(1, len(may) // most)]:
        try:
            with Image.open(path) as image:
                if image.mode in DEEP:
                    found = joined(found, _span(np.asarray(image).astype(np.float64)))
        except Exception:  # it is named when it is read
            continue
    return found


def _on_ground(image):
    """An RGBA image on the ground from which most of its visible pixels stand out, and whether any showed it."""
    alpha, opaque = np.asarray(image.getchannel("A")), image.convert("RGB")
    if alpha.min() == 255 or not alpha.any():  # if nothing were visible, there would be nothing to learn
        return opaque, False
    levels = np.asarray(opaque.convert("L"))[alpha >= (int(alpha.max()) + 1) // 2].astype(int)
    ground = max(GROUNDS, key=lambda ground: (abs(levels - ground) > STANDS_OUT).mean())
    whole = Image.new("RGB", image.size, (ground, ground, ground))
    whole.paste(opaque, mask=image.getchannel("A"))
    return whole, True


def opened(path):
    """A picture file as a PIL image, decoded: the ``loader`` of torchvision's datasets.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:
        raise unreadable(path, error) from None


def unreadable(path, error: Exception, fix: str = REPLACE) -> DataError:
    """The one sentence for whatever a decoder raised. path: also a message that says which picture it is."""
    values = {"path": path if isinstance(path, Message) else shown(path), "why": reason(error)}
    values["fix"] = fix if isinstance(fix, Message) else Message(fix)
    return DataError(Message("{path} cannot be read as a picture ({why}): {fix}", **values))


def versions() -> tuple:
    """The libraries that decide what a picture file looks like."""
    codecs = ("jpg", "jpg_2000", "zlib", "libtiff")
    found = [features.version_codec(name) for name in codecs if features.check_codec(name)]
    found += [features.version_module(name) for name in ("webp", "avif", "littlecms2") if features.check_module(name)]
    return PIL.__version__, *found
