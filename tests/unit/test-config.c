// What the tracer's variables are read as, and what is said of those that are not understood.

#include "unit.h"

#include "trace/write/chunk-ring.h"
#include "tracer/config.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char * const variables[] = {
    "STATS", "NAMES", "PER_LAYER", "OUTPUT", "INTERVAL", "ROUTING", "WEIGHTS", "TOKENS", "ON_FULL", "BUFFER",
    "ROTATE_SIZE", "ROTATE_TIME", "SAMPLE", "KEEP", "HOTTEST", "QUIET",
};

static void set(const char * variable, const char * value) {
    char name[64] = "LLAMA_EXPERT_TRACE_";
    strcat(name, variable);
    if (value) {
        setenv(name, value, 1);
    } else {
        unsetenv(name);
    }
}

static int clear(void ** state) {
    (void) state;
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        set(variables[i], NULL);
    }
    return 0;
}

// Reads the environment; `remarks` is what shall be remarked, or a part of it.
static struct config read(bool asked, const char * remarks) {
    struct config config;
    struct text   text = { 0 };
    assert_int_equal(config_from_env(&config, &text), asked);
    if (remarks) {
        assert_non_null(text.data);
        assert_non_null(strstr(text.data, remarks));
    } else {
        assert_null(text.data);
    }
    text_free(&text);
    return config;
}

static void nothing_is_off(void ** state) {
    (void) state;
    read(false, NULL);
    set("STATS", "");
    set("NAMES", "0");
    set("OUTPUT", "");
    read(false, NULL);
}

static void one_is_on(void ** state) {
    (void) state;
    set("STATS", "1");
    set("NAMES", "1");
    const struct config config = read(true, NULL);
    assert_true(config.stats);
    assert_true(config.names);
    assert_false(config.per_layer);
    assert_true(config.interval == 10);
}

static void per_layer_and_output_turn_counting_on(void ** state) {
    (void) state;
    set("PER_LAYER", "1");
    struct config config = read(true, "LLAMA_EXPERT_TRACE_PER_LAYER turns counting on");
    assert_true(config.stats);
    config_free(&config);

    set("PER_LAYER", NULL);
    set("OUTPUT", "stats.json");
    config = read(true, NULL); // that was said
    assert_true(config.stats);
    assert_string_equal(config.output, "stats.json");
    config_free(&config);
}

static void names_alone_count_nothing(void ** state) {
    (void) state;
    set("NAMES", "1");
    const struct config config = read(true, NULL);
    assert_false(config.stats);
}

static void nonsense_is_told_once_and_off(void ** state) {
    (void) state;
    set("STATS", "yes");
    assert_false(read(false, "LLAMA_EXPERT_TRACE_STATS=yes is not understood").stats);
    read(false, NULL);
}

static void intervals(void ** state) {
    (void) state;
    set("STATS", "1");
    set("INTERVAL", "0.5");
    assert_true(read(true, NULL).interval == 0.5);
    set("INTERVAL", "0");
    assert_true(read(true, NULL).interval == 0);
    set("INTERVAL", "nan");
    assert_true(read(true, "LLAMA_EXPERT_TRACE_INTERVAL=nan is not understood").interval == 10);
    set("INTERVAL", "10s");
    assert_true(read(true, NULL).interval == 10);
    static const char * const refused[] = { "0.05", "-1", ".", "1e2", "0,5", "1.5.2", "86400.5", " 1" };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        set("INTERVAL", refused[i]);
        assert_true(read(true, NULL).interval == 10);
    }
    set("INTERVAL", "0.1");
    assert_true(read(true, NULL).interval == 0.1);
    set("INTERVAL", "86400");
    assert_true(read(true, NULL).interval == 86400);
}

