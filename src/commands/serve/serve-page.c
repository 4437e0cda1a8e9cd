// Serves the parts of src/page that the live page asks for, each at a path of its own, so that it needs no scripts and
// styles inside.

#include "commands/serve/serve-page.h"

#include "page/page-parts.h"
#include "tool/error.h"

#include <string.h>

#define FOLDER "/page/"
#define API    "/api/v1/processes"
#define POLICY "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "          \
               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const char index_text[] =
    "llama-expert-tracer\n"
    "\n"
    "/                                   in a browser: what a running model does\n"
    "/metrics                            for Prometheus\n"
    API            "                   the traced processes, as JSON\n"
    API "/NAME/statistics   what one has counted\n"
    API "/NAME/report       how its experts are used\n"
    API "/NAME/cache?size=  what a cache of them would hit\n"
    API "/NAME/live         what it does, every second\n";

static struct serve_response respond(const char * type, const char * text, size_t size) {
    char * body = memory_new(size + 1, 1);
    memcpy(body, text, size);
    return (struct serve_response) { .status = 200, .type = type, .body = body, .size = size, .policy = POLICY };
}

static struct serve_response answer_index(const struct serve_request * request) {
    const char           * accept = serve_request_header(request, "Accept");
    const struct page_part page   = page_part("live.html");
    return accept != NULL && strstr(accept, "text/html") != NULL
        ? respond("text/html; charset=utf-8", page.text, page.size)
        : respond("text/plain; charset=utf-8", index_text, strlen(index_text));
}

// The library that draws is empty where the program was built without it: the page does without.
static bool is_there(const char * name, const struct page_part * part) {
    return part->size > 0 || strcmp(name, "echarts.min.js") == 0;
}

struct serve_response serve_page_answer(const struct serve_request * request) {
    if (strcmp(request->path, "/") == 0) {
        return answer_index(request);
    }
    if (strncmp(request->path, FOLDER, strlen(FOLDER)) != 0) {
        return (struct serve_response) { 0 };
    }
    const char           * name = request->path + strlen(FOLDER);
    const char           * end  = strrchr(name, '.');
    const struct page_part part = page_part(name);
    if (end == NULL || !is_there(name, &part)) {
        return (struct serve_response) { 0 };
    }
    return strcmp(end, ".js")  == 0 ? respond("text/javascript; charset=utf-8", part.text, part.size)
         : strcmp(end, ".css") == 0 ? respond("text/css; charset=utf-8",        part.text, part.size)
                                    : (struct serve_response) { 0 };
}
