// Finds what a path asks for, and answers it.

#include "commands/serve/serve-api.h"

#include "commands/live-json.h"
#include "commands/serve/serve-page.h"
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
                        : (struct serve_response) { .status = 200, .type = type, .body = body, .size = strlen(body) };
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

static json_t * untraced_json(const struct serve_api * api) {
    size_t                  n;
    struct serve_untraced * list = serve_processes_untraced(api->processes, &n);
    json_t                * json = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(json, json_pack("{s:i, s:o, s:o}",
                                              "pid",     (int) list[i].pid,
                                              "user",    json_value_count(list[i].user),
                                              "program", json_value_text(list[i].program)));
    }
    free(list);
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
    return json_response(json_pack("{s:o, s:o}", "processes", all, "untraced", untraced_json(api)));
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
// live
//

// The number of the model that is asked for by its label; 0 where none is asked for: the busiest. False: it has none of
// that name.
static bool number_of_model(const struct question * question, const char * label, uint32_t * number) {
    struct error     error;
    struct live_view view;
    *number = 0;
    if (label == NULL) {
        return true;
    }
    if (!serve_processes_read(question->api->processes, question->process, &view, &error)) {
        return false;
    }
    struct serve_model       * models = serve_models_new(&view);
    const struct serve_model * found  = choose_model(models, view.n_models, label);
    *number = found == NULL ? 0 : found->model->number;
    free(models);
    live_view_free(&view);
    return *number != 0;
}

static struct serve_response change_live(const struct question * question, const struct watch_question * asked) {
    const char * stream = serve_request_value(question->request, "stream");
    return stream != NULL && serve_live_change(question->api->lives, stream, asked)
        ? json_response(json_object()) : serve_response_error(404, "no stream has this name");
}

static struct serve_response answer_live(struct question * question) {
    struct watch_question asked;
    if (!serve_live_window(serve_request_value(question->request, "window"), &asked.window)) {
        return serve_response_error(400, "?window= is a number of seconds, 1 to %d, or all", WATCH_SECONDS_MAX);
    }
    if (!number_of_model(question, serve_request_value(question->request, "model"), &asked.model)) {
        return serve_response_error(404, "it has no model of this name: " API " has those that are there");
    }
    return question->request->is_post ? change_live(question, &asked)
                                      : serve_live_open(question->api->lives, question->process, &asked);
}

// Whoever knows a stream's name may ask it something else.
static bool is_live(const char * what) {
    return strcmp(what, "live") == 0;
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

static struct serve_response answer_verb(const struct serve_api * api, const struct serve_request * request,
                                         struct serve_process * process, const char * what) {
    struct question question = { .api = api, .request = request, .process = process };
    return is_live(what)    ? answer_live(&question)
         : request->is_post ? control(process, what)
                            : answer_question(&question, find_page(what));
}

// Whether it can be asked of a process at all.
static bool is_known(const struct serve_request * request, const char * what) {
    return is_live(what) || (request->is_post ? is_verb(what) : find_page(what) != NULL);
}

static struct serve_response answer_path(const struct serve_api * api, const struct serve_request * request) {
    char         label[SERVE_LABEL_MAX];
    const bool   is_api = strncmp(request->path, API "/", strlen(API) + 1) == 0;
    const char * what   = is_api ? part_of(request->path + strlen(API), label) : NULL;
    if (request->is_post && (what == NULL || !is_live(what))) {
        const struct serve_response refused = check_control(api, request);
        if (refused.status != 0) {
            return refused;
        }
    }
    if (what == NULL || !is_known(request, what)) {
        return not_found();
    }
    struct serve_process * process = serve_processes_find(api->processes, label);
    if (process == NULL) {
        return serve_response_error(404, "no traced process has this name: " API " has those that are there");
    }
    const struct serve_response response = answer_verb(api, request, process, what);
    serve_processes_release(api->processes, process);
    return response;
}

static struct serve_response answer_get(const struct serve_api * api, const struct serve_request * request) {
    const struct serve_response page = serve_page_answer(request);
    return page.status != 0                       ? page
         : strcmp(request->path, "/metrics") == 0 ? answer_metrics(api, request)
         : strcmp(request->path, API) == 0        ? answer_processes(api)
                                                  : answer_path(api, request);
}

struct serve_response serve_api_answer(void * self, const struct serve_request * request) {
    return request->is_post ? answer_path(self, request) : answer_get(self, request);
}
