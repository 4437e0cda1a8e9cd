// Finds out what is wanted, by the configuration or by request, and notes it down.

#include "tracer/switches.h"

static void note_traces(struct expert_tracer * tracer) {
    bool traces     = tracer->config.routing != NULL;
    bool with_gates = tracer->config.trace.weights;
    for (const struct tracer_model * model = tracer->models; model; model = model->next) {
        traces     = traces     || model->trace;
        with_gates = with_gates || (model->trace && model->trace_has_weights);
    }
    atomic_store(&tracer->traces,     traces);
    atomic_store(&tracer->with_gates, with_gates);
}

void switches_note(struct expert_tracer * tracer) {
    note_traces(tracer);
    live_memory_note_switches(tracer->live, (atomic_load(&tracer->is_counting) ? LIVE_COUNTS  : 0u) |
                                            (atomic_load(&tracer->is_naming)   ? LIVE_NAMES   : 0u) |
                                            (atomic_load(&tracer->traces)      ? LIVE_RECORDS : 0u) |
                                            (atomic_load(&tracer->is_watched)  ? LIVE_WATCHED : 0u));
}
