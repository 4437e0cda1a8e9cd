// Reads the configuration from LLAMA_EXPERT_TRACE_* or from the API's struct, with defaults and limits.

#include "tracer/config.h"

#include "base/quantity.h"
#include "trace/write/chunk-ring.h"
#include "trace/write/trace-sampling.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX           "LLAMA_EXPERT_TRACE_"
#define SHOWN_MAX        200 // bytes of a value
#define INTERVAL_DEFAULT 10.0
#define INTERVAL_MIN     0.1
#define INTERVAL_MAX     86400.0
#define BUFFER_MIN       ((size_t) 1 << 20)
#define BUFFER_MAX       ((size_t) 1 << 40)
#define ROTATE_SIZE_MIN  (1 << 20)
#define SAMPLE_MAX       1e15
#define HOTTEST_MAX      1000

enum variable {
    STATS, NAMES, PER_LAYER, OUTPUT, INTERVAL, ROUTING, WEIGHTS, TOKENS, ON_FULL, BUFFER, ROTATE_SIZE, ROTATE_TIME,
    SAMPLE, KEEP, HOTTEST, QUIET, LIVE, DORMANT, N_VARIABLES
};

static const char * const variable_names[N_VARIABLES] = {
    [STATS]       = PREFIX "STATS",
    [NAMES]       = PREFIX "NAMES",
    [PER_LAYER]   = PREFIX "PER_LAYER",
    [OUTPUT]      = PREFIX "OUTPUT",
    [INTERVAL]    = PREFIX "INTERVAL",
    [ROUTING]     = PREFIX "ROUTING",
    [WEIGHTS]     = PREFIX "WEIGHTS",
    [TOKENS]      = PREFIX "TOKENS",
    [ON_FULL]     = PREFIX "ON_FULL",
    [BUFFER]      = PREFIX "BUFFER",
    [ROTATE_SIZE] = PREFIX "ROTATE_SIZE",
    [ROTATE_TIME] = PREFIX "ROTATE_TIME",
    [SAMPLE]      = PREFIX "SAMPLE",
    [KEEP]        = PREFIX "KEEP",
    [HOTTEST]     = PREFIX "HOTTEST",
    [QUIET]       = PREFIX "QUIET",
    [LIVE]        = PREFIX "LIVE",
    [DORMANT]     = PREFIX "DORMANT",
};

static void complain(struct text * remarks, enum variable variable, const char * value, const char * advice) {
    static atomic_bool said[N_VARIABLES];
    if (!atomic_exchange(&said[variable], true)) {
        text_add_line(remarks, "%s=%.*s%s is not understood: %s", variable_names[variable], SHOWN_MAX, value,
            strlen(value) > SHOWN_MAX ? "…" : "", advice);
    }
}

static bool read_switch(enum variable variable, struct text * remarks) {
    const char * value = secure_getenv(variable_names[variable]);
    if (!value || !*value || strcmp(value, "0") == 0) {
        return false;
    }
    if (strcmp(value, "1") == 0) {
        return true;
    }
    complain(remarks, variable, value, "1 is on, 0 or nothing is off; taken as off");
    return false;
}

// Returns `otherwise` where nothing is said, or nothing that is in the range.
static double read_quantity(enum variable variable, const struct quantity_unit * units, double min, double max,
                            double otherwise, struct text * remarks, const char * advice) {
    const char * value  = secure_getenv(variable_names[variable]);
    const double number = value && *value ? quantity_parse(value, units) : 0;
    if (number == 0 || (number >= min && number <= max)) {
        return number == 0 ? otherwise : number;
    }
    complain(remarks, variable, value, advice);
    return otherwise;
}

static double read_interval(struct text * remarks) {
    const char * value = secure_getenv(variable_names[INTERVAL]);
    if (!value || !*value) {
        return INTERVAL_DEFAULT;
    }
    const double seconds = quantity_parse(value, quantity_plain);
    if (seconds != 0 && !(seconds >= INTERVAL_MIN && seconds <= INTERVAL_MAX)) {
        complain(remarks, INTERVAL, value, "give the seconds between two writes of the output, 0.1 to 86400, or 0 for "
            "only at the end; taken as 10");
        return INTERVAL_DEFAULT;
    }
    return seconds;
}

static size_t read_hottest(struct text * remarks) {
    return (size_t) read_quantity(HOTTEST, quantity_plain, 1, HOTTEST_MAX, 0, remarks, "give how many experts of each "
        "layer are printed, 1 to 1000; taken as all of them");
}