static void a_trace_alone_counts_nothing(void ** state) {
    (void) state;
    set("ROUTING", "run.moetrace");
    struct config config = read(true, NULL);
    assert_string_equal(config.routing, "run.moetrace");
    assert_false(config.stats);
    assert_false(config.trace.weights);
    assert_false(config.trace.tokens);
    assert_false(config.trace.wait);
    assert_int_equal(config.trace.buffer, 32 << 20);
    assert_int_equal(config.trace.rotate_size, 0);
    assert_true     (config.trace.rotate_time == 0);
    assert_int_equal(config.trace.sample, 1);
    config_free(&config);
}

static void the_hottest_are_all_unless_it_is_said(void ** state) {
    (void) state;
    static const char * const refused[] = { "1001", "-1", "many", "0.5" };
    set("STATS", "1");
    struct config config = read(true, NULL);
    assert_int_equal(config.hottest, 0);
    assert_false(config.quiet);
    config_free(&config);
    set("HOTTEST", "20");
    set("QUIET", "1");
    config = read(true, NULL);
    assert_int_equal(config.hottest, 20);
    assert_true(config.quiet);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        config_free(&config);
        set("HOTTEST", refused[i]);
        config = read(true, i == 0 ? "HOTTEST=1001 is not understood: give how many experts" : NULL);
        assert_int_equal(config.hottest, 0);
    }
    config_free(&config);
}

static void a_sample_is_a_whole_number(void ** state) {
    (void) state;
    static const char * const refused[] = { "1.5", "2.", "1e3", "0x10", "-3", " 2", "1,5", "1000000000000001", "2k" };
    set("ROUTING", "run.moetrace");
    struct config config = read(true, NULL);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        config_free(&config);
        set("SAMPLE", refused[i]);
        const char * once = i == 0 ? "LLAMA_EXPERT_TRACE_SAMPLE=1.5 is not understood: give a whole number" : NULL;
        config = read(true, once);
        assert_int_equal(config.trace.sample, 1);
    }
    config_free(&config);
}

// A trace that fits into memory is better than none.
static void a_buffer_is_no_larger_than_the_machine(void ** state) {
    (void) state;
    char too_much[32];
    snprintf(too_much, sizeof(too_much), "%zu", chunk_ring_most() + 1);
    set("ROUTING", "run.moetrace");
    set("BUFFER", too_much);
    struct config config = read(true, "is not understood: give the memory for the routing trace, such as 64MiB, "
                                      "1MiB at least and not more");
    assert_int_equal(config.trace.buffer, 32 << 20);
    config_free(&config);
    static const char * const refused[] = { "1TiB1", "1", "-1", "1024TiB", "1e9", "lots" };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        set("BUFFER", refused[i]);
        config = read(true, NULL); // that was said
        assert_int_equal(config.trace.buffer, 32 << 20);
        config_free(&config);
    }

    struct expert_tracer_config from = EXPERT_TRACER_CONFIG_INIT;
    from.buffer = chunk_ring_most() + 1;
    assert_true(config_from_api(&config, &from));
    struct chunk_ring buffer;
    assert_false(chunk_ring_init(&buffer, config.trace.buffer)); // the writer takes less then
    config_free(&config);
}

static void one_file_is_not_taken_for_both(void ** state) {
    (void) state;
    static const char * const same[][2] = { { "x", "x" }, { "x", "./x" }, { "/tmp/x", "/tmp/../tmp/x" } };
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        set("OUTPUT",  same[i][0]);
        set("ROUTING", same[i][1]);
        struct config config;
        struct text   text = { 0 };
        assert_true(config_from_env(&config, &text));
        assert_string_equal(config.output, same[i][0]);
        assert_int_equal(strncmp(config.routing, same[i][1], strlen(same[i][1])), 0);
        assert_string_equal(config.routing + strlen(same[i][1]), ".moetrace");
        if (i == 0) {
            assert_non_null(strstr(text.data,
                "LLAMA_EXPERT_TRACE_OUTPUT and LLAMA_EXPERT_TRACE_ROUTING are one file, x: "
                "the routing trace goes to x.moetrace\n"));
        }
        text_free(&text);
        config_free(&config);
    }
    set("ROUTING", "/x");
    struct config config;
    struct text   text = { 0 };
    assert_true(config_from_env(&config, &text));
    assert_string_equal(config.routing, "/x");
    text_free(&text);
    config_free(&config);

    struct expert_tracer_config from = EXPERT_TRACER_CONFIG_INIT;
    from.output = from.routing = "x";
    assert_true(config_from_api(&config, &from));
    assert_string_equal(config.routing, "x.moetrace");
    config_free(&config);
}

