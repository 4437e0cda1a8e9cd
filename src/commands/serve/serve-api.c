// Finds what a path asks for, and answers it.

#include "commands/serve/serve-api.h"

#include "commands/live-json.h"
#include "live/live-status.h"
#include "serve/serve-guard.h"
#include "serve/serve-metrics.h"
#include "serve/serve-models.h"
#include "serve/serve-statistics.h"
#include "tool/json-values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPE_JSON "application/json"
#define API       "/api/v1/processes"

// A question about a model of a process.
struct question {
    const struct serve_api     * api;
    const struct serve_request * request;
    struct serve_process       * process;
    struct live_view             view;
    const struct serve_model   * model;
};

static struct serve_response text_response(const char * type, char * body) {
    return body == NULL ? serve_response_error(500, "out of memory")
                        : (struct serve_response) { 200, type, body, strlen(body) };
}

// Takes the reference.
static struct serve_response json_response(json_t * json) {
    char * body = json == NULL ? NULL : json_dumps(json, JSON_INDENT(1));
    json_decref(json);
    return text_response(TYPE_JSON, body);
}

static struct serve_response not_found(void) {
    return serve_response_error(404, "there is no such page: /metrics and " API " are here");
}

//
// metrics
//

static struct serve_response answer_metrics(const struct serve_api * api, const struct serve_request * request) {
    const char               * accept  = serve_request_header(request, "Accept");
    const struct serve_metrics metrics = {
        .openmetrics = accept != NULL && strstr(accept, "application/openmetrics-text") != NULL,
        .per_expert  = api->per_expert,
    };
    return text_response(metrics.openmetrics ? SERVE_METRICS_OPENMETRICS : SERVE_METRICS_TEXT,
                         serve_metrics_text(api->processes, &metrics));
}

//
// processes
//

// Strings of others may be no UTF-8, which is not known then.
static json_t * model_json(const struct serve_model * model) {
    const struct live_view_model * its    = model->model;
    const struct counters_totals * totals = &its->counts.totals;
    const bool                     known  = its->phases_known;
    json_t * json = json_object();
    json_object_set_new(json, "label",             json_value_text(model->label));
    json_object_set_new(json, "model",             json_value_count(its->number));
    json_object_set_new(json, "name",              json_value_text(its->name));
    json_object_set_new(json, "architecture",      json_value_text(its->architecture));
    json_object_set_new(json, "file",              json_value_text(its->file));
    json_object_set_new(json, "engine",            json_value_text(its->engine));
    json_object_set_new(json, "capture",           json_value_text(its->capture));
    json_object_set_new(json, "contexts",          json_value_count(its->n_contexts));
    json_object_set_new(json, "tokens",            json_value_count(counter_get(&totals->n_tokens)));
    json_object_set_new(json, "prompt_tokens",     known ? json_value_count(counter_get(&totals->n_prompt))
                                                         : json_null());
    json_object_set_new(json, "generation_tokens", known ? json_value_count(counter_get(&totals->n_generation))
                                                         : json_null());
    json_object_set_new(json, "warmup_tokens",     json_value_count(counter_get(&totals->n_warmup)));
    json_object_set_new(json, "lost_tokens",       json_value_count(counter_get(&totals->n_lost)));
    return json;
}

static json_t * models_json(const struct live_view * view) {
    struct serve_model * models = serve_models_new(view);
    json_t             * json   = json_array();
    for (size_t i = 0; i < view->n_models; i++) {
        json_array_append_new(json, model_json(&models[i]));
    }
    free(models);
    return json;
}

// What only the process itself knows: *error is of that, unless something is wrong already. NULL: it does not answer.
static struct live_status * ask_status(const struct serve_process * process, bool ok, struct error * error) {
    struct error         why;
    struct live_client   client;
    struct live_status * status = NULL;
    if (live_client_open(&client, process->folder, &process->client.name, &why)) {
        status = live_status_ask(&client, &why);
        live_client_close(&client);
    }
    if (status == NULL && ok) {
        *error = why;
    }
    return status;
}

static json_t * process_json(const struct serve_api * api, const struct serve_process * process) {
    struct error         error;
    struct live_view     view;
    const bool           ok     = serve_processes_read(api->processes, process, &view, &error);
    struct live_status * status = ask_status(process, ok, &error);
    json_t             * json   = json_object();
    json_object_set_new(json, "process", json_value_text(process->label));
    json_object_set_new(json, "name",    json_value_text(process->client.name.text));
    json_object_set_new(json, "pid",     process->client.pid > 0 ? json_integer(process->client.pid) : json_null());
    json_object_set_new(json, "user",    json_value_count(process->client.user));
    json_object_set_new(json, "program", ok ? json_value_text(view.program) : json_null());
    json_object_set_new(json, "error",   ok && status != NULL ? json_null() : json_value_text(error.text));
    json_object_set_new(json, "models",  ok ? models_json(&view) : json_null());
    json_object_set_new(json, "status",  live_json_status(status));
    live_status_free(status);
    live_view_free(&view);
    return json;
}

