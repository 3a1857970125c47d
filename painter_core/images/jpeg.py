"""Loading a JPEG, and whether its data reaches its last pixel.

A JPEG that was cut and closed again, by the marker of its end or another one's beginning, lacks data that its
decoder fills up with grey. libjpeg warns of it, but Pillow does not pass that on.
"""

import io
import math
import re
from collections import Counter

from PIL import Image
from PIL.ImageFile import ImageFile

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # 00 is an escaped FF, D0 to D7 restart, FF is filling
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN, _INTERVAL, _ALONE = 0xD8, 0xD9, 0xDA, 0xDD, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL, _PROGRESSIVE = (
    (0xC0, 0xC1),
    0xC2,
)  # in Huffman codes; arithmetic ones may leave out zeros at the end
_GREY = (127, 128)  # no data; CMYK is stored inverted
_ONES = b"\xff\x00"  # 8 bits of which no code of a scan is made
_HELD_BYTES = 8  # that libjpeg takes in before it needs them


def load_jpeg(picture: ImageFile, image: bytes, notes: Counter[str] | None) -> None:
    """Decodes an opened JPEG, or leaves to Pillow what cannot be looked at in this way.

    Args:
        image: the bytes that it was opened from.
        notes: counts img_coarse of schemas.rejects.WARNINGS.

    Raises:
        OSError: there is less data than the picture needs.
    """
    frame, at, has_restarts = _first_scan(image)
    if has_restarts:
        _check_restarts(image)
    if frame in _SEQUENTIAL and image[at + 4] == len(picture.getbands()):
        # one scan has everything, so all after a lack of data is grey
        picture.load()
        last = picture.getpixel((picture.width - 1, picture.height - 1))
        if last in _GREY or (isinstance(last, tuple) and last[0] in _GREY and last[1] in _GREY):
            again = Image.open(io.BytesIO(image), formats=("JPEG",))
            _feed(again, image, _scan_ends(image, at)[0], is_alone=True)
    elif frame == _PROGRESSIVE or frame in _SEQUENTIAL:
        ends, values_left = _scan_ends(image, at)
        _feed(picture, image, ends, is_alone=False)
        if values_left != -64 * len(picture.getbands()):
            if frame != _PROGRESSIVE:
                raise OSError("scans are missing")
            if notes is not None:
                notes["img_coarse"] += 1


def _feed(picture: ImageFile, image: bytes, ends: list[int], *, is_alone: bool) -> None:
    """Decodes scan by scan, with bits that belong to none after each of them.

    A decoder that has all of a scan looks for the next marker and passes over anything else. One that has not
    takes those bits for codes, and keeps what it cannot make a block of.

    Args:
        ends: where the next marker after each scan stands.
        is_alone: whether there is one scan, after which the decoder needs nothing more.
    """
    decoder, start = _Libjpeg(picture), 0
    try:
        for end in ends:
            decoder.give(image[start:end] + _ONES * _HELD_BYTES)
            if decoder.is_waiting and is_alone:
                raise OSError("its data ends before its last row")
            if decoder.kept:
                raise OSError("one of its scans ends early")
            start = end
        for _ in range(_HELD_BYTES):
            # it can make a block of what it held and some of these, not of each
            decoder.give(_ONES)
            if decoder.kept:
                raise OSError("its last scan ends early")
        decoder.give(image[start:])
        if decoder.is_done:
            picture.tile = []
    finally:
        decoder.end()


