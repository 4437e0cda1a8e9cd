// Prints the values of an info answer, a field a line.

#include "commands/info/info-text.h"

#include "commands/model-text.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

static char * size_text(int64_t bytes) {
    static const char * const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    double value = (double) bytes;
    size_t unit  = 0;
    while (value >= 1024.0 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024.0;
        unit++;
    }
    return unit == 0 ? memory_text("%lld %s", (long long) bytes, units[0]) : memory_text("%.2f %s", value, units[unit]);
}

static char * time_text(int64_t microseconds) {
    const time_t seconds = (time_t) (microseconds / 1000000);
    struct tm    parts;
    char         text[64];
    if (localtime_r(&seconds, &parts) == NULL || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts) == 0) {
        return memory_text("?");
    }
    return memory_text("%s", text);
}

static char * range_text(struct info_range range) {
    if (range.least == range.most) {
        return memory_text("%lld", (long long) range.most);
    }
    return memory_text("%lld to %lld", (long long) range.least, (long long) range.most);
}

static const char * or_unknown(const char * text) {
    return text == NULL || *text == '\0' ? "unknown" : text;
}

static void print_model(const struct terminal * terminal, const struct trace_info * info) {
    const struct answer_model model = { info->model_name, info->architecture, info->model_file, info->engine };
    terminal_field_free(terminal, "model", model_text(&model));
    if (info->model_file != NULL) {
        terminal_field(terminal, "", info->model_file);
    }
    if (info->fingerprint != NULL) {
        terminal_field_free(terminal, "", memory_text("fingerprint %s", info->fingerprint));
    }
}

static void print_origin(const struct terminal * terminal, const struct trace_info * info) {
    terminal_field(terminal, "engine",  or_unknown(info->engine));
    terminal_field(terminal, "capture", or_unknown(info->capture));
    if (info->shared_window > 0) {
        terminal_field(terminal, "tracer", or_unknown(info->tracer));
    } else {
        terminal_field_free(terminal, "tracer", memory_text("%s, run %s, process %lld", or_unknown(info->tracer),
                                                            or_unknown(info->run), (long long) info->pid));
    }
    terminal_field_free(terminal, "trace", memory_text("%s, part %lld", or_unknown(info->trace_id),
                                                       (long long) info->part));
}

static void print_layers(const struct terminal * terminal, const struct info_answer * answer) {
    terminal_field_free(terminal, "layers", memory_text("%d, %zu of them with experts", (int) answer->info->n_layer,
                                                        answer->n_layers));
    if (answer->n_layers > 0) {
        char * text = memory_append(range_text(answer->n_expert), memory_text(", "));
        text = memory_append(text, range_text(answer->n_used));
        terminal_field_free(terminal, "experts", memory_append(text, memory_text(" for each token")));
    }
    if (answer->bytes >= 0) {
        const struct info_range range = answer->expert_bytes;
        const char            * where = range.least == range.most ? " in a layer" : " in a layer at most";
        char                  * text  = memory_append(size_text(range.most), memory_text("%s, in all layers ", where));
        terminal_field_free(terminal, "one expert", memory_append(text, size_text(answer->bytes)));
    }
}

static void print_tokens(const struct terminal * terminal, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    char * text = memory_text("%" PRIu64, answer->prompt + answer->generation);
    if (info->phases_known) {
        text = memory_append(text, memory_text(": %" PRIu64 " prompt, %" PRIu64 " generation", answer->prompt,
                                               answer->generation));
    }
    if (answer->warmup > 0) {
        text = memory_append(text, memory_text("; not counted: %" PRIu64 " warm-up", answer->warmup));
    }
    terminal_field_free(terminal, "tokens", text);
    if (answer->rejected > 0) {
        terminal_field_free(terminal, "", memory_text("%" PRIu64 " of them drafted and rejected", answer->rejected));
    }
}

static void print_sharing(const struct terminal * terminal, const struct trace_info * info) {
    if (info->shared_window == 0) {
        return;
    }
    const long long window = (long long) info->shared_window;
    terminal_field_free(terminal, "shared",
                        memory_text("counts of each expert of each layer, in windows of %lld tokens or more", window));
    terminal_field(terminal, "", "gone: order, positions, sequences, times, token ids, gate weights");
    if (info->shared_left_out > 0) {
        terminal_field_free(terminal, "", memory_text("left out: %lld tokens of a phase that has fewer than a window",
                                                      (long long) info->shared_left_out));
    }
}

