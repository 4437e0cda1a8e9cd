// What is told of a token beside its experts in the array OUT.tokens.npy of an npy export, which `import` reads again.

#pragma once

#define NPY_TOKEN_DESCR \
    "[('ubatch', '<u8'), ('token', '<i4'), ('context', '<i4'), ('sequence', '<i4'), ('life', '<i4'), " \
    "('position', '<i4'), ('id', '<i4'), " \
    "('generation', '|b1'), ('output', '|b1'), ('warmup', '|b1'), ('rejected', '|b1')]"
#define NPY_TOKEN_BYTES 36
