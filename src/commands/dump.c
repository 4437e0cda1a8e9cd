// `dump`: a routing trace as lines of text.

#include "base/clean.h"
#include "commands/commands.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-follow.h"
#include "tool/input/trace-input.h"
#include "tool/input/vocabulary.h"
#include "tool/options.h"
#include "trace/format/fingerprint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct options {
    struct trace_filter filter;
    const char        * model;
    bool                compact;
    bool                follow;
    const char        * file;
};

struct dump {
    FILE                      * out;
    const struct options      * options;
    const struct trace_info   * info;
    const struct vocabulary   * vocabulary; // NULL: none was named
    bool                        begun;      // a ubatch was there
    uint64_t                    next;       // number of the ubatch to come, if none is missing
    uint64_t                    lost;       // ubatches that do not check
};

static const struct option_spec options_known[] = {
    { 'c', "compact", OPTION_ON, OPTION_AT(compact), .help = "a line for each token, with all layers" },
    { 'f', "follow", OPTION_ON, OPTION_AT(follow),
      .help = "print what a running program adds, and the next parts of a rotated trace, until it ends" },
    { 'm', "model", OPTION_FILE, OPTION_AT(model), .value = "MODEL",
      .help = "the model's GGUF file: print the text of each token too, where the trace has token ids" },
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_dump, options, &argc, &argv, status)) {
        return false;
    }
    options->file = argv[0];
    *status = argc != 1 ? command_usage_error(&command_dump, "%s",
                              argc == 0 ? "which file?" : "one file at a time (see `cat`)")
            : options->follow ? trace_follow_check(&command_dump, options->file) : STATUS_OK;
    return *status == STATUS_OK;
}

//
// the header
//

static void print_comment(const struct dump * dump, const char * label, const char * text) {
    if (text != NULL) {
        char * clean = memory_text("# %-12s %s", label, text);
        fprintf(dump->out, "%s\n", clean_in_place(clean));
        free(clean);
    }
}

static void print_header(const struct dump * dump) {
    const struct trace_info * info = dump->info;
    print_comment(dump, "model",        info->model_name);
    print_comment(dump, "architecture", info->architecture);
    print_comment(dump, "file",         info->model_file);
    print_comment(dump, "fingerprint",  info->fingerprint);
    print_comment(dump, "engine",       info->engine);
    print_comment(dump, "capture",      info->capture);
    print_comment(dump, "trace",        info->trace_id);
    if (dump->options->follow) { // there will be more
        return;
    }
    fprintf(dump->out, "# %-12s %" PRIu64 " in %" PRIu64 " ubatches\n", "tokens", info->n_tokens, info->n_ubatches);
}

//
// a ubatch
//

static void print_time(const struct dump * dump, int64_t microseconds) {
    const time_t seconds = (time_t) (microseconds / 1000000);
    struct tm    parts;
    char         text[64];
    if (gmtime_r(&seconds, &parts) != NULL && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts) > 0) {
        fprintf(dump->out, " time=%s.%06dZ", text, (int) (microseconds % 1000000));
    }
}

static void print_ubatch(const struct dump * dump, const struct trace_ubatch * ubatch) {
    fprintf(dump->out, "ubatch=%" PRIu64 " context=%d tokens=%d", ubatch->number, (int) ubatch->context,
            (int) ubatch->n_tokens);
    print_time(dump, ubatch->time);
    fprintf(dump->out, "%s%s%s\n", ubatch->first ? " new-batch" : "", ubatch->warmup ? " warmup" : "",
            ubatch->mtp ? " mtp" : "");
}

static void print_missing(struct dump * dump, const struct trace_ubatch * ubatch) {
    if (ubatch->number > dump->next) {
        fprintf(dump->out, "missing ubatches=%" PRIu64 "-%" PRIu64 "\n", dump->next, ubatch->number - 1);
    }
    dump->next = ubatch->number + 1;
}

static void print_cuts(const struct dump * dump, const struct trace_ubatch * ubatch) {
    for (size_t i = 0; i < ubatch->n_cuts; i++) {
        const struct trace_cut * cut = &ubatch->cuts[i];
        fprintf(dump->out, "cut context=%d seq=%d.%d pos=%d-\n", (int) cut->context, (int) cut->sequence,
                (int) cut->life, (int) cut->position);
    }
}

