// Keeps the switches in the live memory's header.

#include "tracer/switches.h"

void switches_note(struct expert_tracer * tracer) {
    live_memory_note_switches(tracer->live, (atomic_load(&tracer->is_counting) ? LIVE_COUNTS  : 0u) |
                                            (atomic_load(&tracer->is_naming)   ? LIVE_NAMES   : 0u) |
                                            (atomic_load(&tracer->traces)      ? LIVE_RECORDS : 0u) |
                                            (atomic_load(&tracer->is_watched)  ? LIVE_WATCHED : 0u));
}
