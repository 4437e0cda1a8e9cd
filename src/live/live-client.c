// Connects to a tracer's socket, maps the memory that it hands out, and asks.

#include "live/live-client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MESSAGE_MAX     65536
#define DESCRIPTORS_MAX 4

// Room for descriptors beside a message.
union beside {
    struct cmsghdr header;
    char           room[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
};

static void set_patience(int fd, int milliseconds) {
    const struct timeval time = { milliseconds / 1000, milliseconds % 1000 * 1000 };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time));
}

// Always false.
static bool fail(int why, struct error * error) {
    switch (why) {
        case EAGAIN:
        case EINPROGRESS:  return error_set(error, "it does not answer: is it stopped?");
        case ENOENT:
        case ECONNREFUSED:
        case ECONNRESET:
        case EPIPE:        return error_set(error, "it has ended, or is just beginning");
        default:           return error_set(error, "it cannot be reached: %s", strerror(why));
    }
}

//
// messages
//

static ssize_t send_words(int fd, const char * words, size_t length, int descriptor) {
    union beside  beside  = { .room = { 0 } };
    struct iovec  part    = { (void *) (uintptr_t) words, length };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    if (descriptor >= 0) {
        message.msg_control    = beside.room;
        message.msg_controllen = CMSG_SPACE(sizeof(descriptor));
        struct cmsghdr * header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type  = SCM_RIGHTS;
        header->cmsg_len   = CMSG_LEN(sizeof(descriptor));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(descriptor));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static bool send_question(const struct live_client * client, const struct live_question * question,
                          struct error * error) {
    size_t length = 0;
    for (size_t i = 0; question->words[i] != NULL; i++) {
        length += strlen(question->words[i]) + 1;
    }
    char * words = memory_new(length, 1);
    length = 0;
    for (size_t i = 0; question->words[i] != NULL; i++) {
        strcpy(words + length, question->words[i]);
        length += strlen(question->words[i]) + 1;
    }
    set_patience(client->fd, question->patience);
    const ssize_t n   = send_words(client->fd, words, length, question->fd);
    const int     why = errno;
    free(words);
    return n >= 0 || (why == EMSGSIZE ? error_set(error, "the request is too long") : fail(why, error));
}

// The first of them; the others are closed.
static int take_descriptor(struct msghdr * message) {
    int found = -1;
    for (struct cmsghdr * header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        const bool has = header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS;
        for (size_t i = 0; has && i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
            if (found < 0) {
                found = fd;
            } else {
                close(fd);
            }
        }
    }
    return found;
}

// Returns its bytes, or -errno. 0: the tracer has ended the connection. `room` takes MESSAGE_MAX bytes.
static ssize_t receive(int fd, char * room, int * descriptor) {
    union beside  beside;
    struct iovec  part    = { room, MESSAGE_MAX };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = beside.room, .msg_controllen = sizeof(beside.room),
    };
    ssize_t n;
    do {
        n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    *descriptor = take_descriptor(&message);
    return message.msg_flags & MSG_TRUNC ? -EMSGSIZE : n;
}

// *descriptor is -1 where none came.
static json_t * receive_answer(const struct live_client * client, int * descriptor, struct error * error) {
    char        * room   = memory_new(MESSAGE_MAX, 1);
    json_t      * answer = NULL;
    *descriptor = -1;
    const ssize_t n = receive(client->fd, room, descriptor);
    if (n <= 0) {
        shutdown(client->fd, SHUT_RDWR); // a late answer would be taken for that of another request
        fail(n == 0 ? EPIPE : (int) -n, error);
    } else {
        answer = json_loadb(room, (size_t) n, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(answer)) {
            error_set(error, "its answer is no JSON object");
            json_decref(answer);
            answer = NULL;
        }
    }
    free(room);
    return answer;
}

static json_t * accepted(json_t * answer, struct error * error) {
    const json_t * refusal = json_object_get(answer, "error");
    if (answer == NULL || refusal == NULL) {
        return answer;
    }
    error_set(error, "%s", json_is_string(refusal) ? json_string_value(refusal) : "it refuses");
    json_decref(answer);
    return NULL;
}

json_t * live_client_ask(const struct live_client * client, const struct live_question * question,
                         struct error * error) {
    int descriptor = -1;
    if (!send_question(client, question, error)) {
        return NULL;
    }
    json_t * answer = receive_answer(client, &descriptor, error);
    if (descriptor >= 0) {
        close(descriptor); // nobody asked for one
    }
    return accepted(answer, error);
}

//
// the connection
//

static void look_at_peer(struct live_client * client) {
    struct ucred peer = { 0 };
    socklen_t    size = sizeof(peer);
    if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        client->pid  = peer.pid;
        client->user = peer.uid;
    }
}

static bool connect_to(struct live_client * client, int directory, struct error * error) {
    const struct sockaddr_un address = live_name_address(directory, &client->name);
    client->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (client->fd < 0) {
        return fail(errno, error);
    }
    set_patience(client->fd, LIVE_CLIENT_PATIENCE);
    return connect(client->fd, (const struct sockaddr *) &address, sizeof(address)) == 0 || fail(errno, error);
}

static bool say_hello(struct live_client * client, struct error * error) {
    static const char * const words[]    = { "hello", NULL };
    const struct live_question hello     = { words, -1, LIVE_CLIENT_PATIENCE };
    int                        memory    = -1;
    json_t                   * answer    = NULL;
    if (send_question(client, &hello, error)) {
        answer = accepted(receive_answer(client, &memory, error), error);
    }
    bool ok = answer != NULL && (memory >= 0 || error_set(error, "it hands out no memory"));
    ok = ok && live_map_open(&client->map, memory, error);
    json_decref(answer);
    if (memory >= 0) {
        close(memory);
    }
    return ok;
}

bool live_client_open(struct live_client * client, int directory, const struct live_name * name,
                      struct error * error) {
    *client = (struct live_client) { .fd = -1, .name = *name };
    bool ok = connect_to(client, directory, error);
    if (ok) {
        look_at_peer(client);
        ok = say_hello(client, error);
    }
    if (!ok) {
        live_client_close(client);
    }
    return ok;
}

void live_client_close(struct live_client * client) {
    live_map_close(&client->map);
    if (client->fd >= 0) {
        close(client->fd);
    }
    client->fd = -1;
}

bool live_client_is_alive(const struct live_client * client) {
    struct pollfd polled = { client->fd, 0, 0 };
    return poll(&polled, 1, 0) >= 0 && (polled.revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}
