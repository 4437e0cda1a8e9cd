// Makes statistics of counters, with the code that the library writes its file with.

#include "serve/serve-statistics.h"

#include "statistics/snapshot.h"
#include "statistics/statistics-file.h"
#include "statistics/statistics-json.h"

#include <stdlib.h>

// The file as the process would write it, NULL where memory runs out.
static char * file_text(const struct live_view_model * model, size_t * size) {
    const struct routing_model about = {
        .name         = model->name,
        .architecture = model->architecture,
        .file         = model->file,
        .engine       = model->engine,
        .capture      = model->capture,
        .n_layer      = model->n_layer,
        .n_expert     = model->n_expert,
        .n_used       = model->n_used,
        .phases_known = model->phases_known,
    };
    struct expert_tracer_snapshot * snapshot = snapshot_new(&about, &model->counts, &(struct snapshot_state) { 0 });
    struct text                     text     = { 0 };
    if (snapshot != NULL) {
        snapshot_write_json(&text, snapshot, true, NULL);
        expert_tracer_snapshot_free(snapshot);
    }
    if (text.failed) {
        text_free(&text);
    }
    *size = text.length;
    return text.data;
}

// The process writes its own number into its file; this one stands for it.
static void name_run(struct statistics * statistics, const struct live_view * view) {
    statistics->runs    = memory_resize(statistics->runs, statistics->n_runs + 1, sizeof(*statistics->runs));
    statistics->runs[statistics->n_runs++] = memory_text("%s/%lld", view->name, (long long) view->pid);
}

static char * with_summary(const struct statistics * statistics) {
    char * text = NULL;
    size_t size = 0;
    FILE * out  = open_memstream(&text, &size);
    if (out == NULL) {
        return NULL;
    }
    const bool ok = statistics_file_write(out, statistics, true);
    if (fclose(out) != 0 || !ok) {
        free(text);
        return NULL;
    }
    return text;
}

char * serve_statistics_text(const struct live_view * view, const struct live_view_model * model,
                             struct error * error) {
    size_t              size;
    char              * file       = file_text(model, &size);
    struct statistics * statistics = file == NULL ? NULL : statistics_json_parse(view->name, file, size, error);
    char              * text       = NULL;
    if (file == NULL) {
        error_set(error, "out of memory");
    }
    free(file);
    if (statistics != NULL) {
        name_run(statistics, view);
        text = with_summary(statistics);
        statistics_free(statistics);
        if (text == NULL) {
            error_set(error, "out of memory");
        }
    }
    return text;
}
