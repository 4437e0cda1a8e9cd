// The command `cache`: what caches of experts would hit in a trace, as text, JSON or a page.

#include "answers/cache-fill.h"
#include "commands/cache/cache-json.h"
#include "commands/cache/cache-text.h"
#include "commands/commands.h"
#include "commands/follow-answers.h"
#include "tool/document.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-input.h"
#include "tool/options.h"
#include "tool/terminal.h"

#include <stdlib.h>
#include <string.h>

#define ROWS_MAX    1000000
#define BUDGETS_MAX 64

struct options {
    struct cache_questions questions;
    struct trace_filter    filter;
    uint64_t             * budgets; // the questions'
    struct document_output output;
    enum terminal_color    color;
    bool                   follow;
    const char           * file;
};

//
// the options
//

// "300,600": as llama.cpp's option takes them, one or several.
static bool take_budgets(const char * text, void * place, struct error * error) {
    (void) error;
    struct options * options = place;
    const char     * at      = text;
    do {
        char                   * end;
        const unsigned long long mib = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || mib == 0 || mib >= 1ull << 40 || (*end != ',' && *end != '\0')) {
            return false;
        }
        options->budgets = memory_resize(options->budgets, options->questions.n_budgets + 1, sizeof(*options->budgets));
        options->budgets[options->questions.n_budgets++] = (uint64_t) mib << 20;
        options->questions.budgets = options->budgets;
        at = *end == ',' ? end + 1 : end;
    } while (*at != '\0');
    return true;
}

static bool take_max_rows(const char * text, void * place, struct error * error) {
    (void) error;
    char     * end;
    const long rows = strtol(text, &end, 10);
    *(int32_t *) place = (int32_t) rows;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && rows <= ROWS_MAX;
}

#define NEEDS_RATE "needs bytes a second, such as 25GB/s"

static const struct option_spec options_known[] = {
    { 0, "vram", OPTION_BYTES, OPTION_AT(questions.vram), .value = "SIZE", .min = 1 << 20,
      .expects = "needs a size of 1MiB at least, such as 6GiB",
      .help    = "recommend how to use SIZE of device memory, such as 6GiB, in whole MiB: for llama.cpp's cache, whole "
                 "layers (--n-cpu-moe), or some layers as a whole beside that cache (-ot). Without it advice is about "
                 "a quarter of the experts" },
    { 0, "moe-cache-mib", OPTION_TEXT, 0, .value = "N", .take = take_budgets,
      .expects = "needs numbers of MiB, such as 2048 or 1024,2048,4096",
      .help    = "also rows of these sizes, as llama.cpp's option takes them: a list such as 1024,2048. Without --vram "
                 "advice is about the largest" },
    { 0, "pcie", OPTION_RATE, OPTION_AT(questions.pcie), .value = "RATE", .expects = NEEDS_RATE,
      .help = "bytes a second from memory to the device, such as 25GB/s" },
    { 0, "ram", OPTION_RATE, OPTION_AT(questions.ram), .value = "RATE", .expects = NEEDS_RATE,
      .help = "bytes a second that the processor reads from memory, such as 60GB/s" },
    { 0, "tg", OPTION_NUMBER, OPTION_AT(questions.tg), .value = "N",
      .expects = "needs generated tokens a second, such as 18",
      .help    = "tokens generated a second with the experts in memory; with --pcie and --ram: print the tokens a "
                 "second to expect at every size, and the hit rate at which a cache breaks even" },
    { 0, "vram-rate", OPTION_RATE, OPTION_AT(questions.vram_rate), .value = "RATE", .expects = NEEDS_RATE,
      .help = "bytes a second that the device reads from its own memory (default: as if no time)" },
    { 0, "max-rows", OPTION_TEXT, OPTION_AT(questions.max_rows), .value = "N", .take = take_max_rows,
      .expects = "needs a number of tokens, or 0 for no limit",
      .help    = "ubatches of more tokens take what is there and change nothing (default: 32, as in llama.cpp; 0: "
                 "no limit)" },
    { 0, "half-life", OPTION_NUMBER, OPTION_AT(questions.half_life), .value = "N",
      .expects = "needs a number of ubatches above 0",
      .help    = "LFU: a use counts half after so many ubatches (default: 256)" },
    { 'l', "per-layer", OPTION_ON, OPTION_AT(questions.per_layer), .help = "also each layer's own cache" },
    FOLLOW_OPTION(follow),
    DOCUMENT_OPTIONS(output),
    TERMINAL_COLOR_OPTION(color),
    TRACE_FILTER_OPTIONS(filter),
    { 0 },
};