static void print_sequences(const struct terminal * terminal, const struct info_answer * answer) {
    if (!answer->knows_sequences) {
        terminal_field(terminal, "sequences", "unknown");
        return;
    }
    char * text = memory_text("%zu with %zu %s", answer->sequences, answer->lives,
                              answer->lives == 1 ? "life" : "lives");
    if (answer->contexts > 1) {
        text = memory_append(text, memory_text(", in %zu contexts", answer->contexts));
    }
    if (answer->cuts > 0) {
        text = memory_append(text, memory_text(", cut %" PRIu64 " %s", answer->cuts,
                                               answer->cuts == 1 ? "time" : "times"));
    }
    terminal_field_free(terminal, "sequences", text);
}

static void print_ubatches(const struct terminal * terminal, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    if (info->shared_window > 0) {
        terminal_field_free(terminal, "windows",     memory_text("%" PRIu64, answer->ubatches));
        terminal_field_free(terminal, "activations", memory_text("%" PRIu64, answer->activations));
        return;
    }
    char * text = memory_text("%" PRIu64 " in %" PRIu64 " batches", answer->ubatches, answer->batches);
    if (answer->warmup_ubatches > 0) {
        text = memory_append(text, memory_text(", %" PRIu64 " of them warm-up", answer->warmup_ubatches));
    }
    if (answer->mtp_ubatches > 0) {
        text = memory_append(text, memory_text(", %" PRIu64 " of a multi-token-prediction head", answer->mtp_ubatches));
    }
    terminal_field_free(terminal, "ubatches", text);
    text = memory_text("%" PRIu64, answer->activations);
    if (answer->warmup_activations > 0) {
        text = memory_append(text, memory_text("; not counted: %" PRIu64 " of warm-up", answer->warmup_activations));
    }
    terminal_field_free(terminal, "activations", text);
}

static void print_time(const struct terminal * terminal, const struct info_answer * answer) {
    if (answer->begin > 0) {
        char * end  = memory_append(time_text(answer->end), memory_text(" (%.3f s)", answer->seconds));
        char * text = memory_append(time_text(answer->begin), memory_append(memory_text(" to "), end));
        terminal_field_free(terminal, "recorded", text);
    }
}

static void print_size(const struct terminal * terminal, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    char * text = size_text((int64_t) info->file_size);
    if (!isnan(answer->bytes_per_activation)) {
        text = memory_append(text, memory_text(", %.3f bytes for each activation", answer->bytes_per_activation));
    }
    terminal_field_free(terminal, "size", memory_append(text, memory_text("%s", info->is_packed ? ", packed" : "")));
    terminal_field_free(terminal, "records", memory_text("experts%s%s", info->has_weights ? ", gate weights" : "",
                                                         info->has_tokens ? ", token ids" : ""));
}

static void print_missing(const struct terminal * terminal, const char * label, uint64_t ubatches, uint64_t tokens,
                          const char * why) {
    if (ubatches > 0 || tokens > 0) {
        terminal_field_free(terminal, label, memory_text("%" PRIu64 " ubatches with %" PRIu64 " tokens: %s", ubatches,
                                                         tokens, why));
    }
}

static void print_ending(const struct terminal * terminal, const struct info_answer * answer) {
    const struct trace_info * info = answer->info;
    static const char * const texts[] = {
        [TRACE_COMPLETE]    = "complete",
        [TRACE_INCOMPLETE]  = "incomplete: something is missing",
        [TRACE_ROTATED]     = "rotated: it goes on in the next file",
        [TRACE_INTERRUPTED] = "interrupted: the program still runs, or was killed",
    };
    if (info->sample > 1) {
        terminal_field_free(terminal, "sampled", info->seed >= 0 ?
            memory_text("one batch in %lld, at random (seed %lld)", (long long) info->sample, (long long) info->seed) :
            memory_text("one batch in %lld", (long long) info->sample));
    }
    print_missing(terminal, "left out", info->left_out_ubatches, info->left_out_tokens, "sampled");
    print_missing(terminal, "dropped",  info->dropped_ubatches,  info->dropped_tokens,
                  "the disk could not keep up, memory was short, or the routing is not known");
    if (answer->is_damaged) {
        terminal_field_free(terminal, "damaged", memory_text("%" PRIu64 " ubatches or more cannot be read",
                                                             info->lost_ubatches + answer->lost));
    }
    terminal_field(terminal, "ended", texts[info->ending]);
    if (info->stopped != NULL) {
        terminal_field_free(terminal, "", memory_text("it stopped early: %s", info->stopped));
    }
}

void info_text_print(const struct info_answer * answer, const struct terminal * terminal) {
    print_model    (terminal, answer->info);
    print_origin   (terminal, answer->info);
    print_layers   (terminal, answer);
    print_sharing  (terminal, answer->info);
    print_tokens   (terminal, answer);
    print_sequences(terminal, answer);
    print_ubatches (terminal, answer);
    print_time     (terminal, answer);
    print_size     (terminal, answer);
    print_ending   (terminal, answer);
}
