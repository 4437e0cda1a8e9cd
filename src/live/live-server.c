// Listens on the socket, and passes requests on to who can answer them.

#include "live/live-server.h"

#include "base/descriptor.h"
#include "live/live-layout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define LIVE_CLIENTS_MAX  32
#define LIVE_MESSAGE_MAX  65536
#define LIVE_REQUEST_MAX  8192   // paths are the longest part
#define LIVE_PATIENCE     10000  // milliseconds until a request has to be answered
#define LIVE_STEP         5      // between two attempts
#define LIVE_ACCEPT_PAUSE 200    // where a client cannot be taken

struct live_connection {
    int                 fd;        // -1: free
    bool                watches;
    bool                waits;     // for the answer to `request`
    int64_t             until;     // that has to be there, milliseconds of the monotonic clock
    struct live_request request;
    char                message[LIVE_REQUEST_MAX + 1];
};

struct live_server {
    struct live_place      place;
    int                    listener;
    int                    wake;   // an eventfd
    int                    memory;
    struct live_answers    answers;
    pthread_t              thread;
    bool                   has_thread;
    atomic_bool            stopping;
    int                    n_watchers;
    int64_t                pause_until; // of taking clients
    struct live_connection connections[LIVE_CLIENTS_MAX];
};

static int64_t live_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const char * live_request_value(const struct live_request * request, const char * key) {
    const size_t length = strlen(key);
    for (size_t i = 1; i < request->n_words; i++) {
        if (strncmp(request->words[i], key, length) == 0 && request->words[i][length] == '=') {
            return request->words[i] + length + 1;
        }
    }
    return NULL;
}

//
// clients
//

static void live_note_watchers(struct live_server * server, int more) {
    const bool before = server->n_watchers > 0;
    server->n_watchers += more;
    if (before != (server->n_watchers > 0)) {
        server->answers.watch(server->answers.self, server->n_watchers > 0);
    }
}

static void live_drop_descriptor(struct live_request * request) {
    if (request->fd >= 0) {
        close(request->fd);
    }
    request->fd = -1;
}

static void live_close(struct live_server * server, struct live_connection * connection) {
    if (connection->fd < 0) {
        return;
    }
    live_drop_descriptor(&connection->request);
    close(connection->fd);
    connection->fd    = -1;
    connection->waits = false;
    if (connection->watches) {
        connection->watches = false;
        live_note_watchers(server, -1);
    }
}

// One of the same user, or root.
static bool live_is_welcome(int fd) {
    struct ucred who;
    socklen_t    size = sizeof(who);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && (who.uid == geteuid() || who.uid == 0);
}

static struct live_connection * live_free_connection(struct live_server * server) {
    for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
        if (server->connections[i].fd < 0) {
            return &server->connections[i];
        }
    }
    return NULL;
}

static void live_accept(struct live_server * server) {
    const int fd = descriptor_take(accept4(server->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd < 0) {
        server->pause_until = fd == -EAGAIN ? 0 : live_now() + LIVE_ACCEPT_PAUSE;
        return;
    }
    struct live_connection * connection = live_is_welcome(fd) ? live_free_connection(server) : NULL;
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->fd         = fd;
    connection->request.fd = -1;
}

//
// messages
//

// Returns false where the client does not fetch its answers.
static bool live_send(int fd, const char * text, size_t length, int descriptor) {
    union {
        struct cmsghdr header;
        char           room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec  part    = { (void *) (uintptr_t) text, length };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (descriptor >= 0) {
        message.msg_control    = &control;
        message.msg_controllen = sizeof(control.room);
        struct cmsghdr * header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type  = SCM_RIGHTS;
        header->cmsg_len   = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
    }
    return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

// Takes the first descriptor that came with it, and closes all others.
static int live_descriptor_of(struct msghdr * message) {
    int found = -1;
    for (struct cmsghdr * header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        const size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
            fd = descriptor_take(fd);
            if (found < 0) {
                found = fd < 0 ? -1 : fd;
            } else if (fd >= 0) {
                close(fd);
            }
        }
    }
    return found;
}

// Words that are each ended by a zero. Returns false where they are none.
static bool live_split(struct live_request * request, const char * message, size_t length) {
    request->n_words = 0;
    if (length == 0 || message[length - 1] != '\0') {
        return false;
    }
    for (size_t at = 0; at < length; at += strlen(message + at) + 1) {
        if (request->n_words == LIVE_WORDS_MAX) {
            return false;
        }
        request->words[request->n_words++] = message + at;
    }
    return true;
}

static bool live_is(const struct live_request * request, const char * verb) {
    return strcmp(request->words[0], verb) == 0;
}

static void live_answer(struct live_server * server, struct live_connection * connection) {
    struct live_request * request    = &connection->request;
    struct text           answer     = { 0 };
    int                   descriptor = -1;
    request->is_late = live_now() >= connection->until;
    if (request->is_first && live_is(request, "watch") && !connection->watches) {
        connection->watches = true;
        live_note_watchers(server, 1);
    }
    if (live_is(request, "hello")) {
        descriptor = server->memory;
        text_add(&answer, "{\"version\": %d, \"name\": \"%s\", \"pid\": %ld}", LIVE_VERSION,
            server->place.name.text, (long) getpid());
    } else if (!server->answers.answer(server->answers.self, request, &answer)) {
        request->is_first = false;
        text_free(&answer);
        return;
    }
    if (answer.failed || answer.length > LIVE_MESSAGE_MAX) {
        text_free(&answer);
        text_add(&answer, "{\"error\": \"out of memory\"}");
    }
    connection->waits = false;
    live_drop_descriptor(request);
    if (answer.data == NULL || !live_send(connection->fd, answer.data, answer.length, descriptor)) {
        live_close(server, connection);
    }
    text_free(&answer);
}

static void live_receive(struct live_server * server, struct live_connection * connection) {
    union {
        struct cmsghdr header;
        char           room[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec  part    = { connection->message, LIVE_REQUEST_MAX };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
    };
    const ssize_t n = recvmsg(connection->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        live_close(server, connection);
        return;
    }
    struct live_request * request = &connection->request;
    *request = (struct live_request) { .fd = live_descriptor_of(&message), .is_first = true };
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || !live_split(request, connection->message, (size_t) n)) {
        live_close(server, connection);
        return;
    }
    connection->waits = true;
    connection->until = live_now() + LIVE_PATIENCE;
    live_answer(server, connection);
}

//
// the thread
//

static int live_poll(struct live_server * server, struct pollfd * polled) {
    int timeout = -1;
    polled[0] = (struct pollfd) { server->wake,     POLLIN, 0 };
    polled[1] = (struct pollfd) { server->listener, POLLIN, 0 };
    if (server->pause_until > live_now()) {
        polled[1].fd = -1;
        timeout      = LIVE_ACCEPT_PAUSE;
    }
    for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
        const struct live_connection * connection = &server->connections[i];
        polled[i + 2] = (struct pollfd) { connection->fd, connection->waits ? 0 : POLLIN, 0 };
        timeout       = connection->waits ? LIVE_STEP : timeout;
    }
    return poll(polled, LIVE_CLIENTS_MAX + 2, timeout);
}

static void * live_serve(void * data) {
    struct live_server * server = data;
    struct pollfd        polled[LIVE_CLIENTS_MAX + 2];
    while (!atomic_load(&server->stopping)) {
        if (live_poll(server, polled) < 0) {
            continue;
        }
        for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
            struct live_connection * connection = &server->connections[i];
            if (connection->fd < 0 || polled[i + 2].fd != connection->fd) {
                continue;
            }
            if (polled[i + 2].revents & (POLLERR | POLLHUP | POLLNVAL) && !(polled[i + 2].revents & POLLIN)) {
                live_close(server, connection);
            } else if (connection->waits) {
                live_answer(server, connection);
            } else if (polled[i + 2].revents & POLLIN) {
                live_receive(server, connection);
            }
        }
        if (polled[1].revents) {
            live_accept(server);
        }
    }
    return NULL;
}

