// Reads tokens from a GGUF file and prints them the way their tokenizer wrote them.

#include "tool/input/vocabulary.h"

#include "base/clean.h"
#include "gguf/gguf-reader.h"

#include <stdlib.h>
#include <string.h>

// tokenizer.ggml.token_type
enum {
    TOKEN_NORMAL = 1,
    TOKEN_BYTE   = 6,
};

struct vocabulary {
    struct gguf_file * file;
    int64_t            tokens; // key
    int64_t            types;  // key, -1: there is none
    bool               is_gpt2;
};

struct vocabulary * vocabulary_open(const char * path, struct error * error) {
    struct gguf_file * file = gguf_file_open(path, error->text, sizeof(error->text));
    if (file == NULL) {
        return NULL;
    }
    const char        * model      = "";
    struct vocabulary * vocabulary = memory_new(1, sizeof(*vocabulary));
    gguf_file_get_string(file, "tokenizer.ggml.model", &model);
    *vocabulary = (struct vocabulary) {
        .file    = file,
        .tokens  = gguf_file_find_key(file, "tokenizer.ggml.tokens"),
        .types   = gguf_file_find_key(file, "tokenizer.ggml.token_type"),
        .is_gpt2 = strcmp(model, "gpt2") == 0,
    };
    if (vocabulary->tokens < 0) {
        vocabulary_close(vocabulary);
        error_set(error, "%s: has no vocabulary (of a model in several files, name the first one)", path);
        return NULL;
    }
    return vocabulary;
}

void vocabulary_close(struct vocabulary * vocabulary) {
    if (vocabulary != NULL) {
        gguf_file_close(vocabulary->file);
        free(vocabulary);
    }
}

//
// UTF-8
//

// Bytes of the character that begins here and its number, 0: none does.
static size_t read_character(const unsigned char * text, size_t n, uint32_t * character) {
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const size_t size = n == 0         ? 0
                      : text[0] < 0x80 ? 1
                      : text[0] < 0xc0 ? 0
                      : text[0] < 0xe0 ? 2
                      : text[0] < 0xf0 ? 3
                      : text[0] < 0xf8 ? 4 : 0;
    if (size == 0 || size > n) {
        return 0;
    }
    *character = size == 1 ? text[0] : text[0] & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        *character = *character << 6 | (text[i] & 0x3f);
    }
    const bool is_surrogate = *character >= 0xd800 && *character < 0xe000;
    return *character < smallest[size] || is_surrogate || *character > 0x10ffff ? 0 : size;
}

static char escape_of(uint32_t character) {
    switch (character) {
        case '"':  return '"';
        case '\\': return '\\';
        case '\n': return 'n';
        case '\r': return 'r';
        case '\t': return 't';
        default:   return '\0';
    }
}

// One character, or one byte that belongs to none. Returns its size.
static size_t print_escaped(FILE * out, const unsigned char * text, size_t n) {
    uint32_t     character = 0;
    const size_t found     = read_character(text, n, &character);
    const size_t size      = found == 0 ? 1 : found;
    const char   escape    = found == 0 ? '\0' : escape_of(character);
    if (escape != '\0') {
        fprintf(out, "\\%c", escape);
    } else if (found > 0 && clean_is_harmless(character)) {
        fwrite(text, 1, size, out);
    } else {
        for (size_t i = 0; i < size; i++) {
            fprintf(out, "\\x%02x", (unsigned) text[i]);
        }
    }
    return size;
}

//
// how tokenizers write bytes
//

// GPT-2 writes a byte as a visible character: as the one with its number, or as the next free one from U+0100 on.
static bool is_visible(uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

static int byte_of(uint32_t character) {
    if (character < 0x100) {
        return is_visible(character) ? (int) character : -1;
    }
    uint32_t hidden = 0x100;
    for (int byte = 0; byte < 0x100; byte++) {
        if (!is_visible((uint32_t) byte) && hidden++ == character) {
            return byte;
        }
    }
    return -1;
}

// The bytes are never more than the characters take.
static size_t decode_gpt2(const char * text, size_t n, unsigned char * bytes) {
    size_t n_bytes = 0;
    for (size_t i = 0; i < n;) {
        uint32_t     character;
        const size_t size = read_character((const unsigned char *) text + i, n - i, &character);
        const int    byte = size == 0 ? -1 : byte_of(character);
        if (byte < 0) {
            memcpy(bytes, text, n);
            return n;
        }
        bytes[n_bytes++] = (unsigned char) byte;
        i += size;
    }
    return n_bytes;
}

// SentencePiece writes a space as U+2581.
static size_t decode_spaces(const char * text, size_t n, unsigned char * bytes) {
    size_t n_bytes = 0;
    for (size_t i = 0; i < n;) {
        const bool is_space = n - i >= 3 && memcmp(text + i, "\xe2\x96\x81", 3) == 0;
        bytes[n_bytes++] = is_space ? ' ' : (unsigned char) text[i];
        i += is_space ? 3 : 1;
    }
    return n_bytes;
}

static size_t decode(const struct vocabulary * vocabulary, int32_t token, const char * text, size_t n,
                     unsigned char * bytes) {
    int64_t  type = TOKEN_NORMAL;
    unsigned byte;
    gguf_file_value_i64(vocabulary->file, vocabulary->types, (size_t) token, &type);
    if (type == TOKEN_BYTE && sscanf(text, "<0x%2x>", &byte) == 1) {
        bytes[0] = (unsigned char) byte;
        return 1;
    }
    if (vocabulary->is_gpt2 && type == TOKEN_NORMAL) {
        return decode_gpt2(text, n, bytes);
    }
    return decode_spaces(text, n, bytes);
}

void vocabulary_print(const struct vocabulary * vocabulary, int32_t token, FILE * out) {
    const char * text;
    size_t       n;
    if (token < 0 || !gguf_file_value_string(vocabulary->file, vocabulary->tokens, (size_t) token, &text, &n)) {
        fputs("\"?\"", out);
        return;
    }
    unsigned char * bytes   = memory_new(n, 1);
    const size_t    n_bytes = decode(vocabulary, token, text, n, bytes);
    fputc('"', out);
    for (size_t i = 0; i < n_bytes;) {
        i += print_escaped(out, bytes + i, n_bytes - i);
    }
    fputc('"', out);
    free(bytes);
}
