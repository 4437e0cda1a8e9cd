// What a token is evaluated for: the phases, as the library counts them and the command's tables are indexed by them.

#pragma once

enum phase {
    PHASE_PROMPT,
    PHASE_GENERATION,
    N_TOKEN_PHASES,                // a token that counts has one of those above
    PHASE_WARMUP = N_TOKEN_PHASES, // whatever its tokens are
    N_PHASES,
};

// Sets of them.
#define PHASE_BIT(phase) (1u << (phase))
#define PHASES_OF_TOKENS (PHASE_BIT(PHASE_PROMPT) | PHASE_BIT(PHASE_GENERATION))
#define PHASES_ALL       (PHASES_OF_TOKENS | PHASE_BIT(PHASE_WARMUP))
