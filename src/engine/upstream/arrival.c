// Flags, which the rooms behind ask.

#include "engine/upstream/arrival.h"

atomic_bool arrival_is_late;
atomic_bool arrival_sees_calls;
