"""Small valid scans of every format, and what time, disks and careless programs do to files."""

import io
import re
import struct
import zipfile
from collections.abc import Callable

import laspy
import numpy as np

NUM_POINTS = 60
POINTS_OF_CHUNK = 50_000  # as laspy writes LAZ
# Counts and sizes that a broken header has, besides random ones.
EXTREMES = (0, 1, -1, 2, 255, 256, 2**15, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62)
NUMBERS = (
    *map(str, EXTREMES),
    "1e5",
    "1e400",
    "nan",
    "inf",
    "-0.5",
    "1,5",
    "0x10",
    "",
    "x",
    "1e-40",
)
SEPARATORS = (
    b" ",
    b",",
    b";",
    b"\t",
    b"\n",
    b"\r\n",
    b"",
    b"  ",
    b", ",
    b"#",
    b'"',
    b"\xff",
    b"\0",
)
WORD = re.compile(rb"[-+0-9.e]+|[A-Za-z_]+")
MAX_MUTATIONS = 3


def valid_files() -> dict[str, bytes]:
    """The content of a valid file by a name that ends with its suffix."""
    rng = np.random.default_rng(0)
    coords = np.round(rng.uniform(0, 3, (NUM_POINTS, 3)), 3)
    colors = rng.integers(0, 256, (NUM_POINTS, 3)).astype(np.uint8)
    labels = rng.integers(0, 5, NUM_POINTS)
    makers = (_ply_files, _las_files, _pcd_files, _text_files, _numpy_files)
    return {
        name: content for make in makers for name, content in make(coords, colors, labels).items()
    }


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content after one to three accidents; of an archive often that of a member."""
    if content.startswith(b"PK") and rng.random() < 0.5:
        return _archive_again(content, rng)
    for _ in range(min(rng.integers(1, MAX_MUTATIONS + 1, 2))):
        if content:
            content = MUTATIONS[rng.integers(len(MUTATIONS))](content, rng)
    return content


def _ply_files(coords, colors, labels) -> dict[str, bytes]:
    files = {}
    faces = [[0, 1, 2], [2, 3, 4], [5, 6, 7]]
    for name, polygons in (("triangles", faces), ("polygons", [*faces, [8, 9, 10, 11]]), ("", [])):
        for order in ("ascii", "binary_little_endian", "binary_big_endian"):
            header = f"ply\nformat {order} 1.0\ncomment a scan\nelement vertex {len(coords)}\n"
            header += "".join(f"property float {axis}\n" for axis in "xyz")
            header += "".join(f"property uchar {color}\n" for color in ("red", "green", "blue"))
            header += "property int label\n"
            if polygons:
                header += f"element face {len(polygons)}\n"
                header += "property list uchar int vertex_indices\n"
            body = _ply_body(order, coords, colors, labels, polygons)
            files[f"{name}_{order}.ply"] = header.encode() + b"end_header\n" + body
    return files


def _ply_body(order, coords, colors, labels, polygons) -> bytes:
    if order == "ascii":
        rows = [
            " ".join(map(str, (*xyz, *rgb, k)))
            for xyz, rgb, k in zip(coords, colors, labels, strict=True)
        ]
        rows += [" ".join(map(str, (len(polygon), *polygon))) for polygon in polygons]
        return "\n".join([*rows, ""]).encode()
    sign = "<" if order == "binary_little_endian" else ">"
    rows = [
        struct.pack(f"{sign}3f3Bi", *xyz, *rgb, k)
        for xyz, rgb, k in zip(coords, colors, labels, strict=True)
    ]
    rows += [struct.pack(f"{sign}B{len(p)}i", len(p), *p) for p in polygons]
    return b"".join(rows)


def _las_files(coords, colors, labels) -> dict[str, bytes]:
    files = {}
    for point_format, version in ((2, "1.2"), (3, "1.3"), (7, "1.4")):
        header = laspy.LasHeader(point_format=point_format, version=version)
        header.scales, header.offsets = np.full(3, 1e-3), np.zeros(3)
        header.add_extra_dim(laspy.ExtraBytesParams("label", np.uint8, "class"))
        header.vlrs.append(laspy.VLR("someone", 7, "a record", b"1234"))
        las = laspy.LasData(header)
        las.x, las.y, las.z = coords.T
        las.red, las.green, las.blue = colors.T.astype(np.uint16) * 257
        las["label"] = las.classification = labels
        if version == "1.4":
            las.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("someone", 8, "long", b"12345678")])
        for suffix, packed in ((".las", False), (".laz", True)):
            stream = io.BytesIO()
            las.write(stream, do_compress=packed)
            files[f"format{point_format}{suffix}"] = stream.getvalue()
    return files | {"chunks.laz": _laz_of_chunks()}


def _laz_of_chunks() -> bytes:
    """Points that pack well, in three chunks."""
    header = laspy.LasHeader(point_format=0, version="1.2")
    points = laspy.ScaleAwarePointRecord.zeros(2 * POINTS_OF_CHUNK + 1, header=header)
    stream = io.BytesIO()
    laspy.LasData(header, points).write(stream, do_compress=True)
    return stream.getvalue()


def _pcd_files(coords, colors, labels) -> dict[str, bytes]:
    packed = (colors.astype(np.uint32) * np.array([1 << 16, 1 << 8, 1], np.uint32)).sum(axis=1)
    header = "VERSION 0.7\nFIELDS x y z rgb label\nSIZE 4 4 4 4 4\nTYPE F F F U U\n"
    header += f"COUNT 1 1 1 1 1\nWIDTH {NUM_POINTS}\nHEIGHT 1\nPOINTS {NUM_POINTS}\nDATA "
    columns = [*coords.T.astype("<f4"), packed.astype("<u4"), labels.astype("<u4")]
    rows = [
        " ".join(map(str, (*xyz, p, k))) for xyz, p, k in zip(coords, packed, labels, strict=True)
    ]
    fields = b"".join(column.tobytes() for column in columns)
    # LZF of literals only: at most 32 after each count.
    pieces = [fields[i : i + 32] for i in range(0, len(fields), 32)]
    literal = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)
    bodies = {
        "ascii": "\n".join(rows).encode(),
        "binary": np.rec.fromarrays(columns).tobytes(),
        "binary_compressed": struct.pack("<II", len(literal), len(fields)) + literal,
    }
    return {f"{kind}.pcd": f"{header}{kind}\n".encode() + body for kind, body in bodies.items()}


def _text_files(coords, colors, labels) -> dict[str, bytes]:
    table = np.column_stack([coords, colors, labels])
    files = {}
    for name, columns, separator, header in (
        ("plain.xyz", table[:, :3], " ", ""),
        ("colored.xyz", table[:, :6], " ", ""),
        ("labeled.txt", table, "\t", "# a scan\n"),
        ("named.csv", table, ",", "X [m],Y [m],Z [m],R,G,B,Label\n"),
        ("semicolons.csv", table, ";", "//X;Y;Z;R;G;B;Label\n"),
    ):
        rows = [separator.join(f"{value:g}" for value in row) for row in columns]
        files[name] = (header + "\n".join(rows) + "\n").encode()
    return files


def _numpy_files(coords, colors, labels) -> dict[str, bytes]:
    arrays = {"xyz": coords, "rgb": colors, "label": labels, "faces": np.array([[0, 1, 2]])}
    records = np.rec.fromarrays([*coords.T, *colors.T], names="x,y,z,red,green,blue")
    files = {}
    for name, save, values in (
        ("plain.npz", np.savez, arrays),
        ("compressed.npz", np.savez_compressed, arrays),
        ("table.npy", np.save, np.column_stack([coords, colors, labels])),
        ("records.npy", np.save, records),
    ):
        stream = io.BytesIO()
        if isinstance(values, dict):
            save(stream, **values)
        else:
            save(stream, values)
        files[name] = stream.getvalue()
    return files


def _archive_again(content: bytes, rng: np.random.Generator) -> bytes:
    """Mutates one member under a right checksum; without, a mutated archive is never opened."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = str(rng.choice(sorted(members)))
    members[name] = mutated(members[name], rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
    return stream.getvalue()


def _place(content: bytes, rng: np.random.Generator) -> int:
    """A byte, as often of the first few hundred, where headers are, as of all."""
    end = min(len(content), 400) if rng.random() < 0.5 else len(content)
    return int(rng.integers(end))


def _flip_bits(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        changed[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _lose_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 50)) :]


