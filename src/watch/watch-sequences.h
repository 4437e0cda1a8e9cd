// The sequences that are routed: on llama-server its slots, and the conversations on them.

#pragma once

#include "routing/routing.h"
#include "watch/watch-frame.h"

struct watch_sequences;

// One sequence of one context, as long as it is among the last WATCH_SEQUENCES_MAX.
struct watched_sequence;
#define WATCH_SEQUENCES_MAX 256

// A slot is an expert of a layer; `release` frees watch_sequences_data() that is not NULL, with its sequence.
struct watch_sequences * watch_sequences_new (size_t n_slots, void (* release)(void * data));
void                     watch_sequences_free(struct watch_sequences * sequences); // NULL is ignored

// A token was routed, at a time in microseconds since 1970. Returns its sequence, valid until the next token.
struct watched_sequence * watch_sequences_token(struct watch_sequences * sequences, uint32_t context,
                                                const struct expert_tracer_token * token, int64_t time);

// The token was routed to a slot.
void watch_sequences_use(struct watched_sequence * sequence, size_t slot);

// What somebody keeps with it, NULL in the beginning.
void ** watch_sequences_data(struct watched_sequence * sequence);

void watch_sequences_second(struct watch_sequences * sequences); // a second has passed

// `seconds` of the last ones, at most WATCH_SECONDS_MAX; `time` is now.
void watch_sequences_fill(const struct watch_sequences * sequences, size_t seconds, int64_t time,
                          struct watch_frame * frame);
