// Whatever bytes there are as settings in the environment: a line is a variable's, by its first byte, and its value.

#include "fuzz.h"

#include "tracer/config.h"

static const char * const names[] = {
    "STATS", "NAMES", "PER_LAYER", "OUTPUT", "INTERVAL", "ROUTING", "WEIGHTS", "TOKENS",
    "ON_FULL", "BUFFER", "ROTATE_SIZE", "ROTATE_TIME", "SAMPLE", "KEEP", "CAPTURE",
};
#define N_NAMES (sizeof(names) / sizeof(names[0]))

static void name_of(size_t i, char * name, size_t size) {
    snprintf(name, size, "LLAMA_EXPERT_TRACE_%s", names[i]);
}

static void set_all(char * lines) {
    char name[64];
    for (char * line = strtok(lines, "\n"); line; line = strtok(NULL, "\n")) {
        name_of((size_t) (unsigned char) *line % N_NAMES, name, sizeof(name));
        EXPECT(setenv(name, line + 1, 1) == 0);
    }
}

static void expect_sense(const struct config * config) {
    EXPECT(config->interval >= 0 && config->interval <= 86400);
    EXPECT(config->trace.sample >= 1);
    EXPECT(config->trace.rotate_time >= 0);
    EXPECT(config->trace.buffer >= 1 << 20);
    EXPECT(config->output == NULL || config->routing == NULL || strcmp(config->output, config->routing) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    char          name[64];
    char        * lines = malloc(size + 1);
    struct config config;
    struct config copy;
    struct text   remarks = { 0 };
    EXPECT(lines != NULL);
    memcpy(lines, data, size);
    lines[size] = '\0';
    for (size_t i = 0; i < N_NAMES; i++) {
        name_of(i, name, sizeof(name));
        unsetenv(name);
    }
    set_all(lines);
    config_from_env(&config, &remarks);
    expect_sense(&config);
    EXPECT(config_copy(&copy, &config));
    EXPECT(remarks.data == NULL || remarks.data[remarks.length - 1] == '\n');
    config_free(&copy);
    config_free(&config);
    text_free(&remarks);
    free(lines);
    return 0;
}
