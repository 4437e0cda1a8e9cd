"""Reads GGUF files, and writes them again with other tensors."""

import re
import struct
from pathlib import Path

# how metadata values of fixed size are stored, by type
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9

F32 = 0  # type of a tensor
ALIGNMENT = 32


def aligned(n):
    return -(-n // ALIGNMENT) * ALIGNMENT


class Gguf:
    """Metadata and tensors of a GGUF file."""

    def __init__(self, path):
        self.path = path
        self.metadata = {}
        self.shapes = {}  # by tensor, the fastest dimension first
        self.places = {}  # by tensor: type and offset in the data
        with open(path, "rb") as f:
            self.file = f
            if f.read(4) != b"GGUF":
                raise ValueError(f"{path} is not GGUF")
            _, n_tensors, n_metadata = self.read("<IQQ")
            for _ in range(n_metadata):
                key = self.string()
                self.metadata[key] = self.value(self.scalar("<I"))
            self.infos = f.tell()
            for _ in range(n_tensors):
                name = self.string()
                self.shapes[name] = [self.scalar("<Q") for _ in range(self.scalar("<I"))]
                self.places[name] = self.read("<IQ")
            self.data = aligned(f.tell())
        del self.file

    def read(self, layout):
        return struct.unpack(layout, self.file.read(struct.calcsize(layout)))

    def scalar(self, layout):
        return self.read(layout)[0]

    def string(self):
        return self.file.read(self.scalar("<Q")).decode(errors="replace")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            kind, n = self.read("<IQ")
            return [self.value(kind) for _ in range(n)]
        return self.scalar(SCALARS[kind])

    def bytes(self, name):
        """A tensor as it is in the file, and what is between it and the next one."""
        _, begin = self.places[name]
        ends = [offset for _, offset in self.places.values() if offset > begin]
        with open(self.path, "rb") as f:
            f.seek(self.data + begin)
            return f.read(min(ends) - begin if ends else -1)

    def floats(self, name):
        """A tensor of F32, flat."""
        kind, _ = self.places[name]
        n = 1
        for dimension in self.shapes[name]:
            n *= dimension
        if kind != F32:
            raise ValueError(f"{name} is of type {kind}")
        return struct.unpack_from(f"<{n}f", self.bytes(name))

    def experts_per_layer(self):
        """How many experts each MoE layer has, by its stacked weights."""
        layers = {}
        for name, shape in self.shapes.items():
            found = re.fullmatch(r"blk\.(\d+)\.ffn_down_exps\.weight", name)
            if found:
                layers[int(found[1])] = shape[2]
        return layers


def rename(source, path, key, value):
    """Writes a Gguf with another string (bytes) as the metadata of that key."""
    content = Path(source.path).read_bytes()
    head = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", STRING)
    begin = content.index(head) + len(head)
    end = begin + 8 + struct.unpack_from("<Q", content, begin)[0]
    infos = source.infos + sum(8 + len(name) + 4 + 8 * len(shape) + 12 for name, shape in source.shapes.items())
    header = content[:begin] + struct.pack("<Q", len(value)) + value + content[end:infos]
    Path(path).write_bytes(header.ljust(aligned(len(header)), b"\0") + content[source.data:])


def rewrite(source, path, tensors):
    """Writes a Gguf with the same metadata and other tensors: by name the shape, the type and the bytes."""
    with open(source.path, "rb") as old, open(path, "wb") as new:
        header = bytearray(old.read(source.infos))
        struct.pack_into("<Q", header, 8, len(tensors))
        new.write(header)
        offset = 0
        for name, (shape, kind, content) in tensors.items():
            new.write(struct.pack(f"<Q{len(name)}sI{len(shape)}QIQ", len(name), name.encode(),
                                  len(shape), *shape, kind, offset))
            offset += aligned(len(content))
        data = aligned(new.tell())
        new.seek(data)
        for _, _, content in tensors.values():
            if content.strip(b"\0"):
                new.write(content)
                new.seek(aligned(new.tell()))
            else:
                new.seek(aligned(len(content)), 1)  # stays a hole
        new.truncate(data + offset)