static void what_a_trace_is_like(void ** state) {
    (void) state;
    set("ROUTING",     "run.moetrace");
    set("WEIGHTS",     "1");
    set("TOKENS",      "1");
    set("ON_FULL",     "wait");
    set("BUFFER",      "2.5MiB");
    set("ROTATE_SIZE", "1GB");
    set("ROTATE_TIME", "1.5h");
    set("SAMPLE",      "100");
    set("KEEP",        "10GiB");
    struct config config = read(true, NULL);
    assert_true     (config.trace.weights);
    assert_true     (config.trace.tokens);
    assert_true     (config.trace.wait);
    assert_int_equal(config.trace.buffer, 5 << 19);
    assert_int_equal(config.trace.rotate_size, 1000000000);
    assert_true     (config.trace.rotate_time == 5400);
    assert_int_equal(config.trace.sample, 100);
    assert_int_equal(config.trace.keep, INT64_C(10) << 30);
    assert_int_equal(config.trace.seed, 0);

    struct config copy;
    assert_true(config_copy(&copy, &config));
    assert_string_equal(copy.routing, "run.moetrace");
    assert_int_equal(copy.trace.sample, 100);
    config_free(&copy);
    config_free(&config);
}

static void what_is_not_understood_of_a_trace(void ** state) {
    (void) state;
    static const struct { const char * variable; const char * value; } cases[] = {
        { "ON_FULL", "block" }, { "ROTATE_SIZE", "1 KiB" }, { "ROTATE_TIME", "0.5" }, { "KEEP", "some" },
    };
    static const char * const samples[] = {
        "3:", ":3", "3:x", "3:0", "3:-1", "3:1:2", "3:1e3", "3:9007199254740993000", "0:7", "x:7",
    };
    set("ROUTING", "run.moetrace");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char remark[64] = "LLAMA_EXPERT_TRACE_";
        strcat(remark, cases[i].variable);
        set(cases[i].variable, cases[i].value);
        struct config config = read(true, remark);
        assert_false    (config.trace.wait);
        assert_int_equal(config.trace.buffer, 32 << 20);
        assert_int_equal(config.trace.rotate_size, 0);
        assert_true     (config.trace.rotate_time == 0);
        assert_int_equal(config.trace.sample, 1);
        assert_int_equal(config.trace.keep, 0);
        config_free(&config);
    }
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        set("SAMPLE", samples[i]);
        struct config config = read(true, NULL); // one was remarked on
        assert_int_equal(config.trace.sample, 1);
        assert_int_equal(config.trace.seed, 0);
        config_free(&config);
    }
}

static void a_sample_with_its_seed(void ** state) {
    (void) state;
    set("ROUTING", "run.moetrace");
    set("SAMPLE",  "4:9007199254740992");
    struct config config = read(true, NULL);
    assert_int_equal(config.trace.sample, 4);
    assert_int_equal(config.trace.seed, INT64_C(1) << 53);
    config_free(&config);
    set("SAMPLE", "0");
    config = read(true, NULL);
    assert_int_equal(config.trace.sample, 1);
    config_free(&config);
}

static void a_traces_options_without_a_trace(void ** state) {
    (void) state;
    set("WEIGHTS", "1");
    read(false, "LLAMA_EXPERT_TRACE_WEIGHTS has no effect without LLAMA_EXPERT_TRACE_ROUTING");
    read(false, NULL);
}

