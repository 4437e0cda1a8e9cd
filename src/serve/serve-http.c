// Serves HTTP by libmicrohttpd: a thread for each connection, so that nobody waits for somebody else's answer, and a
// deadline for each, as the library's own begins anew with every byte.

#include "serve/serve-http.h"

#include "serve/serve-guard.h"
#include "tool/clock.h"

#include <jansson.h>
#include <microhttpd.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECTIONS_MAX   512
#define CONNECTIONS_CROWD 384   // from so many on, a new one ends the one that has waited longest
#define REQUEST_TIME      10000 // milliseconds, for the whole of a request, as slowly as it may come
#define RESPONSE_TIME     30000 // until all of an answer is fetched
#define IDLE_TIME         90000 // until the next request
#define MEMORY_OF_REQUEST (16 << 10)
#define STACK             (512 << 10)
#define STREAM_BUFFER     (64 << 10) // of the system, so that a client that does not read is seen to
#define BODY_MAX          4096  // what comes with a POST is not looked at
#define HTTP_TOO_LARGE    413   // which versions of the library call differently

struct visitor {
    struct visitor * next;
    int              fd;
    int64_t          deadline; // of the monotonic clock, milliseconds; 0: it is being answered
};

struct serve_http {
    struct MHD_Daemon          * daemon;
    const struct serve_address * address;
    serve_handler                handler;
    void                       * self;
    pthread_mutex_t              mutex;
    struct visitor             * visitors;
    size_t                       n_visitors;
    atomic_bool                  ends;
};

// A stream under way: what it has made last, and how much of that is sent.
struct flow {
    struct serve_http     * http;
    struct MHD_Connection * connection;
    int                     fd;
    struct serve_stream     stream;
    char                  * text;
    size_t                  size;
    size_t                  sent;
    bool                    ended;
};

//
// connections
//

// A socket of a visitor in the list is open: MHD reports its end first.
static void end_visitor(struct visitor * visitor) {
    shutdown(visitor->fd, SHUT_RDWR);
    visitor->deadline = 0;
}

static struct visitor * longest_waiting(const struct serve_http * http) {
    struct visitor * found = NULL;
    for (struct visitor * at = http->visitors; at != NULL; at = at->next) {
        if (at->deadline != 0 && (found == NULL || at->deadline < found->deadline)) {
            found = at;
        }
    }
    return found;
}

static struct visitor * let_in(struct serve_http * http, int fd) {
    struct visitor * crowding = http->n_visitors >= CONNECTIONS_CROWD ? longest_waiting(http) : NULL;
    struct visitor * visitor  = memory_new(1, sizeof(*visitor));
    if (crowding != NULL) {
        end_visitor(crowding);
    }
    *visitor = (struct visitor) { http->visitors, fd, clock_milliseconds() + REQUEST_TIME };
    http->visitors = visitor;
    http->n_visitors++;
    return visitor;
}

static void let_out(struct serve_http * http, struct visitor * visitor) {
    struct visitor ** at = &http->visitors;
    while (*at != visitor) {
        at = &(*at)->next;
    }
    *at = visitor->next;
    http->n_visitors--;
    free(visitor);
}

static void on_connection(void * self, struct MHD_Connection * connection, void ** context,
                          enum MHD_ConnectionNotificationCode what) {
    struct serve_http * http = self;
    pthread_mutex_lock(&http->mutex);
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *context = let_in(http, MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    } else if (*context != NULL) {
        let_out(http, *context);
        *context = NULL;
    }
    pthread_mutex_unlock(&http->mutex);
}

// 0: no deadline.
static void set_deadline(struct serve_http * http, struct MHD_Connection * connection, int64_t milliseconds) {
    struct visitor * visitor = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    pthread_mutex_lock(&http->mutex);
    visitor->deadline = milliseconds == 0 ? 0 : clock_milliseconds() + milliseconds;
    pthread_mutex_unlock(&http->mutex);
}

void serve_http_tick(struct serve_http * http) {
    const int64_t time = clock_milliseconds();
    pthread_mutex_lock(&http->mutex);
    for (struct visitor * at = http->visitors; at != NULL; at = at->next) {
        if (at->deadline != 0 && at->deadline <= time) {
            end_visitor(at);
        }
    }
    pthread_mutex_unlock(&http->mutex);
}

//
// answers
//