//
// a token
//

static void print_place(const struct dump * dump, const struct trace_ubatch * ubatch, int32_t i_token) {
    const struct trace_token * token = &ubatch->tokens[i_token];
    fprintf(dump->out, "ubatch=%" PRIu64 " token=%d", ubatch->number, (int) i_token);
    if (token->sequence >= 0) {
        fprintf(dump->out, " seq=%d.%d", (int) token->sequence, (int) token->life);
    }
    if (token->position >= 0) {
        fprintf(dump->out, " pos=%d", (int) token->position);
    }
    if (dump->info->phases_known) {
        fputs(token->generation ? " generation" : " prompt", dump->out);
    }
    fprintf(dump->out, "%s%s%s%s", token->output ? " output" : "", ubatch->warmup ? " warmup" : "",
            ubatch->mtp ? " mtp" : "",
            token->rejected ? " rejected" : "");
}

static void print_text(const struct dump * dump, const struct trace_token * token) {
    if (token->id >= 0) {
        fprintf(dump->out, " id=%d", (int) token->id);
    }
    if (token->id >= 0 && dump->vocabulary != NULL) {
        fputs(" text=", dump->out);
        vocabulary_print(dump->vocabulary, token->id, dump->out);
    }
}

static void print_experts(const struct dump * dump, const struct trace_routing * routing, int32_t row) {
    const size_t first = (size_t) row * (size_t) routing->n_used;
    for (int32_t i = 0; i < routing->n_used; i++) {
        fprintf(dump->out, "%s%u", i == 0 ? "" : ",", (unsigned) routing->experts[first + (size_t) i]);
    }
}

static void print_weights(const struct dump * dump, const struct trace_routing * routing, int32_t row) {
    const size_t first = (size_t) row * (size_t) routing->n_used;
    for (int32_t i = 0; routing->weights != NULL && i < routing->n_used; i++) {
        fprintf(dump->out, "%s%.4g", i == 0 ? "" : ",", (double) routing->weights[first + (size_t) i]);
    }
}

// One line with all layers: "3:5,1" or, with weights, "3:5,1*0.6,0.4".
static void print_compact(const struct dump * dump, const struct trace_ubatch * ubatch, int32_t i_token) {
    print_place(dump, ubatch, i_token);
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                row     = trace_input_row(routing, i_token);
        if (row < 0 || !trace_filter_has_layer(&dump->options->filter, routing->layer)) {
            continue;
        }
        fprintf(dump->out, " %d:", (int) routing->layer);
        print_experts(dump, routing, row);
        fputs(routing->weights == NULL ? "" : "*", dump->out);
        print_weights(dump, routing, row);
    }
    print_text(dump, &ubatch->tokens[i_token]);
    fputc('\n', dump->out);
}

// A line for each layer.
static void print_layers(const struct dump * dump, const struct trace_ubatch * ubatch, int32_t i_token) {
    for (size_t i = 0; i < ubatch->n_layers; i++) {
        const struct trace_routing * routing = &ubatch->layers[i];
        const int32_t                row     = trace_input_row(routing, i_token);
        if (row < 0 || !trace_filter_has_layer(&dump->options->filter, routing->layer)) {
            continue;
        }
        print_place(dump, ubatch, i_token);
        fprintf(dump->out, " layer=%d experts=", (int) routing->layer);
        print_experts(dump, routing, row);
        fputs(routing->weights == NULL ? "" : " weights=", dump->out);
        print_weights(dump, routing, row);
        print_text(dump, &ubatch->tokens[i_token]);
        fputc('\n', dump->out);
    }
}

static bool has_any_token(const struct dump * dump, const struct trace_ubatch * ubatch) {
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        if (trace_filter_has_token(&dump->options->filter, ubatch, i)) {
            return true;
        }
    }
    return ubatch->n_tokens == 0;
}

static void dump_ubatch(struct dump * dump, const struct trace_ubatch * ubatch) {
    print_missing(dump, ubatch);
    print_cuts(dump, ubatch);
    if (!trace_filter_has_ubatch(&dump->options->filter, ubatch) || !has_any_token(dump, ubatch)) {
        return;
    }
    print_ubatch(dump, ubatch);
    for (int32_t i = 0; i < ubatch->n_tokens; i++) {
        if (!trace_filter_has_token(&dump->options->filter, ubatch, i)) {
            continue;
        }
        if (dump->options->compact) {
            print_compact(dump, ubatch, i);
        } else {
            print_layers(dump, ubatch, i);
        }
    }
}