class _Libjpeg:
    """Pillow's JPEG decoder, fed by hand. Pillow has no public name for it; tests compare what it makes."""

    def __init__(self, picture: ImageFile) -> None:
        name, extents, _, arguments = picture.tile[0]
        picture.load_prepare()
        self._decoder = Image._getdecoder(picture.mode, name, arguments, picture.decoderconfig)
        self._decoder.setimage(picture.im, extents)
        self.kept = b""
        """What was given and not taken."""
        self.is_waiting, self.is_done = True, False

    def give(self, data: bytes) -> None:
        """More data, unless the picture is finished or damaged."""
        if self.is_waiting:
            self.kept += data
            taken, error = self._decoder.decode(self.kept)
            self.is_waiting, self.is_done = taken >= 0, taken < 0 and error == 0
            self.kept = self.kept[taken:] if self.is_waiting else b""

    def end(self) -> None:
        """Gives its memory back."""
        self._decoder.cleanup()


def _first_scan(image: bytes) -> tuple[int, int, bool]:
    """The marker of the frame, where the header of the first scan stands, and whether restart markers part
    the scans."""
    frame, at, has_restarts = 0, 2, False
    while found := _MARKER.search(image, at):
        at = found.start()
        code = image[at + 1]
        if code == _START_OF_SCAN:
            return frame, at, has_restarts
        if code in _FRAMES:
            frame = code
        has_restarts |= code == _INTERVAL
        at += 2 if code == _ALONE else 2 + _number(image, at + 2)
    raise OSError("no scan")


def _scan_ends(image: bytes, at: int) -> tuple[list[int], int]:
    """Where the next marker after each scan stands, and what is left to send.

    Args:
        at: where the header of the first scan stands.

    Returns:
        No ends if the file does not end itself. What is left: bits of coefficients that were sent without
        their last ones, less 1 for each coefficient; so -64 a component if all were sent to the last bit.
    """
    ends, in_scan, left = list[int](), False, 0
    while found := _MARKER.search(image, at):
        at = found.start()
        code = image[at + 1]
        if in_scan:
            ends.append(at)
        if code in (_END_OF_IMAGE, _START_OF_IMAGE):
            return ends, left
        if in_scan := code == _START_OF_SCAN:
            components = image[at + 4]
            first, last, bits = image[at + 5 + 2 * components : at + 8 + 2 * components]
            # a refinement sends one bit more of each; a first scan all but the lowest ones
            left += components * (last - first + 1) * (-1 if bits >> 4 else (bits & 15) - 1)
        at += 2 if code == _ALONE else 2 + _number(image, at + 2)
    return [], 0


def _check_restarts(image: bytes) -> None:
    """Raises OSError if a scan has fewer restart markers than its size asks for."""
    layout = scan = b""
    at, interval = 2, 0
    while found := _MARKER.search(image, at):
        if scan and interval:
            restarts = len(_RESTART.findall(image, at, found.start()))
            if restarts < (_num_units(layout, scan) - 1) // interval:
                raise OSError("restart markers are missing, and what they part")
        at = found.start()
        code = image[at + 1]
        if code in (_END_OF_IMAGE, _START_OF_IMAGE):
            return
        length = 0 if code == _ALONE else _number(image, at + 2)
        segment = image[at + 4 : at + 2 + length]
        scan = segment if code == _START_OF_SCAN else b""
        if code in _FRAMES:
            layout = segment
        elif code == _INTERVAL:
            interval = _number(segment, 0)
        at += 2 + length


def _num_units(layout: bytes, scan: bytes) -> int:
    """MCUs of a scan: blocks of its component, or of several ones what belongs together.

    Args:
        layout: the frame header.
        scan: the scan header.
    """
    size = _number(layout, 3), _number(layout, 1)  # width, height
    samples = {layout[i]: (layout[i + 1] >> 4, layout[i + 1] & 15) for i in range(6, 6 + 3 * layout[5], 3)}
    most = [max(pair) for pair in zip(*samples.values(), strict=True)]
    if scan[0] > 1:
        return math.prod(math.ceil(pixels / n / 8) for pixels, n in zip(size, most, strict=True))
    parts = zip(size, samples[scan[1]], most, strict=True)
    return math.prod(math.ceil(math.ceil(pixels * n / m) / 8) for pixels, n, m in parts)


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")
