#!/usr/bin/env python3
"""Writes a PNG with few colors, the frequent ones: pictures of pages become small files.

tools/shrink-png.py FROM TO [COLORS]
"""

import collections
import struct
import sys
import zlib


def pixels(data):
    """Returns width, height and the rows of a PNG with eight bits a channel, not interlaced."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", "not a PNG"
    place, packed = 8, b""
    while place < len(data):
        (length,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        chunk = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", chunk)
            assert depth == 8 and color in (2, 6) and not interlaced, "an unusual PNG"
        elif kind == b"IDAT":
            packed += chunk
        place += length + 12
    step = 3 if color == 2 else 4
    raw, stride, rows = zlib.decompress(packed), width * step, []
    before = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        method, row = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        for at in range(stride):
            left = row[at - step] if at >= step else 0
            up, corner = before[at], before[at - step] if at >= step else 0
            if method == 1:
                row[at] = (row[at] + left) & 255
            elif method == 2:
                row[at] = (row[at] + up) & 255
            elif method == 3:
                row[at] = (row[at] + (left + up) // 2) & 255
            elif method == 4:
                guess = left + up - corner
                near = min((left, up, corner), key=lambda one: abs(guess - one))
                row[at] = (row[at] + near) & 255
        before = row
        rows.append([bytes(row[at : at + 3]) for at in range(0, stride, step)])
    return width, height, rows


def main(source, target, colors=32):
    with open(source, "rb") as file:
        width, height, rows = pixels(file.read())
    counts = collections.Counter(pixel for row in rows for pixel in row)
    palette = [color for color, _ in counts.most_common(colors)]

    def nearest(color):
        return min(range(len(palette)), key=lambda place: sum((a - b) ** 2 for a, b in zip(color, palette[place])))

    places = {color: nearest(color) for color in counts}
    bits = 4 if len(palette) <= 16 else 8
    body = bytearray()
    for row in rows:
        body.append(0)
        line = [places[pixel] for pixel in row]
        if bits == 4:
            line += [0] * (len(line) % 2)
            line = [line[at] << 4 | line[at + 1] for at in range(0, len(line), 2)]
        body += bytes(line)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    with open(target, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)))
        file.write(chunk(b"PLTE", b"".join(palette)))
        file.write(chunk(b"IDAT", zlib.compress(bytes(body), 9)))
        file.write(chunk(b"IEND", b""))


main(sys.argv[1], sys.argv[2], *(int(text) for text in sys.argv[3:4]))