//
// the file
//

// Prints what the cursor has. False: it is past all that is chosen.
static bool print_ubatches(struct dump * dump, struct trace_cursor * cursor) {
    const struct trace_filter * filter = &dump->options->filter;
    const uint64_t              first  = trace_filter_first_ubatch(filter);
    struct trace_ubatch         ubatch;
    bool                        past   = false;
    while (!past && ferror(dump->out) == 0 && trace_next(cursor, &ubatch)) {
        past = trace_filter_is_past(filter, ubatch.number);
        if (!past) {
            dump->next  = dump->begun || (first == 0 && dump->info->part == 0) ? dump->next : ubatch.number;
            dump->begun = true;
            dump_ubatch(dump, &ubatch);
        }
    }
    return !past;
}

static bool dump_trace(struct dump * dump, const struct trace * trace) {
    struct trace_cursor * cursor = trace_cursor_new(trace);
    if (cursor == NULL) {
        error_say("out of memory");
        return false;
    }
    trace_cursor_seek(cursor, trace_filter_first_ubatch(&dump->options->filter));
    print_header(dump);
    print_ubatches(dump, cursor);
    dump->lost = trace_cursor_lost(cursor);
    trace_cursor_free(cursor);
    struct error error;
    const bool   changed = trace_input_changed(trace, &error);
    if (changed) {
        error_say("%s", error.text);
    }
    return !changed;
}

static bool fits(const struct options * options, const struct trace_info * info) {
    struct error error;
    if (!trace_input_has_order(info, "dump", &error) || !trace_filter_fits(&options->filter, info, &error)) {
        error_say("%s: %s", trace_input_name(options->file), error.text);
        return false;
    }
    if (options->model != NULL && !info->has_tokens) {
        error_say("%s: has no token ids, so --model can show no text: record them with `run --tokens`",
                  trace_input_name(options->file));
        return false;
    }
    return true;
}

// The texts of another model's tokens would be wrong, and nothing else would tell.
static void check_model(const struct options * options, const struct trace_info * info) {
    char fingerprint[FINGERPRINT_MAX];
    const bool known = options->model != NULL && info->fingerprint != NULL
        && fingerprint_read(options->model, fingerprint);
    if (known && strcmp(fingerprint, info->fingerprint) != 0) {
        error_warning("%s is not the file that the trace is of: its texts may be wrong", options->model);
    }
}

static int dump_open(const struct options * options, const struct trace * trace, const struct vocabulary * vocabulary) {
    const struct trace_info * info = trace_about(trace);
    struct dump               dump = { .out = stdout, .options = options, .info = info, .vocabulary = vocabulary };
    check_model(options, info);
    return fits(options, info) && dump_trace(&dump, trace)
         ? trace_input_check(options->file, info, dump.lost) : STATUS_FAILED;
}

//
// a file that grows
//

struct following {
    struct dump           dump;
    struct trace_follow * follow;
    struct trace_cursor * cursor; // of the part that is open
    bool                  damaged;
};

static bool is_chosen(const struct dump * dump, uint64_t number) {
    const struct trace_ubatch ubatch = { .number = number };
    return trace_filter_has_ubatch(&dump->options->filter, &ubatch);
}

// What became known of ubatches that are printed already.
static void print_amendments(const struct dump * dump, const struct trace_amendments * news) {
    for (size_t i = 0; i < news->warmups.n; i++) {
        const struct trace_amendment * warmup = &news->warmups.items[i];
        const uint64_t end = warmup->n < dump->next - warmup->ubatch ? warmup->ubatch + warmup->n : dump->next;
        if (warmup->ubatch < dump->next && warmup->n > 0) {
            fprintf(dump->out, "warmup ubatches=%" PRIu64 "-%" PRIu64 "\n", warmup->ubatch, end - 1);
        }
    }
    for (size_t i = 0; i < news->rejections.n; i++) {
        const struct trace_amendment * rejection = &news->rejections.items[i];
        if (rejection->ubatch < dump->next && rejection->n > 0 && is_chosen(dump, rejection->ubatch)) {
            fprintf(dump->out, "rejected ubatch=%" PRIu64 " tokens=%" PRIu64 "-%" PRIu64 "\n", rejection->ubatch,
                    rejection->first, rejection->first + rejection->n - 1);
        }
    }
}