static struct serve_response answer_processes(const struct serve_api * api) {
    size_t                  n;
    struct serve_process ** list = serve_processes_list(api->processes, &n);
    json_t                * all  = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(all, process_json(api, list[i]));
    }
    serve_processes_release_all(api->processes, list, n);
    return json_response(json_pack("{s:o}", "processes", all));
}

//
// counts and recent routing
//

static struct serve_response answer_statistics(const struct question * question) {
    struct error error;
    char       * text = serve_statistics_text(&question->view, question->model->model, &error);
    return text == NULL ? serve_response_error(500, "%s", error.text) : text_response(TYPE_JSON, text);
}

static unsigned status_of(enum serve_study_state state) {
    return state == SERVE_STUDY_WRONG ? 400 : state == SERVE_STUDY_BUSY ? 503 : 500;
}

// What is asked of the counts: NULL, and why in `response`.
static json_t * study_counts(const struct question * question, const char * const * words,
                             struct serve_response * response) {
    struct error error;
    json_t     * answer = NULL;
    char       * text   = serve_statistics_text(&question->view, question->model->model, &error);
    const int    fd     = text == NULL ? -1 : serve_study_file("statistics");
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t) strlen(text)) {
        *response = serve_response_error(500, "%s", text == NULL ? error.text : "out of memory");
    } else {
        const enum serve_study_state state = serve_study(question->api->studies, words, fd, &answer, &error);
        if (state != SERVE_STUDY_DONE) {
            *response = serve_response_error(status_of(state), "%s", error.text);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    free(text);
    return answer;
}

static json_t * watched_json(const struct serve_recent * recent) {
    return json_pack("{s:o, s:o, s:o, s:o}",
                     "seconds",       json_value_real(recent->seconds),
                     "tokens",        json_value_count(recent->n_tokens),
                     "ubatches",      json_value_count(recent->n_ubatches),
                     "overrun_bytes", json_value_count(recent->overrun));
}

// Adds what is asked of recent routing, null and a note where there is none yet. False, and why in `response`, where
// the question itself is wrong.
static bool add_recent(const struct question * question, const char * const * words, json_t * json,
                       struct serve_response * response) {
    struct error           error;
    struct serve_recent    recent;
    json_t               * answer = NULL;
    const char           * note   = "nothing was routed since the process is watched: ask again later, within a minute";
    enum serve_study_state state  = SERVE_STUDY_DONE;
    if (!serve_recents_ask(question->api->recents, question->process, question->model->model, &recent, &error)) {
        note = error.text;
    } else if (recent.fd >= 0) {
        state = serve_study(question->api->studies, words, recent.fd, &answer, &error);
        note  = state == SERVE_STUDY_DONE ? NULL : error.text;
        close(recent.fd);
    }
    if (state == SERVE_STUDY_WRONG || state == SERVE_STUDY_BUSY) {
        *response = serve_response_error(status_of(state), "%s", error.text);
        return false;
    }
    json_object_del(answer, "file");
    json_object_set_new(json, "watched", watched_json(&recent));
    json_object_set_new(json, "recent",  answer == NULL ? json_null() : answer);
    json_object_set_new(json, "note",    json_value_text(note));
    return true;
}

static json_t * begin_answer(const struct question * question) {
    return json_pack("{s:o, s:o}", "process", json_value_text(question->process->label),
                                   "model",   json_value_text(question->model->label));
}

static struct serve_response answer_report(const struct question * question) {
    static const char * const words[] = { "report", "--json", NULL };
    struct serve_response     response;
    json_t                  * counts = study_counts(question, words, &response);
    if (counts == NULL) {
        return response;
    }
    json_t * json = begin_answer(question);
    json_object_del(counts, "file");
    json_object_set_new(json, "counts", counts);
    if (!add_recent(question, words, json, &response)) {
        json_decref(json);
        return response;
    }
    return json_response(json);
}

static const struct cache_word {
    const char * key;
    const char * option;
} cache_words[] = {
    { "size", "--vram" }, { "pcie", "--pcie" }, { "ram", "--ram" }, { "tg", "--tg" }, { "vram-rate", "--vram-rate" },
};

#define N_CACHE_WORDS (sizeof(cache_words) / sizeof(cache_words[0]))

static struct serve_response answer_cache(const struct question * question) {
    const char          * words[3 + N_CACHE_WORDS] = { "cache", "--json" };
    char                * options[N_CACHE_WORDS]   = { NULL };
    size_t                n    = 0;
    json_t              * json = begin_answer(question);
    struct serve_response response;
    for (size_t i = 0; i < N_CACHE_WORDS; i++) {
        const char * value = serve_request_value(question->request, cache_words[i].key);
        if (value != NULL) {
            words[2 + n] = options[n] = memory_text("%s=%s", cache_words[i].option, value);
            n++;
        }
    }
    if (add_recent(question, words, json, &response)) {
        response = json_response(json_incref(json));
    }
    for (size_t i = 0; i < n; i++) {
        free(options[i]);
    }
    json_decref(json);
    return response;
}

static const struct page {
    const char            * name;
    struct serve_response (* answer)(const struct question * question);
} pages[] = {
    { "statistics", answer_statistics },
    { "report",     answer_report     },
    { "cache",      answer_cache      },
};

static const struct page * find_page(const char * name) {
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(pages[i].name, name) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

// The model that is asked for by its label, or the only one. NULL: there is none.
static const struct serve_model * choose_model(const struct serve_model * models, size_t n, const char * label) {
    for (size_t i = 0; label != NULL && i < n; i++) {
        if (strcmp(models[i].label, label) == 0) {
            return &models[i];
        }
    }
    return label == NULL && n == 1 ? &models[0] : NULL;
}

static struct serve_response answer_question(struct question * question, const struct page * page) {
    struct error error;
    if (!serve_processes_read(question->api->processes, question->process, &question->view, &error)) {
        return serve_response_error(503, "%s", error.text);
    }
    struct serve_model  * models = serve_models_new(&question->view);
    const size_t          n      = question->view.n_models;
    struct serve_response response;
    question->model = choose_model(models, n, serve_request_value(question->request, "model"));
    if (question->model != NULL) {
        response = page->answer(question);
    } else {
        response = serve_response_error(404, n == 0 ? "no model is open there yet"
                                        : "which model? Give ?model= one of the labels that " API " has");
    }
    free(models);
    live_view_free(&question->view);
    return response;
}

//
// control
//

static bool is_verb(const char * verb) {
    return strcmp(verb, "start") == 0 || strcmp(verb, "stop") == 0 || strcmp(verb, "reset") == 0;
}

static struct serve_response control(const struct serve_process * process, const char * verb) {
    const char * const         words[]  = { verb, NULL };
    const struct live_question question = { words, -1, LIVE_CLIENT_HOLDS };
    struct live_client         client;
    struct error               error;
    if (!live_client_open(&client, process->folder, &process->client.name, &error)) {
        return serve_response_error(503, "%s", error.text);
    }
    json_t * answer = live_client_ask(&client, &question, &error);
    live_client_close(&client);
    return answer == NULL ? serve_response_error(503, "%s", error.text) : json_response(answer);
}

// A response with a status where it is refused.
static struct serve_response check_control(const struct serve_api * api, const struct serve_request * request) {
    if (api->token == NULL) {
        return serve_response_error(403, "this server controls nothing: start it with --allow-control");
    }
    if (!serve_guard_allows(serve_request_header(request, "Authorization"), api->token)) {
        return serve_response_error(401, "control needs `Authorization: Bearer TOKEN`, with the token that `serve` "
                                    "printed");
    }
    return (struct serve_response) { 0 };
}

//
// paths
//

// The last "/": of a process's name and what is asked of it, which has none. NULL: it is no such path.
static const char * part_of(const char * path, char label[SERVE_LABEL_MAX]) {
    const char * what   = strrchr(path, '/');
    const size_t length = what == NULL || what == path ? 0 : (size_t) (what - path) - 1;
    if (length == 0 || length >= SERVE_LABEL_MAX) {
        return NULL;
    }
    memcpy(label, path + 1, length);
    label[length] = '\0';
    return what + 1;
}

static struct serve_response answer_path(const struct serve_api * api, const struct serve_request * request,
                                         const char * path) {
    char                  label[SERVE_LABEL_MAX];
    const char          * what = part_of(path, label);
    const struct page   * page = what == NULL || request->is_post ? NULL : find_page(what);
    if (what == NULL || (page == NULL && !(request->is_post && is_verb(what)))) {
        return not_found();
    }
    struct serve_process * process = serve_processes_find(api->processes, label);
    if (process == NULL) {
        return serve_response_error(404, "no traced process has this name: " API " has those that are there");
    }
    struct question       question = { .api = api, .request = request, .process = process };
    struct serve_response response = page != NULL ? answer_question(&question, page) : control(process, what);
    serve_processes_release(api->processes, process);
    return response;
}

static const char index_text[] =
    "llama-expert-tracer\n"
    "\n"
    "/metrics                            for Prometheus\n"
    API            "                   the traced processes, as JSON\n"
    API "/NAME/statistics   what one has counted\n"
    API "/NAME/report       how its experts are used\n"
    API "/NAME/cache?size=  what a cache of them would hit\n";

struct serve_response serve_api_answer(void * self, const struct serve_request * request) {
    const struct serve_api * api  = self;
    const char             * path = request->path;
    if (request->is_post) {
        const struct serve_response refused = check_control(api, request);
        if (refused.status != 0) {
            return refused;
        }
    } else if (strcmp(path, "/metrics") == 0) {
        return answer_metrics(api, request);
    } else if (strcmp(path, "/") == 0) {
        return text_response("text/plain; charset=utf-8", memory_text("%s", index_text));
    } else if (strcmp(path, API) == 0) {
        return answer_processes(api);
    }
    return strncmp(path, API "/", strlen(API) + 1) == 0 ? answer_path(api, request, path + strlen(API)) : not_found();
}
