// Models whose routing is known on paper.
//
// An oracle model has the layers, experts and experts per token of a real one, but attention and experts of zeros.
// Nothing is ever added to the residual stream, so in every layer it is the embedding of the token at this position:
// one-hot, and after the norm sqrt(n_embd) at the token's own place. The router's row of expert e has at the place of
// token t the number that makes the logit of (e, t) in this layer what it shall be.
//
// What was said before a token and where it stands have no influence. Tokens are bytes (see byte-tokenizer.h).

#pragma once

#include <math.h>
#include <stdint.h>

// 256 bytes, BOS, EOS, 30 unused ones; the formulas hold for all of them. Full-size vocabularies have more, never used.
#define ORACLE_N_TOKENS 288
#define ORACLE_BOS      256
#define ORACLE_EOS      257

// The expert that layer chooses for token, rank 0 the one with the highest gate weight. Division of integers.
// n_expert is a power of two and the step between ranks odd, so the choices of one token differ; the multipliers are
// odd, so the first choices alone reach all experts where there are as many tokens; no two layers choose alike.
static inline uint32_t oracle_expert(uint32_t layer, uint32_t token, uint32_t rank, uint32_t n_expert) {
    const uint32_t multiplier = 37 + 2*(layer/8);
    const uint32_t step       =  1 + 2*(layer%2);
    return (multiplier*token + 11*layer + 5 + step*rank) % n_expert;
}

// The logit a router gives to the expert of a rank: ln 2 between neighbours, all experts that are not chosen 0.
static inline double oracle_logit(uint32_t rank, uint32_t n_expert_used) {
    return 16.0 + log(2.0)*(n_expert_used - 1 - rank);
}

// The weight the expert of a rank gets among those chosen (they add up to 1): halved from rank to rank. 2/3 and 1/3
// for two experts, 8/15, 4/15, 2/15 and 1/15 for four. This is what the engine multiplies with in all three models.
static inline double oracle_weight(uint32_t rank, uint32_t n_expert_used) {
    return ldexp(1.0, (int) (n_expert_used - 1 - rank))/(ldexp(1.0, (int) n_expert_used) - 1.0);
}

// The token that follows, its logit 64 and all others' 0: the printable characters of ASCII in a circle, 'A' after
// everything else. A text that starts never ends by itself.
static inline uint32_t oracle_next(uint32_t token) {
    if (token < 32 || token > 126) {
        return 'A';
    }
    return token == 126 ? 32 : token + 1;
}