// Of the part that was entered: from its beginning, or from where an earlier part has ended.
static bool begin_part(struct following * following, enum follow_news news) {
    struct dump        * dump  = &following->dump;
    const struct trace * trace = trace_follow_trace(following->follow);
    trace_cursor_free(following->cursor);
    following->cursor = trace_cursor_new(trace);
    dump->info        = trace_about(trace);
    if (news == FOLLOW_ANOTHER) {
        dump->begun = false;
        dump->next  = 0;
        check_model(dump->options, dump->info);
        print_header(dump);
    }
    if (following->cursor == NULL) {
        error_say("out of memory");
        return false;
    }
    const uint64_t first = trace_filter_first_ubatch(&dump->options->filter);
    trace_cursor_seek(following->cursor, dump->begun && dump->next > first ? dump->next : first);
    return fits(dump->options, dump->info);
}

static void warn_of_damage(struct following * following) {
    const struct trace_info * info = following->dump.info;
    const uint64_t            lost = trace_cursor_lost(following->cursor);
    if (!following->damaged && trace_input_is_damaged(info, lost)) {
        following->damaged = true;
        trace_input_check(trace_name(trace_follow_trace(following->follow)), info, lost);
    }
}

// Returns the exit status.
static int go_on(struct following * following) {
    struct dump    * dump = &following->dump;
    enum follow_news news;
    while (follow_news_is_more(news = trace_follow_next(following->follow, 0))) {
        if (news != FOLLOW_GREW && !begin_part(following, news)) {
            return STATUS_FAILED;
        }
        if (dump->begun) {
            print_amendments(dump, trace_news(trace_follow_trace(following->follow)));
        }
        const bool more = print_ubatches(dump, following->cursor);
        warn_of_damage(following);
        if (fflush(dump->out) != 0 || ferror(dump->out) != 0 || !more) {
            break;
        }
    }
    return news == FOLLOW_FAILED || following->damaged ? STATUS_FAILED : STATUS_OK;
}

static int dump_follow(const struct options * options, const struct vocabulary * vocabulary) {
    struct following following = {
        .dump   = { .out = stdout, .options = options, .vocabulary = vocabulary },
        .follow = trace_follow_new(options->file),
    };
    const int status = go_on(&following);
    trace_cursor_free(following.cursor);
    trace_follow_free(following.follow);
    return status;
}

static int dump_at_once(const struct options * options, const struct vocabulary * vocabulary) {
    struct trace * trace = trace_input_open(options->file);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    const int status = dump_open(options, trace, vocabulary);
    trace_close(trace);
    return status;
}

static int dump_file(const struct options * options) {
    struct vocabulary * vocabulary = NULL;
    struct error        error;
    if (options->model != NULL && (vocabulary = vocabulary_open(options->model, &error)) == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    const int status = options->follow ? dump_follow(options, vocabulary) : dump_at_once(options, vocabulary);
    vocabulary_close(vocabulary);
    return status;
}

static int dump_main(int argc, char ** argv) {
    struct options options = {
        .filter = { .default_phases = PHASES_ALL, .mtp = true },
    };
    int status;
    if (parse_options(&options, argc, argv, &status)) {
        status = dump_file(&options);
    }
    trace_filter_free(&options.filter);
    return status;
}

const struct command command_dump = {
    .name    = "dump",
    .summary = "prints a routing trace, a line for each token and layer",
    .usage   = "[OPTION]… FILE",
    .about   = "Prints a routing trace: a line for each token and layer, with the experts in the router's order. "
               "Each line says all of its token, so that grep can choose.",
    .options = options_known,
    .notes   = "A warm-up is printed too unless --no-warmup or --phase leaves it out, and so is what a "
               "multi-token-prediction head evaluated. A FILE is what `run --routing` wrote, - the standard input. "
               "With --follow it may be a file that is not there yet. What turns out later of ubatches that are "
               "printed already has lines of its own then, such as `warmup ubatches=0-1` and `rejected ubatch=7 "
               "tokens=1-3`.",
    .main    = dump_main,
};
