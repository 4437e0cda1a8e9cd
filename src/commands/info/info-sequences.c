// Whether a trace knows its sequences, of the answer of `info`, for text and JSON.

#include "commands/info/info-sequences.h"

// What was imported may have phases and no sequences.
bool info_knows_sequences(const struct info_answer * answer) {
    return answer->info->phases_known && answer->info->shared_window == 0
        && (answer->sequences > 0 || answer->tokens == 0);
}