static int check_options(const struct options * options) {
    const struct cache_questions * questions = &options->questions;
    const bool any_time = questions->pcie > 0 || questions->ram > 0 || questions->tg > 0;
    const bool all_time = questions->pcie > 0 && questions->ram > 0 && questions->tg > 0;
    if (any_time && !all_time) {
        return command_usage_error(&command_cache, "--pcie, --ram and --tg go together: the time depends on all three");
    }
    if (questions->vram_rate > 0 && !all_time) {
        return command_usage_error(&command_cache, "--vram-rate goes with --pcie, --ram and --tg");
    }
    if (questions->n_budgets > BUDGETS_MAX) {
        return command_usage_error(&command_cache, "--moe-cache-mib: %d sizes at most", BUDGETS_MAX);
    }
    const int status = options->follow ? follow_answers_check(&command_cache, options->file, &options->output)
                                       : STATUS_OK;
    return status == STATUS_OK ? document_check(&command_cache, &options->output) : status;
}

// False: *status is the exit status, and why is told.
static bool parse_options(struct options * options, int argc, char ** argv, int * status) {
    if (!options_parse(&command_cache, options, &argc, &argv, status)) {
        return false;
    }
    options->file = argv[0];
    *status = argc == 1 ? check_options(options) : command_usage_error(&command_cache, "%s",
        argc == 0 ? "which file?" : "one file at a time (see `cat`)");
    return *status == STATUS_OK;
}

//
// the answer
//

static int write_out(const struct options * options, const struct cache_answer * answer,
                     const struct terminal * terminal) {
    if (document_leaves_terminal(&options->output)) {
        cache_text_print_verdict(answer, terminal);
        fputc('\n', terminal->out);
        cache_text_print_model(answer, terminal);
        cache_text_print(answer, terminal, options->questions.per_layer);
    }
    if (!document_is_wanted(&options->output)) {
        return STATUS_OK;
    }
    json_t * document = cache_json(answer);
    json_object_set_new(document, "file", json_string(trace_input_name(options->file)));
    return document_put(&options->output, document);
}

static int cache_open(const struct options * options, const struct trace * trace) {
    struct error          error;
    uint64_t              lost   = 0;
    struct cache_answer * answer = NULL;
    if (!trace_filter_fits(&options->filter, trace_about(trace), &error)
        || (answer = cache_fill(trace, &options->questions, NULL, &lost, &error)) == NULL) {
        error_say("%s: %s", trace_input_name(options->file), error.text);
        return STATUS_FAILED;
    }
    const struct terminal terminal = terminal_of(stdout, options->color);
    const int             written  = write_out(options, answer, &terminal);
    const int             whole    = trace_input_check(options->file, trace_about(trace), lost);
    cache_answer_free(answer);
    return written == STATUS_OK ? whole : written;
}

static int cache_file(const struct options * options) {
    struct trace * trace = trace_input_open(options->file);
    if (trace == NULL) {
        return STATUS_FAILED;
    }
    const int status = cache_open(options, trace);
    trace_close(trace);
    return status;
}

// See follow-answers.h.
static bool cache_anew(const void * self, const struct trace * trace, const struct terminal * terminal, int * written,
                       uint64_t * lost, struct error * error) {
    const struct options * options = self;
    struct error           cause;
    struct cache_answer  * answer  = cache_fill(trace, &options->questions, NULL, lost, &cause);
    if (answer == NULL) {
        return error_set(error, "%s: %s", options->file, cause.text);
    }
    *written = write_out(options, answer, terminal);
    cache_answer_free(answer);
    return true;
}

static int cache_follow(const struct options * options) {
    const struct follow_answers wish = {
        .file   = options->file,
        .output = &options->output,
        .color  = options->color,
        .filter = &options->filter,
        .answer = cache_anew,
        .self   = options,
    };
    return follow_answers(&wish);
}

static int cache_main(int argc, char ** argv) {
    struct options options = { .filter = { .default_phases = PHASES_ALL } };
    int            status;
    options.questions = cache_questions_default(&options.filter);
    if (parse_options(&options, argc, argv, &status)) {
        status = options.follow ? cache_follow(&options) : cache_file(&options);
    }
    trace_filter_free(&options.filter);
    free(options.budgets);
    return status;
}

const struct command command_cache = {
    .name    = "cache",
    .summary = "tells what a cache of experts would hit, and what to do with device memory",
    .usage   = "[OPTION]… FILE",
    .about   = "Tells what to give llama.cpp, what to expect of it, and how sure that is; below it, of how many "
               "requests for an expert a cache in device memory would have had it, for every size: an LRU cache, one "
               "of the most frequently used, the hottest experts pinned, llama.cpp's own --moe-cache-mib, and the "
               "best that any cache can do, all of as many bytes.",
    .options = options_known,
    .notes   = "A verdict takes 8 conversations, or about 1000 generated tokens; where a trace has less, or does not "
               "tell, it says how much more to record. The warm-up is seen by the caches, and not judged; with "
               "--no-warmup it is not seen either. A FILE is what `run --routing` or `import` wrote, - the standard "
               "input. docs/analysis.md tells what the numbers mean.",
    .main    = cache_main,
};
