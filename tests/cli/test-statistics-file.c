// Statistics files: what is read, refused, added up and written again, from JSON in this file.

#include "statistics/statistics-file.h"
#include "statistics/statistics-json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MINIMAL "{\"total_tokens\": 3, \"expert_activations\": {\"0\": 4, \"2\": 2}}"

#define WHOLE \
    "{\"format\": \"llama-expert-tracer-statistics\", \"version\": 1, \"complete\": true," \
    " \"run\": \"a\", \"engine\": \"E\"," \
    " \"capture\": \"c\", \"model\": {\"name\": \"M\", \"architecture\": \"llama\", \"file\": null}," \
    " \"n_layer\": 4, \"n_expert\": 3, \"n_expert_used\": 1," \
    " \"total_tokens\": 5, \"prompt_tokens\": 2, \"generation_tokens\": 3," \
    " \"warmup_tokens\": null, \"total_activations\": 9, \"layer_tokens\": {\"1\": 5, \"3\": 4}, \"new\": [1]," \
    " \"expert_activations\": {\"0\": 5, \"1\": 0, \"2\": 4}," \
    " \"per_layer\": {\"3\": {\"0\": 4, \"1\": 0}, \"1\": {\"0\": 1, \"1\": 0, \"2\": 4}}," \
    " \"n_expert_per_layer\": {\"3\": 2, \"1\": 3}," \
    " \"mtp\": {\"total_tokens\": 1, \"total_activations\": 2, \"expert_activations\": {\"0\": 2}}}"

static struct statistics * parse(const char * text, struct error * error) {
    return statistics_json_parse("f.json", text, strlen(text), error);
}

static struct statistics * parsed(const char * text) {
    struct error        error;
    struct statistics * statistics = parse(text, &error);
    if (statistics == NULL) {
        fail_msg("%s", error.text);
    }
    return statistics;
}

static void assert_refused(const char * text, const char * because) {
    struct error error;
    assert_null(parse(text, &error));
    if (strncmp(error.text, "f.json", 6) != 0 || strstr(error.text, because) == NULL) {
        fail_msg("\"%s\" does not name the file and \"%s\"", error.text, because);
    }
}

static void test_minimal(void ** state) {
    (void) state;
    struct statistics * statistics = parsed(MINIMAL);
    assert_int_equal(statistics->model.total_tokens, 3);
    assert_int_equal(statistics->model.total_activations, 6);
    assert_int_equal(statistics->model.n_expert, 3);
    assert_int_equal(statistics->model.activations[1], 0);
    assert_int_equal(statistics->n_expert, STATISTICS_UNKNOWN);
    assert_int_equal(statistics->complete, STATISTICS_UNKNOWN);
    assert_false(statistics->model.per_layer.known);
    assert_false(statistics->has_mtp);
    statistics_free(statistics);
}

static void test_whole(void ** state) {
    (void) state;
    struct statistics * statistics = parsed(WHOLE);
    const struct statistics_section * model = &statistics->model;
    assert_string_equal(statistics->name, "M");
    assert_null(statistics->file);
    assert_int_equal(statistics->complete, 1);
    assert_int_equal(statistics->warmup_tokens, STATISTICS_UNKNOWN);
    assert_int_equal(statistics_value(&model->layer_tokens, 3), 4);
    assert_int_equal(statistics_value(&model->layer_tokens, 2), STATISTICS_UNKNOWN);
    assert_int_equal(model->per_layer.n, 2);
    assert_int_equal(model->per_layer.layers[0], 1);
    assert_int_equal(statistics_layer(&model->per_layer, 1)[2], 4);
    assert_null(statistics_layer(&model->per_layer, 0));
    assert_int_equal(statistics_n_expert(statistics, model, 3), 2);
    assert_int_equal(statistics->mtp.total_activations, 2);
    statistics_free(statistics);
}