def _repeat_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start : start + int(rng.integers(1, 200))] + content[start:]


def _set_binary_number(content: bytes, rng: np.random.Generator) -> bytes:
    size = int(rng.choice([1, 2, 4, 8]))
    value = int(rng.choice(EXTREMES)) % 2 ** (8 * size)
    start = _place(content, rng)
    return content[:start] + value.to_bytes(size, "little") + content[start + size :]


def _set_word(content: bytes, rng: np.random.Generator) -> bytes:
    found = WORD.search(content, _place(content, rng))
    if found is None:
        return content
    word = str(rng.choice(NUMBERS)).encode()
    return content[: found.start()] + word + content[found.end() :]


def _set_separator(content: bytes, rng: np.random.Generator) -> bytes:
    places = [
        i for i in (_place(content, rng) for _ in range(50)) if content[i : i + 1] in b" ,;\t\n"
    ]
    if not places:
        return content
    separator = SEPARATORS[rng.integers(len(SEPARATORS))]
    if rng.random() < 0.2:
        return content.replace(content[places[0] : places[0] + 1], separator)
    return content[: places[0]] + separator + content[places[0] + 1 :]


def _change_lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.split(b"\n")
    i, j = rng.integers(len(lines), size=2)
    match rng.integers(4):
        case 0:
            lines[i], lines[j] = lines[j], lines[i]
        case 1:
            del lines[i]
        case 2:
            lines.insert(i, lines[j])
        case 3:
            lines.insert(i, b"")
    return b"\n".join(lines)


MUTATIONS: tuple[Callable[[bytes, np.random.Generator], bytes], ...] = (
    _flip_bits,
    _cut,
    _lose_bytes,
    _repeat_bytes,
    _set_binary_number,
    _set_word,
    _set_separator,
    _change_lines,
)