static bool read_on_full(struct text * remarks) {
    const char * value = secure_getenv(variable_names[ON_FULL]);
    if (value && strcmp(value, "wait") == 0) {
        return true;
    }
    if (value && *value && strcmp(value, "drop") != 0) {
        complain(remarks, ON_FULL, value, "drop leaves out what the disk has no time for, wait makes the program wait; "
            "taken as drop");
    }
    return false;
}

// Returns NULL where there is none.
static const char * read_path(enum variable variable) {
    const char * value = secure_getenv(variable_names[variable]);
    return value && *value && strcmp(value, "0") != 0 ? value : NULL;
}

// What is asked for later needs somebody who can be asked.
static const char * read_live(bool is_dormant, struct text * remarks) {
    const char * value = read_path(LIVE);
    if (value && strcmp(value, "1") != 0 && value[0] != '/') {
        complain(remarks, LIVE, value, "1 is on, 0 or nothing is off, and the path of a folder that nobody else can "
            "write, from / on, is where it is shown; taken as 1");
        value = "1";
    }
    return value == NULL && is_dormant ? "1" : value;
}

static double buffer_max(void) {
    const size_t most = chunk_ring_most();
    return (double) (most < BUFFER_MAX ? most : BUFFER_MAX);
}

static void read_sampling(struct trace_options * options, struct text * remarks) {
    const char * value = secure_getenv(variable_names[SAMPLE]);
    options->sample = 1;
    if (value && *value && strcmp(value, "0") != 0 &&
        !quantity_seeded(value, SAMPLE_MAX, (double) TRACE_SEED_MAX, &options->sample, &options->seed)) {
        complain(remarks, SAMPLE, value, "give a whole number: one batch in so many is recorded, or with the seed of a "
            "choice that shall be made again, such as 100:7; taken as 1, all of them");
    }
}

static struct trace_options read_trace(struct text * remarks) {
    struct trace_options options = {
        .weights     = read_switch(WEIGHTS, remarks),
        .tokens      = read_switch(TOKENS, remarks),
        .wait        = read_on_full(remarks),
        .buffer      = (size_t) read_quantity(BUFFER, quantity_sizes, (double) BUFFER_MIN, buffer_max(),
            TRACE_BUFFER_DEFAULT, remarks, "give the memory for the routing trace, such as 64MiB, 1MiB at least and "
            "not more than the machine has; taken as 32MiB"),
        .rotate_size = (uint64_t) read_quantity(ROTATE_SIZE, quantity_sizes, ROTATE_SIZE_MIN, 0x1p60, 0, remarks,
            "give the size at which the routing trace goes on in a further file, such as 1GiB, 1MiB at least; taken as "
            "never"),
        .rotate_time = read_quantity(ROTATE_TIME, quantity_times, 1, 1e9, 0, remarks,
            "give the time after which the routing trace goes on in a further file, such as 3600 or 1h; taken as "
            "never"),
        .keep        = (uint64_t) read_quantity(KEEP, quantity_sizes, 1, 0x1p60, 0, remarks,
            "give the size that the files of all runs may take, such as 10GiB; taken as no limit"),
    };
    read_sampling(&options, remarks);
    return options;
}

static char * folder_of(const char * path) {
    const char * slash = strrchr(path, '/');
    char       * start = slash ? strndup(path, slash == path ? 1 : (size_t) (slash - path)) : strdup(".");
    char       * real  = start ? realpath(start, NULL) : NULL;
    free(start);
    return real;
}

static bool is_same_folder(const char * one_path, const char * other_path) {
    char     * one   = folder_of(one_path);
    char     * other = folder_of(other_path);
    const bool same  = one && other && strcmp(one, other) == 0;
    free(one);
    free(other);
    return same;
}

static bool is_same_path(const char * one, const char * other) {
    const char * one_slash   = strrchr(one,   '/');
    const char * other_slash = strrchr(other, '/');
    return strcmp(one, other) == 0 ||
           (strcmp(one_slash ? one_slash + 1 : one, other_slash ? other_slash + 1 : other) == 0 &&
            is_same_folder(one, other));
}

// One file cannot be both: the trace goes beside it. Returns false where memory runs out.
static bool part_paths(struct config * config, struct text * remarks) {
    static atomic_bool said;
    char * beside = NULL;
    if (!config->output || !config->routing || !is_same_path(config->output, config->routing)) {
        return true;
    }
    if (asprintf(&beside, "%s.moetrace", config->routing) < 0) {
        return false;
    }
    if (remarks && !atomic_exchange(&said, true)) {
        text_add_line(remarks, "%s and %s are one file, %.*s: the routing trace goes to %.*s", variable_names[OUTPUT],
            variable_names[ROUTING], PATH_MAX, config->output, PATH_MAX, beside);
    }
    free(config->routing);
    config->routing = beside;
    return true;
}

