// Snapshots, reset and export: what a program can ask for at any time.

#include "oracle.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    struct llama_model   * model;
    struct expert_tracer * tracer;
    struct llama_context * ctx;
    char                   folder[64];
};

static struct fixture fixture;

static int setup(void ** state) {
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.stats   = false;
    fixture.model  = *state;
    fixture.tracer = expert_tracer_new(&config);
    assert_non_null(fixture.tracer);
    fixture.ctx = oracle_context(fixture.model, 64);
    strcpy(fixture.folder, "/tmp/expert-tracer-api-XXXXXX");
    assert_non_null(mkdtemp(fixture.folder));
    return 0;
}

static int teardown(void ** state) {
    (void) state;
    llama_free(fixture.ctx);
    expert_tracer_free(fixture.tracer);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", fixture.folder);
    return system(command);
}

static const char * in_folder(const char * name) {
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", fixture.folder, name);
    return path;
}

static int n_files(void) {
    int   n      = 0;
    DIR * folder = opendir(fixture.folder);
    assert_non_null(folder);
    for (const struct dirent * entry; (entry = readdir(folder)); ) {
        n += entry->d_name[0] != '.';
    }
    closedir(folder);
    return n;
}

static void test_snapshot(void ** state) {
    (void) state;
    assert_null(expert_tracer_snapshot_take(fixture.tracer, 0)); // nothing was evaluated
    assert_null(expert_tracer_snapshot_take(NULL, 0));
    expert_tracer_snapshot_free(NULL);

    oracle_evaluate(fixture.ctx, "Expert");
    oracle_evaluate(fixture.ctx, "s");
    oracle_evaluate(fixture.ctx, "t");

    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    oracle_assert_evaluated(snapshot, "Expert", "s", "t");
    assert_ptr_equal   (snapshot->model, fixture.model);
    assert_string_equal(snapshot->name, "Oracle Mixtral 32x8");
    assert_string_equal(snapshot->architecture, "llama");
    char * path = realpath(oracle_path("mixtral"), NULL);
    assert_string_equal(snapshot->file, path);
    free(path);
    assert_non_null (strstr(snapshot->engine, "llama.cpp"));
    assert_non_null (snapshot->capture);
    assert_false    (snapshot->complete);
    assert_true     (snapshot->phases_known);
    assert_int_equal(snapshot->prompt_tokens,     6);
    assert_int_equal(snapshot->generation_tokens, 2);
    assert_int_equal(snapshot->warmup_tokens,     0);
    assert_int_equal(snapshot->mtp_tokens,        0);

    // a copy: what is evaluated later is not in it
    oracle_evaluate(fixture.ctx, "u");
    oracle_assert_evaluated(snapshot, "Expert", "s", "t");
    expert_tracer_snapshot_free(snapshot);
    assert_null(expert_tracer_snapshot_take(fixture.tracer, 1));
}

static void test_complete_when_the_last_context_is_freed(void ** state) {
    (void) state;
    struct llama_context * other = oracle_context(fixture.model, 64);
    oracle_evaluate(fixture.ctx, "one");
    oracle_evaluate(other,       "two");
    llama_free(other);
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    oracle_assert_evaluated(snapshot, "one", "two");
    assert_false(snapshot->complete);
    expert_tracer_snapshot_free(snapshot);

    llama_free(fixture.ctx);
    fixture.ctx = NULL;
    snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    oracle_assert_evaluated(snapshot, "one", "two");
    assert_true(snapshot->complete);
    expert_tracer_snapshot_free(snapshot);
}

static void test_several_models(void ** state) {
    (void) state;
    struct llama_model   * model = oracle_load("gpt-oss");
    struct llama_context * ctx   = oracle_context(model, 64);
    oracle_evaluate(fixture.ctx, "first");
    oracle_evaluate(ctx, "second");
    oracle_evaluate(fixture.ctx, "!");

    struct expert_tracer_snapshot * first  = expert_tracer_snapshot_take(fixture.tracer, 0);
    struct expert_tracer_snapshot * second = expert_tracer_snapshot_take(fixture.tracer, 1);
    oracle_assert_evaluated(first, "first", "!");
    assert_non_null    (second);
    assert_ptr_equal   (second->model, model);
    assert_string_equal(second->architecture, "gpt-oss");
    assert_int_equal   (second->n_layer,  36);
    assert_int_equal   (second->n_expert, 128);
    assert_int_equal   (second->n_used,   4);
    assert_int_equal   (second->total_tokens, 6);
    assert_null        (expert_tracer_snapshot_take(fixture.tracer, 2));
    llama_free(ctx);
    llama_model_free(model);
    expert_tracer_snapshot_free(first);
    assert_string_equal(second->name, "Oracle GPT-OSS 36x128"); // lives as long as the snapshot
    expert_tracer_snapshot_free(second);
}

