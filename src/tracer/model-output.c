// Exports a model's counts to its statistics file, from the tracer's thread or, at the end, from the program's.

#include "tracer/model-output.h"

#include "base/claim.h"
#include "base/folder.h"
#include "base/text.h"
#include "statistics/snapshot.h"
#include "tracer/announce.h"
#include "tracer/model.h"
#include "tracer/output.h"
#include "tracer/path-pattern.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// With the model's output_mutex. Takes the path over, NULL: none. What was claimed for another path is given up.
static void want_output(struct tracer_model * model, char * path) {
    if (model->wanted && (path == NULL || strcmp(model->wanted, path) != 0)) {
        output_release(&model->output);
        model->output_failed = false;
    }
    free(model->wanted);
    model->wanted = path;
}

// With the model's output_mutex. Somebody has put another file in its place.
static void give_up_output(struct tracer_model * model, struct text * remarks) {
    if (model->output.path) {
        text_add_line(remarks, "%s was replaced while it was written; what is there stays", model->output.path);
    }
    output_release(&model->output);
}

static void remark_on_failure(const char * path, int error, const struct config * config, struct text * remarks) {
    char every[64] = "";
    if (config->interval > 0) {
        snprintf(every, sizeof(every), "every %g s and ", config->interval);
    }
    text_add_line(remarks, "cannot write %.*s: %s. Counting goes on; the output needs a file in a folder that can be "
        "written, with room left. It is tried again %sat the end", PATH_MAX, path,
        claim_explain(error, FILE_KIND_STATISTICS), every);
}

static void remark_on_claimed(const struct output * output, const char * wanted, struct text * remarks) {
    if (output->moved) {
        text_add_line(remarks, "an earlier run's statistics in %s are in %s now", wanted, output->moved);
    }
    if (output->reason == CLAIM_BESIDE_ANOTHER) {
        text_add_line(remarks, "%s belongs to another model or process; these statistics go to %s", wanted,
            output->path);
    }
}

// With the model's output_mutex. What is worth saying of it is added to `remarks`. Where the program waits for it, at
// the end, it does not wait for the disk.
static void write_output(struct tracer_model * model, const struct config * config, enum model_output_occasion occasion,
                         struct text * remarks) {
    const char * run      = model->tracer->setup.run;
    const char * wanted   = model->wanted;
    const bool   news     = model_take_news(&model->news_to_write);
    struct text  json     = { 0 };
    bool         claiming = model->output.path == NULL;
    char       * path     = folder_path(config->folder, wanted);
    int          error    = -ENOMEM;

    struct expert_tracer_snapshot * snapshot = model_snapshot(model, occasion == MODEL_OUTPUT_LAST);
    if (snapshot) {
        snapshot_write_json(&json, snapshot, config->per_layer, run);
    }
    if (snapshot && !json.failed && path) {
        const struct output_wish wish    = { path, run, config->trace.keep };
        const bool               durable = occasion == MODEL_OUTPUT_AGAIN;
        error = claiming ? -ESTALE : output_replace(&model->output, json.data, json.length, durable);
        if (error == -ESTALE) {
            give_up_output(model, remarks);
            claiming = true;
            error    = output_claim(&model->output, &wish, json.data, json.length);
        }
    }
    free(path);
    if (error) {
        atomic_store(&model->news_to_write, true);
        if (!model->output_failed) {
            remark_on_failure(claiming ? wanted : model->output.path, error, config, remarks);
        }
    } else if (model->output_failed) {
        text_add_line(remarks, "%s can be written now", model->output.path);
    }
    if (!error && claiming) {
        remark_on_claimed(&model->output, wanted, remarks);
    }
    model->output_failed = error != 0;
    if (!error && news && snapshot->complete) {
        text_add_line(remarks, "Statistics exported to %s", model->output.path);
    }
    expert_tracer_snapshot_free(snapshot);
    text_free(&json);
}

// With the model's output_mutex.
static bool is_time_to_write(struct tracer_model * model, enum model_output_occasion occasion) {
    switch (occasion) {
        case MODEL_OUTPUT_FIRST: return model->output.path == NULL && !model->output_failed;
        case MODEL_OUTPUT_AGAIN: return atomic_load(&model->news_to_write);
        default:                 return true;
    }
}

// With the model's output_mutex. Returns false where memory runs out before there is anything to remark on.
static bool write_as_configured(struct tracer_model * model, enum model_output_occasion occasion,
                                struct text * remarks) {
    struct config config;
    struct text   wanted = { 0 };
    if (!model_config(model, &config)) {
        return false;
    }
    if (config.output) {
        path_pattern_add(&wanted, config.output, &model->about);
    }
    const bool whole = !wanted.failed;
    if (whole) {
        want_output(model, wanted.data);
        if (model->wanted && is_time_to_write(model, occasion)) {
            write_output(model, &config, occasion, remarks);
        }
    } else {
        text_free(&wanted);
    }
    config_free(&config);
    return whole;
}

void model_output_write(struct tracer_model * model, enum model_output_occasion occasion, log_fn say) {
    struct text remarks = { 0 };
    pthread_mutex_lock(&model->output_mutex);
    const bool whole  = model->output_final || write_as_configured(model, occasion, &remarks);
    const bool failed = model->output_failed;
    pthread_mutex_unlock(&model->output_mutex);
    if (!whole) {
        announce_no_memory(model->tracer, say, "the statistics are not written");
    }
    if (remarks.data) {
        say(failed ? LOG_ERROR : LOG_INFO, remarks.data);
    }
    text_free(&remarks);
}

static bool model_is_gone(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    const bool gone = model->unloaded && model->contexts == NULL;
    pthread_mutex_unlock(&model->tracer->mutex);
    return gone;
}

static void model_note_finished(struct tracer_model * model) {
    pthread_mutex_lock(&model->tracer->mutex);
    model->finished = true;
    pthread_mutex_unlock(&model->tracer->mutex);
}

void model_output_finish(struct tracer_model * model) {
    pthread_mutex_lock(&model->output_mutex);
    if (model_is_gone(model) && (model->wanted == NULL || !atomic_load(&model->news_to_write))) {
        output_release(&model->output);
        model->output_final = true;
        model_note_finished(model);
    }
    pthread_mutex_unlock(&model->output_mutex);
}
