"""Writes a GGUF file, version 3. (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)"""

import struct

import numpy

ALIGNMENT = 32

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9 # types of values
TENSOR_F32, TENSOR_Q8_0 = 0, 8

Q8_0_BLOCK = 32


def string(text):
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(kind, what):
    if kind == STRING:
        return string(what)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], what)


def q8_0(array):
    """Blocks of 32 neighbours: what the largest of them divided by 127 is, in half precision,
    and each as a multiple of that."""
    blocks = array.astype(numpy.float32).reshape(-1, Q8_0_BLOCK)
    scales = numpy.abs(blocks).max(1, keepdims=True)/127
    inverse = numpy.divide(1, scales, out=numpy.zeros_like(scales), where=scales > 0)
    packed = numpy.empty(len(blocks), [("scale", "<f2"), ("multiples", "i1", Q8_0_BLOCK)])
    packed["scale"] = scales[:, 0]
    packed["multiples"] = numpy.rint(blocks*inverse)
    return packed.tobytes()


def padding(n):
    return bytes(-n % ALIGNMENT)


class GgufFile:
    def __init__(self):
        self.metadata, self.tensors = [], []

    def set(self, key, kind, what):
        self.metadata.append(string(key) + struct.pack("<I", kind) + value(kind, what))

    def set_array(self, key, kind, values):
        self.metadata.append(string(key) + struct.pack("<IIQ", ARRAY, kind, len(values))
                             + b"".join(value(kind, v) for v in values))

    def add(self, name, kind, array):
        """array: numpy, the fastest dimension last; stored as TENSOR_F32 or TENSOR_Q8_0"""
        data = q8_0(array) if kind == TENSOR_Q8_0 else array.astype("<f4").tobytes()
        self.tensors.append((name, kind, array.shape, data))

    def write(self, path):
        head = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.metadata)) + b"".join(self.metadata)
        offset = 0
        for name, kind, shape, data in self.tensors:
            head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
            offset += len(data) + len(padding(len(data)))
        with open(path, "wb") as file:
            file.write(head + padding(len(head)))
            for _, _, _, data in self.tensors:
                file.write(data + padding(len(data)))
