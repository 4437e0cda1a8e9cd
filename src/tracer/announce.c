// Prints what a tracer has to say of its beginning and of a model's counts, in whole lines.

#include "tracer/announce.h"

#include "base/text.h"
#include "statistics/snapshot.h"
#include "tracer/model.h"

#include <inttypes.h>
#include <stdlib.h>

void announce_no_memory(struct expert_tracer * tracer, log_fn say, const char * consequence) {
    if (!atomic_exchange(&tracer->lacked_memory, true)) {
        log_line(say, LOG_ERROR, "out of memory: %s", consequence);
    }
}

void announce_not_counted(struct expert_tracer * tracer) {
    announce_no_memory(tracer, tracer->setup.say, "some of the routing is not counted");
}

void announce_beginning(struct expert_tracer * tracer, bool stats, bool names, bool routing, const char * capture) {
    pthread_mutex_lock(&tracer->mutex);
    const bool greeted = tracer->greeted;
    char     * remarks = tracer->remarks;
    tracer->greeted = tracer->greeted || stats || names || routing;
    tracer->remarks = NULL;
    pthread_mutex_unlock(&tracer->mutex);

    if (remarks) {
        tracer->setup.say(LOG_WARNING, remarks);
        free(remarks);
    }
    if (!greeted && stats) {
        log_line(tracer->setup.say, LOG_INFO, "Statistics enabled");
    }
    if (!greeted && names) {
        log_line(tracer->setup.say, LOG_INFO, "Tensor name logging enabled");
    }
    if (!greeted && (stats || names || routing) && capture) {
        log_line(tracer->setup.say, LOG_INFO, "Routing is read by: %s", capture);
    }
}

void announce_later(struct expert_tracer * tracer, const char * remarks) {
    if (remarks == NULL) {
        return;
    }
    struct text all = { 0 };
    pthread_mutex_lock(&tracer->mutex);
    text_add(&all, "%s%s", tracer->remarks ? tracer->remarks : "", remarks);
    free(tracer->remarks);
    tracer->remarks = all.data;
    pthread_mutex_unlock(&tracer->mutex);
}

static void explain_nothing(struct text * text, const struct expert_tracer_snapshot * snapshot) {
    const char   * name     = snapshot->name ? snapshot->name : snapshot->file ? snapshot->file : "the model";
    const uint64_t n_tokens = snapshot->total_tokens + snapshot->warmup_tokens;
    if (snapshot->n_expert == 0 && n_tokens > 0) {
        text_add_line(text, "%s evaluated %" PRIu64 " tokens and no MoE layer was seen: a dense model has none; if "
            "this one has experts, this release of llama.cpp names its routing differently", name, n_tokens);
    } else if (snapshot->warmup_tokens > 0) {
        text_add_line(text, "%s evaluated nothing but %" PRIu64 " tokens of warm-up", name, snapshot->warmup_tokens);
    } else {
        text_add_line(text, "nothing was counted of %s", name);
    }
}

static void explain_missing(log_fn say, const struct expert_tracer_snapshot * snapshot) {
    if (snapshot->lost_ubatches > 0) {
        log_line(say, LOG_ERROR, "not counted: the routing of %" PRIu64 " tokens in %" PRIu64 " ubatches, of %" PRIu64
            " tokens (%s)", snapshot->lost_tokens, snapshot->lost_ubatches, snapshot->total_tokens,
            snapshot->lost_reason);
    }
    if (snapshot->stopped) {
        log_line(say, LOG_ERROR, "counting stopped early: %s", snapshot->stopped);
    }
}

static void print_statistics(struct tracer_model * model, const struct config * config, log_fn say) {
    struct expert_tracer_snapshot * snapshot = model_snapshot(model, true);
    struct text                     text     = { 0 };
    if (snapshot && snapshot->total_activations == 0) {
        explain_nothing(&text, snapshot);
    } else if (snapshot && config->stats) {
        snapshot_print(&text, snapshot, config->per_layer, config->output != NULL ? config->hottest : 0);
    }
    if (snapshot == NULL || text.failed) {
        log_line(say, LOG_ERROR, "out of memory: the statistics cannot be printed");
    } else if (text.data) {
        say(LOG_INFO, text.data);
    }
    if (snapshot) {
        explain_missing(say, snapshot);
    }
    expert_tracer_snapshot_free(snapshot);
    text_free(&text);
}

void announce_statistics(struct tracer_model * model, log_fn say) {
    struct config config;
    if (!model_config(model, &config)) {
        announce_no_memory(model->tracer, say, "the statistics are not printed");
        return;
    }
    if (model_take_news(&model->news_to_print) && (config.stats || config.names || config.routing)) {
        print_statistics(model, &config, say);
    }
    config_free(&config);
}