static void test_refused(void ** state) {
    (void) state;
    assert_refused("{\n\"total_tokens\": 3,\n",                                         "truncated");
    assert_refused("{\n\n  nonsense}",                                                  "f.json:3:");
    assert_refused("[]",                                                                "an array");
    assert_refused("12",                                                                "an integer");
    assert_refused("{}",                                                                "total_tokens");
    assert_refused("{\"total_tokens\": 3}",                                             "expert_activations");
    assert_refused("{\"format\": \"x\", \"total_tokens\": 3, \"expert_activations\": {}}", "something else");
    assert_refused("{\"format\": \"llama-expert-tracer-statistics\", \"version\": 2}",  "update");
    assert_refused("{\"total_tokens\": -3, \"expert_activations\": {}}",                "-3");
    assert_refused("{\"total_tokens\": 1.5, \"expert_activations\": {}}",               "fraction");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": []}",                 "an array");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": null}",               "null");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"a\": 1}}",         "\"a\"");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"-1\": 1}}",        "\"-1\"");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"01\": 1}}",        "\"01\"");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"99999\": 1}}",     "beyond");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"0\": -1}}",        "expert 0");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"0\": \"1\"}}",     "a string");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"0\": 1, \"0\": 2}}", "duplicate");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {\"0\": 9223372036854775807, \"1\": 1}}", "2^63");
    assert_refused("{\"total_tokens\": 1, \"n_expert\": 2, \"expert_activations\": {\"2\": 1}}", "n_expert is 2");
    assert_refused("{\"total_tokens\": 1, \"n_expert\": 9999999, \"expert_activations\": {}}", "n_expert");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"per_layer\": {\"0\": 1}}", "layer 0");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"per_layer\": {\"x\": {}}}", "\"x\"");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"model\": 3}",   "model");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"engine\": 3}",  "engine");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"complete\": 1}", "complete");
    assert_refused("{\"total_tokens\": 1, \"expert_activations\": {}, \"mtp\": {\"total_tokens\": -1}}", "-1");
}

static void test_round_trip(void ** state) {
    (void) state;
    struct statistics * first  = parsed(WHOLE);
    json_t            * before = statistics_json_of(first);
    char              * text   = json_dumps(before, 0);
    struct statistics * second = parsed(text);
    json_t            * after  = statistics_json_of(second);
    assert_true(json_equal(before, after));
    assert_int_equal(json_object_size(json_object_get(json_object_get(after, "per_layer"), "3")), 2);
    json_decref(before);
    json_decref(after);
    free(text);
    statistics_free(first);
    statistics_free(second);
}

static void test_add(void ** state) {
    (void) state;
    struct error        error;
    struct statistics * sum  = parsed(WHOLE);
    struct statistics * next = parsed(WHOLE);
    assert_true(statistics_same_model(sum, next, false, &error));
    assert_string_equal(statistics_common_run(sum, next), "a");
    assert_true(statistics_add(sum, next, &error));
    assert_int_equal(sum->model.total_tokens, 10);
    assert_int_equal(sum->model.activations[2], 8);
    assert_int_equal(statistics_layer(&sum->model.per_layer, 1)[2], 8);
    assert_int_equal(statistics_value(&sum->model.layer_tokens, 3), 8);
    assert_int_equal(sum->warmup_tokens, STATISTICS_UNKNOWN);
    assert_int_equal(sum->mtp.activations[0], 4);
    assert_int_equal(sum->complete, 1);
    assert_int_equal(sum->n_runs, 2);
    statistics_free(next);

    next = parsed(MINIMAL);
    assert_true(statistics_same_model(sum, next, false, &error));
    assert_true(statistics_add(sum, next, &error));
    assert_int_equal(sum->model.total_tokens, 13);
    assert_int_equal(sum->prompt_tokens, STATISTICS_UNKNOWN);
    assert_int_equal(sum->complete, STATISTICS_UNKNOWN);
    assert_int_equal(sum->n_expert, 3);
    assert_false(sum->model.per_layer.known);
    assert_false(sum->model.layer_tokens.known);
    statistics_free(next);
    statistics_free(sum);
}