// What is asked for of a trace that is not.
static void miss_routing(struct text * remarks) {
    static atomic_bool said;
    for (int i = WEIGHTS; i <= SAMPLE; i++) {
        if (read_path((enum variable) i) && !atomic_exchange(&said, true)) {
            text_add_line(remarks, "%s has no effect without %s", variable_names[i], variable_names[ROUTING]);
        }
    }
}

// Returns false where memory runs out.
static bool take_path(char ** path, const char * from) {
    *path = from ? strdup(from) : NULL;
    return *path || !from;
}

bool config_from_env(struct config * config, struct text * remarks) {
    *config = (struct config) {
        .stats     = read_switch(STATS, remarks),
        .names     = read_switch(NAMES, remarks),
        .per_layer = read_switch(PER_LAYER, remarks),
        .hottest   = read_hottest(remarks),
        .quiet     = read_switch(QUIET, remarks),
        .interval  = read_interval(remarks),
        .trace     = read_trace(remarks),
        .dormant   = read_switch(DORMANT, remarks),
    };
    if (!take_path(&config->output, read_path(OUTPUT)) || !take_path(&config->routing, read_path(ROUTING)) ||
        !take_path(&config->live, read_live(config->dormant, remarks)) || !part_paths(config, remarks)) {
        text_add_line(remarks, "out of memory; nothing is traced");
        config_free(config);
    }
    if (!config->routing) {
        miss_routing(remarks);
    }
    if (!config->stats && (config->per_layer || config->output)) {
        static atomic_bool said;
        config->stats = true;
        if (!atomic_exchange(&said, true)) {
            text_add_line(remarks, "%s turns counting on", variable_names[config->output ? OUTPUT : PER_LAYER]);
        }
    }
    return config->stats || config->names || config->routing || config->live;
}

static double interval_in_range(double seconds) {
    return !(seconds > 0)         ? 0 :
           seconds < INTERVAL_MIN ? INTERVAL_MIN :
           seconds > INTERVAL_MAX ? INTERVAL_MAX : seconds;
}

bool config_from_api(struct config * config, const struct expert_tracer_config * from) {
    struct expert_tracer_config full = EXPERT_TRACER_CONFIG_INIT;
    if (from && from->size == 0) {
        return false;
    }
    if (from) {
        memcpy(&full, from, from->size < sizeof(full) ? from->size : sizeof(full));
    }
    const size_t   buffer      = full.buffer == 0 ? TRACE_BUFFER_DEFAULT : full.buffer;
    const uint64_t rotate_size = full.rotate_size;
    *config = (struct config) {
        .stats     = full.stats,
        .names     = full.names,
        .per_layer = full.per_layer,
        .interval  = interval_in_range(full.interval),
        .trace     = {
            .weights     = full.weights,
            .tokens      = full.tokens,
            .wait        = full.wait,
            .buffer      = buffer < BUFFER_MIN ? BUFFER_MIN : buffer,
            .rotate_size = rotate_size > 0 && rotate_size < ROTATE_SIZE_MIN ? ROTATE_SIZE_MIN : rotate_size,
            .rotate_time = full.rotate_time > 0 ? full.rotate_time : 0,
            .sample      = full.sample > 1 ? full.sample : 1,
            .seed        = full.seed > TRACE_SEED_MAX ? TRACE_SEED_MAX : full.seed,
        },
    };
    if (!take_path(&config->output,  full.output  && *full.output  ? full.output  : NULL) ||
        !take_path(&config->routing, full.routing && *full.routing ? full.routing : NULL) ||
        !part_paths(config, NULL)) {
        config_free(config);
        return false;
    }
    return true;
}

bool config_copy(struct config * config, const struct config * from) {
    *config = *from;
    config->routing = NULL;
    config->folder  = NULL;
    config->live    = NULL;
    if (!take_path(&config->output, from->output) || !take_path(&config->routing, from->routing) ||
        !take_path(&config->folder, from->folder) || !take_path(&config->live, from->live)) {
        config_free(config);
        return false;
    }
    return true;
}

void config_free(struct config * config) {
    free(config->output);
    free(config->routing);
    free(config->folder);
    free(config->live);
    *config = (struct config) { 0 };
}
