// The tokenizer of test models, in which tokens are bytes.

#pragma once

#include <stdint.h>

struct gguf_file_writer;

// The tokens of a model with this many of them: token id and byte value are the same number.
struct byte_tokenizer {
    uint32_t n_vocab;
    uint32_t n_bytes; // tokens 0 … n_bytes - 1 are bytes, but for BOS and EOS where they lie among them
    uint32_t bos;
    uint32_t eos;
};

// 258 tokens and more hold all 256 bytes and then BOS and EOS. Smaller vocabularies hold the bytes below n_vocab, and
// BOS and EOS take the places of the bytes 1 and 2, which no text has; with 128 tokens ASCII is whole.
struct byte_tokenizer byte_tokenizer_of(uint32_t n_vocab);

// Adds a tokenizer of the kind "gpt2" without merges, that puts nothing before or behind a text, and a chat template
// that writes "role: content" lines and then "assistant: ". Tokens behind EOS are there but mean nothing.
void byte_tokenizer_write(struct gguf_file_writer * writer, uint32_t n_vocab);
