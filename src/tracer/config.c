#include "config.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX           "LLAMA_EXPERT_TRACE_"
#define INTERVAL_DEFAULT 10.0
#define INTERVAL_MIN     0.1
#define INTERVAL_MAX     86400.0

enum variable { STATS, NAMES, PER_LAYER, OUTPUT, INTERVAL, N_VARIABLES };

static const char * const variable_names[N_VARIABLES] = {
    [STATS]     = PREFIX "STATS",
    [NAMES]     = PREFIX "NAMES",
    [PER_LAYER] = PREFIX "PER_LAYER",
    [OUTPUT]    = PREFIX "OUTPUT",
    [INTERVAL]  = PREFIX "INTERVAL",
};

static void complain(struct text * remarks, enum variable variable, const char * value, const char * advice) {
    static atomic_bool said[N_VARIABLES];
    if (!atomic_exchange(&said[variable], true)) {
        text_add(remarks, LOG_PREFIX "%s=%s is not understood: %s\n", variable_names[variable], value, advice);
    }
}

static bool read_switch(enum variable variable, struct text * remarks) {
    const char * value = getenv(variable_names[variable]);
    if (!value || !*value || strcmp(value, "0") == 0) {
        return false;
    }
    if (strcmp(value, "1") == 0) {
        return true;
    }
    complain(remarks, variable, value, "1 is on, 0 or nothing is off; taken as off");
    return false;
}

// Digits with or without a dot, whatever the program's locale. What is no number gives one that is in no range.
static double seconds_of(const char * value) {
    double digits    = 0;
    double scale     = 1;
    bool   has_digit = false;
    bool   has_dot   = false;
    for (; *value; value++) {
        if (*value == '.' && !has_dot) {
            has_dot = true;
        } else if (*value >= '0' && *value <= '9') {
            digits    = digits * 10 + (*value - '0');
            scale    *= has_dot ? 10 : 1;
            has_digit = true;
        } else {
            return -1;
        }
    }
    return has_digit ? digits / scale : -1;
}

static double read_interval(struct text * remarks) {
    const char * value = getenv(variable_names[INTERVAL]);
    if (!value || !*value) {
        return INTERVAL_DEFAULT;
    }
    const double seconds = seconds_of(value);
    if (seconds != 0 && !(seconds >= INTERVAL_MIN && seconds <= INTERVAL_MAX)) {
        complain(remarks, INTERVAL, value, "give the seconds between two writes of the output, 0.1 to 86400, or 0 for only at the end; taken as 10");
        return INTERVAL_DEFAULT;
    }
    return seconds;
}

bool config_from_env(struct config * config, struct text * remarks) {
    const char * output = getenv(variable_names[OUTPUT]);
    *config = (struct config) {
        .stats     = read_switch(STATS, remarks),
        .names     = read_switch(NAMES, remarks),
        .per_layer = read_switch(PER_LAYER, remarks),
        .interval  = read_interval(remarks),
    };
    if (output && *output && strcmp(output, "0") != 0) {
        config->output = strdup(output);
        if (!config->output) {
            text_add(remarks, LOG_PREFIX "out of memory; nothing is traced\n");
            *config = (struct config) { 0 };
        }
    }
    if (!config->stats && (config->per_layer || config->output)) {
        static atomic_bool said;
        config->stats = true;
        if (!atomic_exchange(&said, true)) {
            text_add(remarks, LOG_PREFIX "%s turns counting on\n", variable_names[config->output ? OUTPUT : PER_LAYER]);
        }
    }
    return config->stats || config->names;
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
    *config = (struct config) {
        .stats     = full.stats,
        .names     = full.names,
        .per_layer = full.per_layer,
        .interval  = interval_in_range(full.interval),
    };
    if (full.output && *full.output) {
        config->output = strdup(full.output);
        return config->output != NULL;
    }
    return true;
}

bool config_copy(struct config * config, const struct config * from) {
    *config = *from;
    config->output = from->output ? strdup(from->output) : NULL;
    return config->output || !from->output;
}

void config_free(struct config * config) {
    free(config->output);
    *config = (struct config) { 0 };
}