static void the_apis_trace(void ** state) {
    (void) state;
    struct expert_tracer_config from = EXPERT_TRACER_CONFIG_INIT;
    struct config               config;
    from.routing     = "run.moetrace";
    from.tokens      = true;
    from.buffer      = 5;
    from.rotate_size = 5;
    assert_true(config_from_api(&config, &from));
    assert_string_equal(config.routing, "run.moetrace");
    assert_true     (config.trace.tokens);
    assert_int_equal(config.trace.buffer,      1 << 20);
    assert_int_equal(config.trace.rotate_size, 1 << 20);
    assert_int_equal(config.trace.sample, 1);
    config_free(&config);
}

// Where no locale with a comma is installed, this is the test above.
static void a_comma_in_the_programs_locale_changes_nothing(void ** state) {
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL) {
        setlocale(LC_NUMERIC, "fr_FR.UTF-8");
    }
    set("STATS", "1");
    set("INTERVAL", "0.5");
    assert_true(read(true, NULL).interval == 0.5);
    setlocale(LC_NUMERIC, "C");
    (void) state;
}

static void the_apis_interval_is_brought_into_range(void ** state) {
    (void) state;
    static const double cases[][2] = { { 0.001, 0.1 }, { 0.1, 0.1 }, { 3, 3 }, { 1e9, 86400 }, { 0, 0 }, { -1, 0 } };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct expert_tracer_config from = EXPERT_TRACER_CONFIG_INIT;
        struct config               config;
        from.interval = cases[i][0];
        assert_true(config_from_api(&config, &from));
        assert_true(config.interval == cases[i][1]);
    }
}

static void the_apis_struct_may_be_an_older_one(void ** state) {
    (void) state;
    struct expert_tracer_config from = EXPERT_TRACER_CONFIG_INIT;
    struct config               config;
    from.per_layer = true;
    from.interval  = 3;
    from.size      = offsetof(struct expert_tracer_config, interval);
    assert_true(config_from_api(&config, &from));
    assert_true(config.stats);
    assert_true(config.per_layer);
    assert_true(config.interval == 10);
    assert_true(config_from_api(&config, NULL));
    assert_true(config.stats);
    assert_null(config.output);
    from.size = 0;
    assert_false(config_from_api(&config, &from));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nothing_is_off, clear),
        cmocka_unit_test_setup(one_is_on, clear),
        cmocka_unit_test_setup(per_layer_and_output_turn_counting_on, clear),
        cmocka_unit_test_setup(names_alone_count_nothing, clear),
        cmocka_unit_test_setup(nonsense_is_told_once_and_off, clear),
        cmocka_unit_test_setup(intervals, clear),
        cmocka_unit_test_setup(a_trace_alone_counts_nothing, clear),
        cmocka_unit_test_setup(what_a_trace_is_like, clear),
        cmocka_unit_test_setup(the_hottest_are_all_unless_it_is_said, clear),
        cmocka_unit_test_setup(a_sample_is_a_whole_number, clear),
        cmocka_unit_test_setup(a_buffer_is_no_larger_than_the_machine, clear),
        cmocka_unit_test_setup(what_is_not_understood_of_a_trace, clear),
        cmocka_unit_test_setup(one_file_is_not_taken_for_both, clear),
        cmocka_unit_test_setup(a_sample_with_its_seed, clear),
        cmocka_unit_test_setup(a_traces_options_without_a_trace, clear),
        cmocka_unit_test_setup(the_apis_trace, clear),
        cmocka_unit_test_setup(a_comma_in_the_programs_locale_changes_nothing, clear),
        cmocka_unit_test_setup(the_apis_interval_is_brought_into_range, clear),
        cmocka_unit_test_setup(the_apis_struct_may_be_an_older_one, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
