"""A token is a byte; one more ends a text, and begins the next."""

N_BYTES = 256
END     = 256
N_VOCAB = 257

NORMAL, CONTROL = 1, 3 # llama_token_type


def is_visible(byte):
    return ord("!") <= byte <= ord("~") or 0xa1 <= byte <= 0xac or 0xae <= byte <= 0xff


def texts():
    """GPT-2 writes a byte as a visible character: as the one with its number,
    or as the next free one from U+0100 on."""
    free = iter(range(0x100, 0x200))
    return [chr(byte) if is_visible(byte) else chr(next(free)) for byte in range(N_BYTES)] + ["<|endoftext|>"]


def types():
    return [NORMAL]*N_BYTES + [CONTROL]
