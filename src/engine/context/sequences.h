// What is known of a context's sequences: whether they have asked for logits, how far they have come, and how often
// they were cleared.

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sequence {
    bool     has_asked;       // for logits, in an earlier batch
    bool     asks_not_for_all; // of its tokens in the batch that is looked at
    bool     generates;        // its tokens in that batch are generation
    int32_t  life;             // rises when it is cleared
    int32_t  next;             // the position behind its last one, 0: it has none
    bool     is_known;         // from its beginning, or since it was cleared; otherwise it was there before us
};

struct sequences {
    struct sequence * at; // [n]
    size_t            n;
    bool              are_old; // they may have been there before us
};

// None is known; `are_old`: they may have been there before us. Makes room for as many as an engine has, 256 in all
// that we know. Returns false where memory runs out.
bool sequences_init(struct sequences * sequences, bool are_old);

// Returns NULL where memory runs out. It stays where it is until a further one is asked for.
struct sequence * sequences_at(struct sequences * sequences, int32_t sequence);

// Returns NULL where nothing is known of it.
struct sequence * sequences_known(const struct sequences * sequences, int32_t sequence);

// It begins anew: all of them do where `sequence` is negative.
void sequences_clear(struct sequences * sequences, int32_t sequence);

// All but this one begin anew.
void sequences_clear_others(struct sequences * sequences, int32_t sequence);

// One becomes what another is, up to a position (negative: to its end). Does nothing where memory runs out.
void sequences_copy(struct sequences * sequences, int32_t from, int32_t to, int32_t end);

void sequences_free(struct sequences * sequences);