static void test_reset(void ** state) {
    (void) state;
    expert_tracer_reset(fixture.tracer); // nothing there yet
    expert_tracer_reset(NULL);
    oracle_evaluate(fixture.ctx, "forget");
    expert_tracer_reset(fixture.tracer);
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    assert_non_null (snapshot);
    assert_int_equal(snapshot->total_tokens,      0);
    assert_int_equal(snapshot->prompt_tokens,     0);
    assert_int_equal(snapshot->total_activations, 0);
    expert_tracer_snapshot_free(snapshot);

    oracle_evaluate(fixture.ctx, "remember");
    snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    oracle_assert_evaluated(snapshot, "remember");
    expert_tracer_snapshot_free(snapshot);
}

static void test_warmup_is_not_counted(void ** state) {
    (void) state;
    const struct llama_vocab * vocab = llama_model_get_vocab(fixture.model);
    llama_token tokens[] = { llama_vocab_bos(vocab), llama_vocab_eos(vocab) };
    assert_int_equal(llama_decode(fixture.ctx, llama_batch_get_one(tokens, 2)), 0);
    llama_memory_clear(llama_get_memory(fixture.ctx), true);
    llama_synchronize(fixture.ctx);
    llama_perf_context_reset(fixture.ctx);
    oracle_evaluate(fixture.ctx, "real");
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(fixture.tracer, 0);
    oracle_assert_evaluated(snapshot, "real");
    assert_int_equal(snapshot->warmup_tokens, 2);
    expert_tracer_snapshot_free(snapshot);
}

static void test_export(void ** state) {
    (void) state;
    char   text[65536];
    FILE * file = fopen(in_folder("stats.json"), "w");
    fputs("something older, and longer than nothing", file);
    fclose(file);

    oracle_evaluate(fixture.ctx, "export");
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("stats.json")), -EBADMSG);
    assert_int_equal(remove(in_folder("stats.json")), 0);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("stats.json")), 0);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("stats.json")), 0);
    assert_int_equal(n_files(), 1);

    file = fopen(in_folder("stats.json"), "r");
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(text[0], '{');
    assert_string_equal(text + strlen(text) - 3, "\n}\n");
    assert_non_null(strstr(text, "\"name\": \"Oracle Mixtral 32x8\""));
    assert_non_null(strstr(text, "\"complete\": false"));
    assert_non_null(strstr(text, "\"total_tokens\": 6,"));
    assert_non_null(strstr(text, "\"per_layer\": {"));
}

static void test_export_errors(void ** state) {
    (void) state;
    assert_int_equal(expert_tracer_export_json(NULL,           0, in_folder("stats.json")), -ENOENT);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("stats.json")), -ENOENT);
    oracle_evaluate(fixture.ctx, "export");
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 1, in_folder("stats.json")), -ENOENT);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, NULL),                    -EINVAL);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("no/such/folder")), -ENOENT);
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, fixture.folder),          -EISDIR);
    assert_int_equal(n_files(), 0);

    assert_int_equal(mkdir(in_folder("closed"), 0700), 0);
    const uid_t user = geteuid();
    assert_int_equal(chmod(fixture.folder, 0755), 0);
    assert_true(user != 0 || seteuid(65534) == 0); // root may write anywhere
    assert_int_equal(expert_tracer_export_json(fixture.tracer, 0, in_folder("closed/stats.json")), -EACCES);
    assert_int_equal(seteuid(user), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_snapshot,                                setup, teardown),
        cmocka_unit_test_setup_teardown(test_complete_when_the_last_context_is_freed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_models,                          setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset,                                   setup, teardown),
        cmocka_unit_test_setup_teardown(test_warmup_is_not_counted,                   setup, teardown),
        cmocka_unit_test_setup_teardown(test_export,                                  setup, teardown),
        cmocka_unit_test_setup_teardown(test_export_errors,                           setup, teardown),
    };
    return cmocka_run_group_tests(tests, oracle_group_setup, oracle_group_teardown);
}