struct serve_response serve_response_error(unsigned status, const char * format, ...) {
    char    text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    json_t * message = json_string(text);
    json_t * json    = json_pack("{s:o}", "error", message != NULL ? message : json_string("an error that is no text"));
    char   * body    = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return (struct serve_response) {
        .status = status, .type = "application/json", .body = body, .size = body == NULL ? 0 : strlen(body),
    };
}

#define POLICY "default-src 'none'; frame-ancestors 'none'"

static const char * const headers[][2] = {
    { "X-Content-Type-Options",       "nosniff" },
    { "Cache-Control",                "no-store" },
    { "Cross-Origin-Resource-Policy", "same-origin" },
    { "Referrer-Policy",              "no-referrer" },
};

static void add_headers(struct MHD_Response * out, const struct serve_response * response) {
    MHD_add_response_header(out, "Content-Type", response->type);
    MHD_add_response_header(out, "Content-Security-Policy", response->policy == NULL ? POLICY : response->policy);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        MHD_add_response_header(out, headers[i][0], headers[i][1]);
    }
    if (response->status == MHD_HTTP_UNAUTHORIZED) {
        MHD_add_response_header(out, "WWW-Authenticate", "Bearer");
    }
    if (response->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(out, "Allow", "GET, HEAD, POST");
    }
}

static enum MHD_Result respond(struct MHD_Connection * connection, const struct serve_response * response,
                               struct MHD_Response * out) {
    if (out == NULL) {
        return MHD_NO;
    }
    add_headers(out, response);
    const enum MHD_Result result = MHD_queue_response(connection, response->status, out);
    MHD_destroy_response(out);
    return result;
}

static enum MHD_Result respond_body(struct MHD_Connection * connection, const struct serve_response * response) {
    struct MHD_Response * out = MHD_create_response_from_buffer(response->size, response->body, MHD_RESPMEM_MUST_FREE);
    if (out == NULL) {
        free(response->body);
    }
    return respond(connection, response, out);
}

//
// streams
//

static void free_flow(void * self) {
    struct flow * flow = self;
    flow->stream.free(flow->stream.self);
    free(flow->text);
    free(flow);
}

// A client that has hung up, and would be noticed by what is sent next but one.
static bool is_gone(int fd) {
    struct pollfd end = { fd, POLLRDHUP, 0 };
    return poll(&end, 1, 0) > 0;
}

// Waits until there is something to send. False: there never will be.
static bool fill(struct flow * flow) {
    while (flow->sent == flow->size) {
        if (flow->ended || atomic_load(&flow->http->ends) || is_gone(flow->fd)) {
            return false;
        }
        free(flow->text);
        flow->text  = NULL;
        flow->ended = !flow->stream.next(flow->stream.self, &flow->text);
        flow->size  = flow->text == NULL ? 0 : strlen(flow->text);
        flow->sent  = 0;
    }
    return true;
}

// Called when all that it returned before is sent: from then on its client has time for the next part.
static ssize_t flow_on(void * self, uint64_t position, char * to, size_t room) {
    (void) position;
    struct flow * flow = self;
    set_deadline(flow->http, flow->connection, 0);
    if (!fill(flow)) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    const size_t size = flow->size - flow->sent < room ? flow->size - flow->sent : room;
    memcpy(to, flow->text + flow->sent, size);
    flow->sent += size;
    set_deadline(flow->http, flow->connection, RESPONSE_TIME);
    return (ssize_t) size;
}

static enum MHD_Result respond_stream(struct serve_http * http, struct MHD_Connection * connection,
                                      const struct serve_response * response) {
    const int     buffer = STREAM_BUFFER;
    const int     fd     = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    struct flow * flow   = memory_new(1, sizeof(*flow));
    *flow = (struct flow) { .http = http, .connection = connection, .fd = fd, .stream = response->stream };
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
    struct MHD_Response * out = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BUFFER, flow_on, flow,
                                                                  free_flow);
    if (out == NULL) {
        free_flow(flow);
    }
    return respond(connection, response, out);
}

//
// requests
//

const char * serve_request_value(const struct serve_request * request, const char * key) {
    return MHD_lookup_connection_value(request->connection, MHD_GET_ARGUMENT_KIND, key);
}

