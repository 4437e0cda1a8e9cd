#include "answers/cache-answer.h"
#include "commands/cache/cache-json.h"
#include "commands/cache/cache-text.h"
#include "tool/command.h"
#include "tool/document.h"
#include "tool/error.h"
#include "tool/input/trace-filter.h"
#include "tool/input/trace-input.h"
#include "tool/quantity.h"
#include "tool/terminal.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 1000000

struct options {
    struct cache_questions questions;
    struct trace_filter    filter;
    uint64_t             * budgets; // the questions'
    struct document_output output;
    enum terminal_color    color;
    const char           * file;
};

//
// the options
//

enum {
    OPTION_VRAM = 256,
    OPTION_MOE_CACHE_MIB,
    OPTION_PCIE,
    OPTION_RAM,
    OPTION_VRAM_RATE,
    OPTION_TG,
    OPTION_MAX_ROWS,
    OPTION_HALF_LIFE,
    OPTION_JSON,
    OPTION_HTML,
    OPTION_FORCE,
    OPTION_COLOR,
};

static bool take_vram(struct options * options, const char * text, struct error * error) {
    return (quantity_bytes(text, &options->questions.vram) && options->questions.vram >= (uint64_t) 1 << 20)
        || error_set(error, "--vram needs a size of 1MiB at least, such as 6GiB, not '%s'", text);
}

// "300,600": as llama.cpp's option takes them, one or several.
static bool take_budgets(struct options * options, const char * text, struct error * error) {
    const char * at = text;
    do {
        char             * end;
        const unsigned long long mib = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || mib == 0 || mib >= (unsigned long long) 1 << 40 || (*end != ',' && *end != '\0')) {
            return error_set(error, "--moe-cache-mib needs numbers of MiB, such as 2048 or 1024,2048,4096, not '%s'", text);
        }
        options->budgets = memory_resize(options->budgets, options->questions.n_budgets + 1, sizeof(*options->budgets));
        options->budgets[options->questions.n_budgets++] = (uint64_t) mib << 20;
        options->questions.budgets = options->budgets;
        at = *end == ',' ? end + 1 : end;
    } while (*at != '\0');
    return true;
}

static bool take_rate(double * rate, const char * name, const char * text, struct error * error) {
    return quantity_rate(text, rate) || error_set(error, "%s needs bytes a second, such as 25GB/s, not '%s'", name, text);
}

static bool take_max_rows(struct options * options, const char * text, struct error * error) {
    char     * end;
    const long rows = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || rows > ROWS_MAX) {
        return error_set(error, "--max-rows needs a number of tokens, or 0 for no limit, not '%s'", text);
    }
    options->questions.max_rows = (int32_t) rows;
    return true;
}

static enum trace_filter_answer answer_of(bool ok) {
    return ok ? TRACE_FILTER_TAKEN : TRACE_FILTER_WRONG;
}

// TRACE_FILTER_OTHER: it is none of these.
static enum trace_filter_answer take_option(struct options * options, int option, struct error * error) {
    struct cache_questions * questions = &options->questions;
    switch (option) {
        case OPTION_VRAM:          return answer_of(take_vram(options, optarg, error));
        case OPTION_MOE_CACHE_MIB: return answer_of(take_budgets(options, optarg, error));
        case OPTION_PCIE:          return answer_of(take_rate(&questions->pcie,      "--pcie",      optarg, error));
        case OPTION_RAM:           return answer_of(take_rate(&questions->ram,       "--ram",       optarg, error));
        case OPTION_VRAM_RATE:     return answer_of(take_rate(&questions->vram_rate, "--vram-rate", optarg, error));
        case OPTION_TG:
            return answer_of(quantity_number(optarg, &questions->tg) || error_set(error, "--tg needs generated tokens a second, such as 18, not '%s'", optarg));
        case OPTION_MAX_ROWS:      return answer_of(take_max_rows(options, optarg, error));
        case OPTION_HALF_LIFE:
            return answer_of(quantity_number(optarg, &questions->half_life) || error_set(error, "--half-life needs a number of ubatches above 0, not '%s'", optarg));
        case OPTION_COLOR:
            return answer_of(terminal_color_parse(optarg, &options->color) || error_set(error, "--color is auto, always or never, not '%s'", optarg));
        case OPTION_JSON: options->output.json         = true;   return TRACE_FILTER_TAKEN;
        case OPTION_HTML: options->output.page         = optarg; return TRACE_FILTER_TAKEN;
        case OPTION_FORCE: options->output.force       = true;   return TRACE_FILTER_TAKEN;
        case 'l':         options->questions.per_layer = true;   return TRACE_FILTER_TAKEN;
        default:          return trace_filter_option(&options->filter, option, optarg, error);
    }
}

