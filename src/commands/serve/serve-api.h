// What `serve` answers: metrics, the interface for programs (docs/serve.md), and control.

#pragma once

#include "commands/serve/serve-live.h"
#include "serve/serve-http.h"
#include "serve/serve-processes.h"
#include "serve/serve-recent.h"
#include "serve/serve-study.h"

struct serve_api {
    struct serve_processes * processes;
    struct serve_recents   * recents;
    struct serve_studies   * studies;
    struct serve_lives     * lives;
    bool                     per_expert;
    const char             * token;      // NULL: nobody controls anything
};

// A serve_handler, with `self` being a struct serve_api.
struct serve_response serve_api_answer(void * self, const struct serve_request * request);
