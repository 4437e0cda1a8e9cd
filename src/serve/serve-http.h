// The HTTP side of `serve`: connections, their limits and deadlines, and what every answer has. What is asked is left
// to a function.

#pragma once

#include "serve/serve-address.h"
#include "tool/error.h"

#include <stdbool.h>
#include <stddef.h>

struct MHD_Connection;

struct serve_request {
    const char            * path;
    bool                    is_post;
    struct MHD_Connection * connection; // for the two functions below
};

// NULL: it is not there.
const char * serve_request_value (const struct serve_request * request, const char * key);   // behind the `?`
const char * serve_request_header(const struct serve_request * request, const char * name);

// An answer that goes on, made by functions that the thread of its connection calls.
struct serve_stream {
    // Waits a moment for what comes next: allocated text, or NULL where there is nothing yet. False: it has ended,
    // behind the text that there may be.
    bool (* next)(void * self, char ** text);
    void (* free)(void * self);
    void  * self;
};

struct serve_response {
    unsigned            status;
    const char        * type;   // a static string
    char              * body;   // allocated; NULL: it is a stream
    size_t              size;
    struct serve_stream stream;
    const char        * policy; // of its contents (CSP), a static string; NULL: it may have none
};

// A response of one JSON object, {"error": …}.
struct serve_response serve_response_error(unsigned status, const char * format, ...)
    __attribute__((format(printf, 2, 3)));

// May take its time: each request has a thread of its own.
typedef struct serve_response (* serve_handler)(void * self, const struct serve_request * request);

struct serve_http;

// Begins to serve on a listening socket, which belongs to it then. `address` is kept. NULL, and why.
struct serve_http * serve_http_start(int fd, const struct serve_address * address, serve_handler handler, void * self,
                                     struct error * error);
// When those who are being answered have their answers; streams end at once.
void                serve_http_stop (struct serve_http * http);

// Ends connections that are too slow: to be called a few times a second.
void                serve_http_tick (struct serve_http * http);
