// The command `serve`: the counts of running programs by HTTP, for Prometheus and for others.

#include "commands/commands.h"
#include "commands/serve/serve-api.h"
#include "serve/serve-guard.h"
#include "tool/options.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICK 250000000 // nanoseconds

struct options {
    const char * listen;
    bool         per_expert;
    bool         allow_control;
};

static const struct option_spec options_known[] = {
    { 0, "listen", OPTION_TEXT, OPTION_AT(listen), .value = "ADDR:PORT",
      .help = "where to listen (default: " SERVE_ADDRESS_DEFAULT "); [::1]:9464 for IPv6; port 0: any that is free" },
    { 0, "per-expert", OPTION_ON, OPTION_AT(per_expert),
      .help = "/metrics has a series for each expert of each layer, too" },
    { 0, "allow-control", OPTION_ON, OPTION_AT(allow_control),
      .help = "counting can be started, stopped and reset, by who has the token that is printed" },
    { 0 },
};

// Ctrl-C and its like come to the main thread alone.
static void hold_signals(sigset_t * signals) {
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, signals, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void print_address(const struct serve_address * address) {
    const char * host = address->host;
    const bool   v6   = strchr(host, ':') != NULL;
    fprintf(stderr, "llama-expert-tracer: http://%s%s%s:%u/ in a browser, /metrics for Prometheus\n", v6 ? "[" : "",
            host, v6 ? "]" : "", address->port);
}

static void go_on(struct serve_http * http, const sigset_t * signals) {
    const struct timespec tick = { 0, TICK };
    while (sigtimedwait(signals, NULL, &tick) < 0) {
        serve_http_tick(http);
    }
}

static int serve_at(struct serve_api * api, int fd, const struct serve_address * address, const sigset_t * signals) {
    struct error        error;
    struct serve_http * http = serve_http_start(fd, address, serve_api_answer, api, &error);
    if (http == NULL) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    print_address(address);
    if (api->token != NULL) {
        fprintf(stderr, "llama-expert-tracer: control needs Authorization: Bearer %s\n", api->token);
    }
    go_on(http, signals);
    serve_studies_stop(api->studies);
    serve_http_stop(http);
    return STATUS_OK;
}

static int serve_all(struct serve_api * api, int fd, const struct serve_address * address, const sigset_t * signals) {
    int status = STATUS_FAILED;
    api->processes = serve_processes_new();
    api->recents   = api->processes == NULL ? NULL : serve_recents_new(api->processes);
    if (api->recents != NULL) {
        api->studies = serve_studies_new();
        api->lives   = serve_lives_new();
        status = serve_at(api, fd, address, signals);
        serve_recents_free(api->recents);
        serve_studies_free(api->studies);
        serve_lives_free(api->lives);
    } else {
        error_say("no thread can be started");
    }
    if (api->processes != NULL) {
        serve_processes_free(api->processes);
    }
    return status;
}

static int serve(const struct options * options) {
    struct error         error;
    struct serve_address address;
    sigset_t             signals;
    char                 token[SERVE_TOKEN_SIZE];
    struct serve_api     api = { .per_expert = options->per_expert, .token = options->allow_control ? token : NULL };
    if (!serve_address_parse(options->listen, &address, &error)) {
        return command_usage_error(&command_serve, "%s", error.text);
    }
    if (options->allow_control && !serve_guard_token(token)) {
        error_say("there are no random numbers for a token");
        return STATUS_FAILED;
    }
    const int fd = serve_address_listen(&address, &error);
    if (fd < 0) {
        error_say("%s", error.text);
        return STATUS_FAILED;
    }
    hold_signals(&signals);
    return serve_all(&api, fd, &address, &signals);
}

static int serve_main(int argc, char ** argv) {
    struct options options = { .listen = SERVE_ADDRESS_DEFAULT };
    int            status;
    if (!options_parse(&command_serve, &options, &argc, &argv, &status)) {
        return status;
    }
    return argc == 0 ? serve(&options) : command_usage_error(&command_serve, "no arguments but options");
}

const struct command command_serve = {
    .name    = "serve",
    .summary = "shows running programs in a browser, to Prometheus, and as JSON",
    .usage   = "[OPTION]…",
    .about   = "Serves what the traced programs of this user (root: of everybody) have counted so far, by HTTP: "
               "`/` for a browser, a page of what a running model does; `/metrics` for Prometheus; and `/api/v1/…` as "
               "JSON. It finds programs as they begin, and costs them nothing. Ctrl-C ends it.",
    .options = options_known,
    .notes   = "Everybody who may connect sees it: on this machine all users, unless --listen makes it more. Programs "
               "show themselves that were started by `run`, or with LLAMA_EXPERT_TRACE_LIVE=1. docs/serve.md has "
               "everything that can be asked, docs/operators.md how to set it up.",
    .main    = serve_main,
};