// STATUS_OK, or the exit status; *help where help was asked for.
static int parse_options(struct options * options, int argc, char ** argv, bool * help) {
    static const struct option known[] = {
        TRACE_FILTER_OPTIONS,
        { "vram",          required_argument, NULL, OPTION_VRAM          },
        { "moe-cache-mib", required_argument, NULL, OPTION_MOE_CACHE_MIB },
        { "pcie",          required_argument, NULL, OPTION_PCIE          },
        { "ram",           required_argument, NULL, OPTION_RAM           },
        { "vram-rate",     required_argument, NULL, OPTION_VRAM_RATE     },
        { "tg",            required_argument, NULL, OPTION_TG            },
        { "max-rows",      required_argument, NULL, OPTION_MAX_ROWS      },
        { "half-life",     required_argument, NULL, OPTION_HALF_LIFE     },
        { "per-layer",     no_argument,       NULL, 'l'                  },
        { "json",          no_argument,       NULL, OPTION_JSON          },
        { "html",          required_argument, NULL, OPTION_HTML          },
        { "force",         no_argument,       NULL, OPTION_FORCE         },
        { "color",         required_argument, NULL, OPTION_COLOR         },
        { "help",          no_argument,       NULL, 'h'                  },
        { NULL, 0, NULL, 0 },
    };
    for (int option; (option = getopt_long(argc, argv, ":lh", known, NULL)) != -1;) {
        struct error error;
        if (option == 'h') {
            *help = true;
            return STATUS_OK;
        }
        switch (take_option(options, option, &error)) {
            case TRACE_FILTER_TAKEN: break;
            case TRACE_FILTER_WRONG: return command_usage_error(&command_cache, "%s", error.text);
            case TRACE_FILTER_OTHER: return command_option_error(&command_cache, argv, option);
        }
    }
    options->file = argv[optind];
    if (argc - optind != 1) {
        return command_usage_error(&command_cache, argc == optind ? "which file?" : "one file at a time (see `cat`)");
    }
    return STATUS_OK;
}

static int check_options(const struct options * options) {
    const struct cache_questions * questions = &options->questions;
    const bool any_time = questions->pcie > 0 || questions->ram > 0 || questions->tg > 0;
    const bool all_time = questions->pcie > 0 && questions->ram > 0 && questions->tg > 0;
    if (any_time && !all_time) {
        return command_usage_error(&command_cache, "--pcie, --ram and --tg go together: the time depends on all three");
    }
    return document_check(&command_cache, &options->output);
}

//
// the answer
//

static int write_out(const struct options * options, const struct cache_answer * answer) {
    if (document_leaves_terminal(&options->output)) {
        const struct terminal terminal = terminal_of(stdout, options->color);
        cache_text_print_model(answer, &terminal);
        cache_text_print(answer, &terminal, options->questions.per_layer);
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
        || (answer = cache_answer_new(trace, &options->questions, NULL, &lost, &error)) == NULL) {
        error_say("%s: %s", trace_input_name(options->file), error.text);
        return STATUS_FAILED;
    }
    const int written = write_out(options, answer);
    const int whole   = trace_input_check(options->file, trace_about(trace), lost);
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

static int cache_main(int argc, char ** argv) {
    struct options options = { .filter = { .default_phases = TRACE_PHASE_PROMPT | TRACE_PHASE_GENERATION | TRACE_PHASE_WARMUP } };
    bool           help    = false;
    options.questions = cache_questions_default(&options.filter);
    int status = parse_options(&options, argc, argv, &help);
    if (help) {
        status = command_help(&command_cache);
    } else if (status == STATUS_OK) {
        status = check_options(&options);
        status = status == STATUS_OK ? cache_file(&options) : status;
    }
    trace_filter_free(&options.filter);
    free(options.budgets);
    return status;
}

const struct command command_cache = {
    .name    = "cache",
    .summary = "tells what a cache of experts would hit, and what to do with device memory",
    .main    = cache_main,
    .help    =
        "usage: llama-expert-tracer cache [OPTION]… FILE\n"
        "\n"
        "Tells of how many requests for an expert a cache in device memory would have had it,\n"
        "for every size: an LRU cache, one of the most frequently used, the hottest experts\n"
        "pinned, llama.cpp's own --moe-cache-mib, and the best that any cache can do.\n"
        "\n"
        "      --vram SIZE         what is the best use of so much device memory (6GiB)?\n"
        "      --moe-cache-mib N   also llama.cpp's own cache of this size: a list such as 1024,2048\n"
        "      --pcie RATE         bytes a second from memory to the device (25GB/s),\n"
        "      --ram RATE          that the processor reads from memory (60GB/s), and\n"
        "      --tg N              tokens generated a second with the experts in memory:\n"
        "                          tell the time, and the hit rate at which a cache breaks even\n"
        "      --vram-rate RATE    bytes a second that the device reads (default: as if no time)\n"
        "      --max-rows N        ubatches of more tokens take what is there and change nothing\n"
        "                          (default: 32, as in llama.cpp; 0: no limit)\n"
        "      --half-life N       LFU: a use counts half after so many ubatches (default: 256)\n"
        "  -l, --per-layer         also each layer's own cache\n"
        "      --layer LIST        only these layers, such as 0,3-5,40-\n"
        "      --sequence LIST     only tokens of these sequences\n"
        "      --tokens LIST       only tokens at these positions of their sequence, from 0\n"
        "      --ubatch LIST       only these ubatches\n"
        "      --phase LIST        only of prompt, generation, warmup\n"
        "      --no-warmup         not the warm-up, which a cache sees too\n"
        "      --no-rejected       no tokens that were drafted and rejected\n"
        "      --mtp               also layers of a multi-token-prediction head\n"
        "      --json              for machines\n"
        "      --html OUT          a page with pictures\n"
        "      --force             the page replaces whatever is there, not only an earlier page\n"
        "      --color WHEN        auto (the default), always or never\n"
        "  -h, --help              show this\n"
        "\n"
        "A FILE is what `run --routing` wrote, - the standard input. docs/analysis.md tells\n"
        "what the numbers mean.\n",
};
