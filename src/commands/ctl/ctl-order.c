// Puts orders into the words of the protocol (docs/live-format.md), opens the files that go with them, and takes the
// answers apart.

#include "commands/ctl/ctl-order.h"

#include "base/folder.h"
#include "commands/ctl/ctl-file.h"
#include "tool/output-file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS_MAX 8

// A request in the making.
struct request {
    char * words[WORDS_MAX + 1]; // NULL behind the last
    size_t n;
    int    fd;
};

// Takes the word.
static void add(struct request * request, char * word) {
    request->words[request->n++] = word;
}

static struct request request_new(const char * verb) {
    struct request request = { .fd = -1 };
    add(&request, memory_text("%s", verb));
    return request;
}

static void request_free(struct request * request) {
    for (size_t i = 0; i < request->n; i++) {
        free(request->words[i]);
    }
}

//
// the model that is meant
//

static bool is_number(const char * text) {
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static bool find_by_name(const struct live_status * status, const char * name, uint64_t * number,
                         struct error * error) {
    size_t n = 0;
    for (size_t i = 0; i < status->n_models; i++) {
        const struct live_status_model * model = &status->models[i];
        if (model->name != NULL && strcmp(model->name, name) == 0) {
            *number = model->number;
            n++;
        }
    }
    return n == 1 || error_set(error, "it has %s '%s': give the number of one, see `status`",
                               n == 0 ? "no model" : "several models", name);
}

// Adds nothing where no model was named.
static bool add_model(const struct ctl_order * order, const struct live_client * client, struct request * request,
                      struct error * error) {
    uint64_t number = 0;
    if (order->model == NULL) {
        return true;
    }
    if (is_number(order->model)) {
        add(request, memory_text("model=%s", order->model));
        return true;
    }
    struct live_status * status = live_status_ask(client, error);
    const bool           found  = status != NULL && find_by_name(status, order->model, &number, error);
    live_status_free(status);
    if (found) {
        add(request, memory_text("model=%" PRIu64, number));
    }
    return found;
}

//
// answers
//

static void take_hold(const json_t * answer, struct ctl_hold * hold) {
    const json_t * ubatch = json_object_get(answer, "ubatch");
    hold->model   = (uint64_t) json_integer_value(json_object_get(answer, "model"));
    hold->context = (uint64_t) json_integer_value(json_object_get(answer, "context"));
    hold->ubatch  = json_is_integer(ubatch) ? json_integer_value(ubatch) : -1;
}

// Takes the answer.
static bool take_answer(json_t * answer, struct ctl_result * result) {
    if (answer == NULL) {
        return false;
    }
    const json_t * holds = json_object_get(answer, "holds");
    const char   * path  = json_string_value(json_object_get(answer, "path"));
    result->has_holds = holds != NULL;
    result->n_holds   = json_array_size(holds);
    result->holds     = memory_new(result->n_holds, sizeof(*result->holds));
    for (size_t i = 0; i < result->n_holds; i++) {
        take_hold(json_array_get(holds, i), &result->holds[i]);
    }
    result->bytes = (uint64_t) json_integer_value(json_object_get(answer, "bytes"));
    if (path != NULL) {
        free(result->path);
        result->path = memory_text("%s", path);
    }
    json_decref(answer);
    return true;
}

void ctl_result_free(struct ctl_result * result) {
    live_status_free(result->status);
    free(result->holds);
    free(result->path);
    *result = (struct ctl_result) { 0 };
}

static bool ask(const struct request * request, const struct live_client * client, struct ctl_result * result,
                struct error * error) {
    const struct live_question question = {
        (const char * const *) request->words, request->fd, LIVE_CLIENT_HOLDS,
    };
    return take_answer(live_client_ask(client, &question, error), result);
}

// The same of a model. Forgets the request.
static bool ask_of_model(const struct ctl_order * order, const struct live_client * client, struct request * request,
                         struct ctl_result * result, struct error * error) {
    const bool ok = add_model(order, client, request, error) && ask(request, client, result, error);
    request_free(request);
    return ok;
}

//
// dump
//

static bool copy(int from, FILE * to) {
    char    bytes[65536];
    ssize_t n;
    off_t   at = 0;
    while ((n = pread(from, bytes, sizeof(bytes), at)) > 0) {
        if (fwrite(bytes, 1, (size_t) n, to) != (size_t) n) {
            return true; // the stream remembers
        }
        at += n;
    }
    return n == 0;
}

// A tracer writes to regular files alone: what is none gets a copy.
static bool dump_by_copy(const struct ctl_order * order, const struct live_client * client, FILE * out,
                         struct ctl_result * result, struct error * error) {
    struct request request = request_new("dump");
    request.fd = memfd_create("dump", MFD_CLOEXEC);
    if (request.fd < 0) {
        request_free(&request);
        return error_set(error, "no memory for the statistics: %s", strerror(errno));
    }
    bool ok = ask_of_model(order, client, &request, result, error);
    if (ok && !copy(request.fd, out)) {
        ok = error_set(error, "the statistics cannot be read back: %s", strerror(errno));
    }
    close(request.fd);
    return ok;
}

static bool dump_to(const struct ctl_order * order, const struct live_client * client, struct output_file * file,
                    struct ctl_result * result, struct error * error) {
    if (file->aside == NULL) {
        return dump_by_copy(order, client, file->out, result, error);
    }
    struct request request = request_new("dump");
    request.fd = fileno(file->out);
    return ask_of_model(order, client, &request, result, error);
}

static bool do_dump(const struct ctl_order * order, const struct live_client * client, struct ctl_result * result,
                    struct error * error) {
    struct output_file file;
    if (!output_file_open(&file, order->file, FILE_KIND_STATISTICS, order->force, error)) {
        return false;
    }
    if (!dump_to(order, client, &file, result, error)) {
        output_file_drop(&file);
        return false;
    }
    result->path = memory_text("%s", order->file);
    return output_file_close(&file, error);
}

//
// record
//

static char * absolute(const char * path) {
    char * folder = folder_current();
    char * whole  = folder_path(folder, path);
    free(folder);
    return whole;
}

static bool is_rotated(const struct ctl_order * order) {
    return order->rotate_size > 0 || order->rotate_time > 0 || order->keep > 0;
}

static struct request record_request(const struct ctl_order * order) {
    struct request request = request_new("record");
    add(&request, memory_text("weights=%d", order->weights));
    add(&request, memory_text("tokens=%d",  order->tokens));
    return request;
}

// The files are the process's own, wherever it is.
static bool record_rotated(const struct ctl_order * order, const struct live_client * client,
                           struct ctl_result * result, struct error * error) {
    struct request request = record_request(order);
    char         * path    = absolute(order->file);
    add(&request, memory_text("path=%s",          path == NULL ? order->file : path));
    add(&request, memory_text("rotate-size=%.0f", order->rotate_size));
    add(&request, memory_text("rotate-time=%.9g", order->rotate_time));
    add(&request, memory_text("keep=%.0f",        order->keep));
    free(path);
    return ask_of_model(order, client, &request, result, error);
}

static bool record_to_file(const struct ctl_order * order, const struct live_client * client,
                           struct ctl_result * result, struct error * error) {
    struct ctl_file file;
    if (!ctl_file_open(&file, order->file, order->force, error)) {
        return false;
    }
    struct request request = record_request(order);
    request.fd = file.fd;
    add(&request, memory_text("name=%s", file.place.path));
    result->path = memory_text("%s", file.place.path);
    if (ask_of_model(order, client, &request, result, error)) {
        return ctl_file_keep(&file, error);
    }
    ctl_file_drop(&file);
    return false;
}

//
// all verbs
//

// Takes the word.
static bool do_plain(const char * verb, char * word, const struct live_client * client, struct ctl_result * result,
                     struct error * error) {
    struct request request = request_new(verb);
    if (word != NULL) {
        add(&request, word);
    }
    const bool ok = ask(&request, client, result, error);
    request_free(&request);
    return ok;
}

static bool do_record_stop(const struct ctl_order * order, const struct live_client * client,
                           struct ctl_result * result, struct error * error) {
    struct request request = request_new("record-stop");
    return ask_of_model(order, client, &request, result, error);
}

bool ctl_order_do(const struct ctl_order * order, const struct live_client * client, struct ctl_result * result,
                  struct error * error) {
    *result = (struct ctl_result) { 0 };
    switch (order->verb) {
        case CTL_STATUS:      return (result->status = live_status_ask(client, error)) != NULL;
        case CTL_START:       return do_plain("start", NULL, client, result, error);
        case CTL_STOP:        return do_plain("stop",  NULL, client, result, error);
        case CTL_RESET:       return do_plain("reset", NULL, client, result, error);
        case CTL_DUMP:        return do_dump(order, client, result, error);
        case CTL_RECORD:      return is_rotated(order) ? record_rotated(order, client, result, error)
                                                       : record_to_file(order, client, result, error);
        case CTL_RECORD_STOP: return do_record_stop(order, client, result, error);
        case CTL_NAMES:       return do_plain("names", memory_text("on=%d", order->on), client, result, error);
        case CTL_INTERVAL:    return do_plain("interval", memory_text("seconds=%.9g", order->interval), client, result,
                                              error);
        default:              return error_set(error, "there is no such order");
    }
}
