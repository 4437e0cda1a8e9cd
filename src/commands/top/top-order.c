// Does what `ctl` does, beside the screen.

#include "commands/top/top-order.h"

#include "commands/ctl/ctl-text.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct top_order {
    pthread_t        thread;
    atomic_bool      is_done;
    int              directory;
    struct live_name name;
    char           * file;
    char           * model;
    struct ctl_order order;
    char           * result;
};

static char * do_order(const struct top_order * order) {
    struct live_client client;
    struct ctl_result  result;
    struct error       error;
    if (!live_client_open(&client, order->directory, &order->name, &error)) {
        return memory_text("%s", error.text);
    }
    char * text = ctl_order_do(&order->order, &client, &result, &error) ? ctl_text_done(&order->order, &result)
                                                                       : memory_text("%s", error.text);
    ctl_result_free(&result);
    live_client_close(&client);
    return text;
}

static void * run(void * self) {
    struct top_order * order = self;
    order->result = do_order(order);
    atomic_store(&order->is_done, true);
    return NULL;
}

static void forget(struct top_order * order) {
    if (order->directory >= 0) {
        close(order->directory);
    }
    free(order->file);
    free(order->model);
    free(order);
}

struct top_order * top_order_begin(const struct top_session * session, enum ctl_verb verb, const char * file,
                                   uint32_t model, struct error * error) {
    struct top_order * order = memory_new(1, sizeof(*order));
    order->directory = fcntl(session->directory, F_DUPFD_CLOEXEC, 0);
    order->name      = session->name;
    order->file      = memory_text("%s", file);
    order->model     = memory_text("%u", (unsigned) model);
    order->order     = (struct ctl_order) {
        .verb = verb, .file = order->file, .model = verb == CTL_RESET ? NULL : order->model,
    };
    const int why = pthread_create(&order->thread, NULL, run, order);
    if (why != 0) {
        error_set(error, "no thread can be started: %s", strerror(why));
        forget(order);
        return NULL;
    }
    return order;
}

bool top_order_is_done(const struct top_order * order) {
    return atomic_load(&order->is_done);
}

char * top_order_end(struct top_order * order) {
    if (order == NULL) {
        return NULL;
    }
    pthread_join(order->thread, NULL);
    char * result = order->result;
    forget(order);
    return result;
}
