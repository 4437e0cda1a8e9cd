// Prints what a running tracer has done, and from which ubatch on that holds, or its status, a field a line.

#include "commands/ctl/ctl-text.h"

#include "base/clean.h"
#include "commands/model-text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

//
// what holds from where
//

// Numbers of models are of interest where there are several.
static bool has_several_models(const struct ctl_result * result) {
    for (size_t i = 1; i < result->n_holds; i++) {
        if (result->holds[i].model != result->holds[0].model) {
            return true;
        }
    }
    return false;
}

static char * hold_text(const struct ctl_hold * hold, bool with_model) {
    char * text = hold->ubatch < 0 ? memory_text("the next batch") : memory_text("ubatch %" PRId64, hold->ubatch);
    text = memory_append(text, memory_text(" of context %" PRIu64, hold->context));
    return with_model ? memory_append(text, memory_text(" of model %" PRIu64, hold->model)) : text;
}

// " from ubatch 17 of context 1 on"
static char * holds_text(const struct ctl_result * result) {
    if (result->n_holds == 0) {
        return memory_text(" from the first batch on");
    }
    const bool with_model = has_several_models(result);
    char     * text       = memory_text(" from ");
    for (size_t i = 0; i < result->n_holds; i++) {
        const char * between = i == 0 ? "" : i + 1 == result->n_holds ? " and " : ", ";
        char       * more    = hold_text(&result->holds[i], with_model);
        text = memory_append(text, memory_append(memory_text("%s", between), more));
    }
    return memory_append(text, memory_text(" on"));
}

char * ctl_text_done(const struct ctl_order * order, const struct ctl_result * result) {
    const char * path = result->path == NULL ? "the trace" : result->path;
    switch (order->verb) {
        case CTL_START:       return memory_text("counting");
        case CTL_STOP:        return memory_text("not counting");
        case CTL_RESET:       return memory_text("counting begins at zero");
        case CTL_RECORD:      return memory_text("recording to %s", path);
        case CTL_RECORD_STOP: return memory_text("%s is whole, and nothing is recorded", path);
        case CTL_NAMES:       return memory_text("names are %s", order->on ? "logged" : "not logged");
        case CTL_DUMP:        return memory_text("%s: %" PRIu64 " bytes", path, result->bytes);
        case CTL_INTERVAL:
            return order->interval > 0 ? memory_text("statistics are written every %g s", order->interval)
                                       : memory_text("statistics are written only at the end");
        default:              return memory_text("done");
    }
}

static void print_done(const struct terminal * terminal, const char * who, const struct ctl_order * order,
                       const struct ctl_result * result) {
    char * text = memory_append(memory_text("%s: ", who), ctl_text_done(order, result));
    if (result->has_holds) {
        text = memory_append(text, holds_text(result));
    }
    fprintf(terminal->out, "%s\n", clean_in_place(text));
    free(text);
}

//
// status
//

static char * time_text(int64_t microseconds) {
    const time_t seconds = (time_t) (microseconds / 1000000);
    struct tm    parts;
    char         text[64];
    if (localtime_r(&seconds, &parts) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        return memory_text("?");
    }
    return memory_text("%s", text);
}

static void print_output(const struct terminal * terminal, const struct live_status * status) {
    if (status->output == NULL) {
        terminal_field(terminal, "statistics", "not written to a file");
        return;
    }
    char * when = status->interval > 0 ? memory_text(", every %g s", status->interval)
                                       : memory_text(", only at the end");
    terminal_field_free(terminal, "statistics", memory_append(memory_text("%s", status->output), when));
}

static char * tokens_text(const struct live_status_model * model) {
    char * text = memory_text("%" PRIu64, model->tokens);
    if (model->prompt_tokens + model->generation_tokens > 0) {
        text = memory_append(text, memory_text(": %" PRIu64 " prompt, %" PRIu64 " generation", model->prompt_tokens,
                                               model->generation_tokens));
    }
    if (model->lost_tokens > 0) {
        text = memory_append(text, memory_text("; of %" PRIu64 " the routing is not known", model->lost_tokens));
    }
    return text;
}

static void print_if(const struct terminal * terminal, const char * label, const char * text) {
    if (text != NULL) {
        terminal_field(terminal, label, text);
    }
}

static void print_model(const struct terminal * terminal, const struct live_status_model * model) {
    const struct answer_model about = { model->name, model->architecture, model->file, model->engine };
    char                    * label = memory_text("model %" PRIu64, model->number);
    terminal_field_free(terminal, label, model_text(&about));
    free(label);
    print_if(terminal, "",         model->file);
    print_if(terminal, "engine",   model->engine);
    print_if(terminal, "capture",  model->capture);
    terminal_field_free(terminal, "contexts", memory_text("%" PRIu64, model->contexts));
    terminal_field_free(terminal, "tokens", tokens_text(model));
    terminal_field(terminal, "recording", model->recording == NULL ? "off" : model->recording);
}

static void print_status(const struct terminal * terminal, const char * who, const struct live_status * status) {
    terminal_field(terminal, "process", who);
    print_if(terminal, "tracer", status->tracer);
    terminal_field_free(terminal, "started", time_text(status->started));
    terminal_field(terminal, "counting", status->counting ? "on" : "off");
    terminal_field(terminal, "names", status->names ? "on" : "off");
    terminal_field(terminal, "watched", status->watched ? "yes" : "no");
    print_output(terminal, status);
    for (size_t i = 0; i < status->n_models; i++) {
        print_model(terminal, &status->models[i]);
    }
    if (status->n_models == 0) {
        terminal_field(terminal, "models", "none has evaluated anything yet");
    }
}

void ctl_text_print(const struct terminal * terminal, const char * who, const struct ctl_order * order,
                    const struct ctl_result * result) {
    if (order->verb == CTL_STATUS) {
        print_status(terminal, who, result->status);
    } else if (order->verb != CTL_DUMP || strcmp(order->file, "-") != 0) {
        print_done(terminal, who, order, result);
    }
}
