// Writes the keys of a byte tokenizer to a GGUF file.

#include "byte-tokenizer.h"

#include "gguf/gguf-writer.h"

#include <stdio.h>
#include <stdlib.h>

#define N_BYTES    256
#define N_TEXT     32 // the longest text of a token, its NUL included

// llama_token_type
enum token_type {
    TOKEN_NORMAL  = 1,
    TOKEN_CONTROL = 3,
    TOKEN_UNUSED  = 5,
};

static const char chat_template[] =
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}";

struct byte_tokenizer byte_tokenizer_of(uint32_t n_vocab) {
    if (n_vocab >= N_BYTES + 2) {
        return (struct byte_tokenizer) { n_vocab, N_BYTES, N_BYTES, N_BYTES + 1 };
    }
    return (struct byte_tokenizer) { n_vocab, n_vocab < N_BYTES ? n_vocab : N_BYTES, 1, 2 };
}

static int is_visible(uint32_t byte) {
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

// GPT-2 writes a byte as a visible character: as the one with its number, or as the next free one from U+0100 on.
static uint32_t visible_character(uint32_t byte) {
    if (is_visible(byte)) {
        return byte;
    }
    uint32_t character = 0x100;
    for (uint32_t i = 0; i < byte; i++) {
        character += !is_visible(i);
    }
    return character;
}

static void write_utf8(char * text, uint32_t character) {
    if (character < 0x80) {
        snprintf(text, N_TEXT, "%c", (int) character);
    } else {
        snprintf(text, N_TEXT, "%c%c", (int) (0xc0 | character >> 6), (int) (0x80 | (character & 0x3f)));
    }
}

static enum token_type write_token(const struct byte_tokenizer * tokenizer, uint32_t token, char * text) {
    if (token == tokenizer->bos) {
        snprintf(text, N_TEXT, "<|startoftext|>");
        return TOKEN_CONTROL;
    }
    if (token == tokenizer->eos) {
        snprintf(text, N_TEXT, "<|endoftext|>");
        return TOKEN_CONTROL;
    }
    if (token < tokenizer->n_bytes) {
        write_utf8(text, visible_character(token));
        return TOKEN_NORMAL;
    }
    snprintf(text, N_TEXT, "<|unused_%u|>", (unsigned) token);
    return TOKEN_UNUSED;
}

void byte_tokenizer_write(struct gguf_file_writer * writer, uint32_t n_vocab) {
    const struct byte_tokenizer tokenizer = byte_tokenizer_of(n_vocab);

    char         (* texts)[N_TEXT] = calloc(n_vocab, sizeof(*texts));
    const char  **  tokens         = calloc(n_vocab, sizeof(*tokens));
    int32_t      *  types          = calloc(n_vocab, sizeof(*types));
    float        *  scores         = calloc(n_vocab, sizeof(*scores));
    if (texts == NULL || tokens == NULL || types == NULL || scores == NULL) {
        fprintf(stderr, "no memory for a vocabulary of %u tokens\n", (unsigned) n_vocab);
        exit(1);
    }
    for (uint32_t i = 0; i < n_vocab; i++) {
        types[i]  = write_token(&tokenizer, i, texts[i]);
        tokens[i] = texts[i];
    }
    // Every loader wants a list of merges, and not all of them an empty one. This one never applies: merging begins
    // with single characters, and none of its halves is one.
    static const char * const merges[] = { "<|unused|> <|unused|>" };

    gguf_file_writer_set_string(writer, "tokenizer.ggml.model",            "gpt2");
    // qwen2 leaves spaces as they are, and adds no token
    gguf_file_writer_set_string(writer, "tokenizer.ggml.pre",              "qwen2");
    gguf_file_writer_set_array (writer, "tokenizer.ggml.tokens",           GGUF_FILE_STRING, tokens, n_vocab);
    gguf_file_writer_set_array (writer, "tokenizer.ggml.scores",           GGUF_FILE_F32,    scores, n_vocab);
    gguf_file_writer_set_array (writer, "tokenizer.ggml.token_type",       GGUF_FILE_I32,    types,  n_vocab);
    gguf_file_writer_set_array (writer, "tokenizer.ggml.merges",           GGUF_FILE_STRING, merges, 1);
    gguf_file_writer_set_u32   (writer, "tokenizer.ggml.bos_token_id",     tokenizer.bos);
    gguf_file_writer_set_u32   (writer, "tokenizer.ggml.eos_token_id",     tokenizer.eos);
    gguf_file_writer_set_bool  (writer, "tokenizer.ggml.add_bos_token",    false);
    gguf_file_writer_set_bool  (writer, "tokenizer.ggml.add_eos_token",    false);
    gguf_file_writer_set_bool  (writer, "tokenizer.ggml.add_space_prefix", false);
    gguf_file_writer_set_string(writer, "tokenizer.chat_template",         chat_template);

    free(texts);
    free(tokens);
    free(types);
    free(scores);
}