const char * serve_request_header(const struct serve_request * request, const char * name) {
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result count_host(void * n, enum MHD_ValueKind kind, const char * key, const char * value) {
    (void) kind;
    (void) value;
    *(int *) n += strcasecmp(key, "Host") == 0;
    return MHD_YES;
}

static bool is_one_of(const char * method, const char * a, const char * b) {
    return strcmp(method, a) == 0 || strcmp(method, b) == 0;
}

// What is refused whatever is asked for: a status, 0 for nothing.
static struct serve_response refuse(const struct serve_http * http, const struct serve_request * request,
                                    const char * method) {
    const char * host    = serve_request_header(request, "Host");
    int          n_hosts = 0;
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, count_host, &n_hosts);
    if (n_hosts > 1 || !serve_guard_host(http->address, host)) {
        return serve_response_error(MHD_HTTP_MISDIRECTED_REQUEST,
                                    "the Host of this request is not this server's: use the address where it listens");
    }
    if (!serve_guard_origin(host, serve_request_header(request, "Origin"),
                            serve_request_header(request, "Sec-Fetch-Site"))) {
        return serve_response_error(MHD_HTTP_FORBIDDEN, "this server answers no pages of other origins");
    }
    if (!is_one_of(method, "GET", "HEAD") && strcmp(method, "POST") != 0) {
        return serve_response_error(MHD_HTTP_METHOD_NOT_ALLOWED, "GET, HEAD, and POST for control");
    }
    return (struct serve_response) { 0 };
}

static struct serve_response answer(const struct serve_http * http, const struct serve_request * request,
                                    const char * method, size_t received) {
    struct serve_response response = refuse(http, request, method);
    if (response.status == 0 && received > BODY_MAX) {
        response = serve_response_error(HTTP_TOO_LARGE, "more than %d bytes: none are needed", BODY_MAX);
    }
    return response.status != 0 ? response : http->handler(http->self, request);
}

// Called once when the headers are there, with each part of what follows them, and once behind that.
static enum MHD_Result on_request(void * self, struct MHD_Connection * connection, const char * url,
                                  const char * method, const char * version, const char * upload, size_t * upload_size,
                                  void ** context) {
    (void) version;
    (void) upload;
    struct serve_http * http     = self;
    size_t            * received = *context;
    if (received == NULL) {
        *context = memory_new(1, sizeof(*received));
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *received += *upload_size;
        *upload_size = 0;
        return *received > 2 * BODY_MAX ? MHD_NO : MHD_YES;
    }
    const struct serve_request request = { url, strcmp(method, "POST") == 0, connection };
    set_deadline(http, connection, 0);
    const struct serve_response response = answer(http, &request, method, *received);
    set_deadline(http, connection, RESPONSE_TIME);
    return response.stream.next != NULL ? respond_stream(http, connection, &response)
                                        : respond_body(connection, &response);
}

static void on_completed(void * self, struct MHD_Connection * connection, void ** context,
                         enum MHD_RequestTerminationCode how) {
    (void) how;
    free(*context);
    *context = NULL;
    set_deadline(self, connection, IDLE_TIME);
}

//
// the whole
//

struct serve_http * serve_http_start(int fd, const struct serve_address * address, serve_handler handler, void * self,
                                     struct error * error) {
    struct serve_http * http = memory_new(1, sizeof(*http));
    http->address = address;
    http->handler = handler;
    http->self    = self;
    pthread_mutex_init(&http->mutex, NULL);
    http->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL,
        on_request, http,
        MHD_OPTION_LISTEN_SOCKET,           fd,
        MHD_OPTION_CONNECTION_LIMIT,        (unsigned) CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) MEMORY_OF_REQUEST,
        MHD_OPTION_CONNECTION_TIMEOUT,      (unsigned) (IDLE_TIME / 1000),
        MHD_OPTION_THREAD_STACK_SIZE,       (size_t) STACK,
        MHD_OPTION_NOTIFY_CONNECTION,       on_connection, http,
        MHD_OPTION_NOTIFY_COMPLETED,        on_completed,  http,
        MHD_OPTION_END);
    if (http->daemon == NULL) {
        pthread_mutex_destroy(&http->mutex);
        free(http);
        error_set(error, "cannot serve HTTP: is there memory left, and are threads?");
        return NULL;
    }
    return http;
}

void serve_http_stop(struct serve_http * http) {
    atomic_store(&http->ends, true);
    MHD_stop_daemon(http->daemon);
    pthread_mutex_destroy(&http->mutex);
    free(http);
}