static void test_add_widens(void ** state) {
    (void) state;
    struct error        error;
    struct statistics * sum  = parsed("{\"total_tokens\": 1, \"expert_activations\": {\"0\": 1},"
                                      " \"per_layer\": {\"0\": {\"0\": 1}}}");
    struct statistics * next = parsed("{\"total_tokens\": 1, \"expert_activations\": {\"7\": 1},"
                                      " \"per_layer\": {\"2\": {\"7\": 1}}}");
    assert_true(statistics_add(sum, next, &error));
    assert_int_equal(sum->model.n_expert, 8);
    assert_int_equal(statistics_layer(&sum->model.per_layer, 0)[7], 0);
    assert_int_equal(statistics_layer(&sum->model.per_layer, 2)[7], 1);
    statistics_free(next);
    statistics_free(sum);
}

static void test_different_models(void ** state) {
    (void) state;
    struct error        error;
    struct statistics * whole = parsed(WHOLE);
    struct statistics * named = parsed("{\"model\": {\"name\": \"N\"}, \"n_expert_used\": 2, \"total_tokens\": 1,"
                                       " \"expert_activations\": {}}");
    struct statistics * large = parsed("{\"n_layer\": 5, \"total_tokens\": 1, \"expert_activations\": {\"3\": 1}}");
    assert_true (statistics_same_model(whole, named, true, &error));
    assert_false(statistics_same_model(whole, named, false, &error));
    assert_non_null(strstr(error.text, "name: M in f.json, N in f.json"));
    assert_non_null(strstr(error.text, "\nn_expert_used: 1 in"));
    assert_false(statistics_same_model(whole, large, true, &error));
    assert_non_null(strstr(error.text, "n_layer: 4"));
    assert_non_null(strstr(error.text, "n_expert: 3"));

    assert_true(statistics_add(whole, named, &error));
    struct statistics * third = parsed(WHOLE);
    assert_true(statistics_add(whole, third, &error));
    json_t * json = statistics_json_of(whole);
    assert_true(json_is_null(json_object_get(json_object_get(json, "model"), "name")));
    assert_true(json_is_null(json_object_get(json, "n_expert_used")));
    json_decref(json);
    statistics_free(whole);
    statistics_free(named);
    statistics_free(large);
    statistics_free(third);
}

static void test_add_overflow(void ** state) {
    (void) state;
    struct error        error;
    struct statistics * sum  = parsed("{\"total_tokens\": 1, \"expert_activations\": {\"0\": 9223372036854775807}}");
    struct statistics * next = parsed(MINIMAL);
    assert_false(statistics_add(sum, next, &error));
    assert_non_null(strstr(error.text, "2^63"));
    statistics_free(next);
    statistics_free(sum);
}

static void test_save_and_load(void ** state) {
    (void) state;
    struct error        error;
    char                path[] = "/tmp/test-statistics-XXXXXX";
    close(mkstemp(path));
    struct statistics * statistics = parsed(WHOLE);
    assert_null(statistics_file_load(path, &error));
    assert_non_null(strstr(error.text, "empty"));
    assert_true(statistics_file_save(path, statistics, false, &error));
    struct statistics * loaded = statistics_file_load(path, &error);
    assert_non_null(loaded);
    assert_int_equal(loaded->model.total_activations, 9);
    assert_false(statistics_file_save("/nowhere/at/all", statistics, false, &error));
    assert_non_null(strstr(error.text, "/nowhere/at/all"));
    assert_null(statistics_file_load("/tmp", &error));
    assert_non_null(strstr(error.text, "directory"));
    unlink(path);
    statistics_free(loaded);
    statistics_free(statistics);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_minimal),
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_add),
        cmocka_unit_test(test_add_widens),
        cmocka_unit_test(test_different_models),
        cmocka_unit_test(test_add_overflow),
        cmocka_unit_test(test_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