static bool live_start(struct live_server * server) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0) {
        return false; // the program's signals are not for us
    }
    server->has_thread = pthread_create(&server->thread, NULL, live_serve, server) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return server->has_thread;
}

//
// the server
//

// The mode is the socket's before there is a name, and no umask of the program's is touched.
static int live_listen(struct live_server * server) {
    const struct sockaddr_un address = live_name_address(server->place.folder, &server->place.name);
    server->listener = descriptor_take(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (server->listener < 0) {
        return server->listener;
    }
    if (fchmod(server->listener, S_IRUSR | S_IWUSR) != 0 ||
        bind(server->listener, (const struct sockaddr *) &address, sizeof(address)) != 0 ||
        listen(server->listener, LIVE_CLIENTS_MAX) != 0) {
        return -errno;
    }
    return 0;
}

static int live_begin(struct live_server * server) {
    const int error = live_listen(server);
    if (error) {
        return error;
    }
    server->wake = descriptor_take(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return server->wake < 0 ? server->wake : live_start(server) ? 0 : -EAGAIN;
}

static void live_close_own(int fd) {
    if (fd >= 0) {
        close(fd);
    }
}

void live_place_leave(const struct live_place * place) {
    live_name_remove(place->folder, &place->name);
    live_close_own(place->lock);
    live_close_own(place->folder);
}

struct live_server * live_server_new(const struct live_place * place, int memory, const struct live_answers * answers,
                                     int * error) {
    struct live_server * server = calloc(1, sizeof(*server));
    if (server == NULL) {
        *error = -ENOMEM;
        live_place_leave(place);
        return NULL;
    }
    server->place    = *place;
    server->listener = -1;
    server->wake     = -1;
    server->memory   = memory;
    server->answers  = *answers;
    for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
        server->connections[i].fd = -1;
    }
    *error = live_begin(server);
    if (*error) {
        live_server_free(server);
        return NULL;
    }
    return server;
}

void live_server_free(struct live_server * server) {
    if (server == NULL) {
        return;
    }
    if (server->has_thread) {
        const uint64_t one = 1;
        atomic_store(&server->stopping, true);
        const ssize_t written = write(server->wake, &one, sizeof(one));
        (void) written; // it is awake already where that fails
        pthread_join(server->thread, NULL);
    }
    for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
        live_close(server, &server->connections[i]);
    }
    live_close_own(server->listener);
    live_close_own(server->wake);
    live_place_leave(&server->place);
    free(server);
}

void live_server_abandon(struct live_server * server) {
    for (int i = 0; i < LIVE_CLIENTS_MAX; i++) {
        live_drop_descriptor(&server->connections[i].request);
        live_close_own(server->connections[i].fd);
    }
    live_close_own(server->listener);
    live_close_own(server->wake);
    live_close_own(server->place.lock);
    live_close_own(server->place.folder);
}
