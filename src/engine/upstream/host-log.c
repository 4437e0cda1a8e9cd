// How the library's lines reach the person, once.
//
// The stock programs' log callback hides the library's INFO lines, and llama-cli everything below ERROR, so what
// the user asked for would not be seen. Where that callback is the current one, the lines go to the logger behind
// it, as the programs' own INFO lines do: to the terminal and to --log-file. Another program's callback may do
// anything with what it gets, print it or drop it: it gets the lines, and stderr gets them too, unless the
// callback is ggml's own, which is stderr.

#include "engine/upstream/host-log.h"

#include "base/signal-guard.h"
#include "engine/upstream/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 1000
#define MESSAGE_MAX 4096 // of lines that are one message: the stock logger keeps what the longest one took, many times

enum { GGML_LOG_LEVEL_INFO = 2, GGML_LOG_LEVEL_WARN = 3, GGML_LOG_LEVEL_ERROR = 4 };

static _Atomic(const struct real *) engine; // whose log callback is asked for
static atomic_bool exiting;
static atomic_bool has_no_stderr; // when the program began
static atomic_bool used_common_log;
static atomic_bool common_log_is_paused;

void host_log_through(const struct real * real) {
    atomic_store(&engine, real);
}

void host_log_set_paused(void) {
    atomic_store(&common_log_is_paused, true);
}

void host_log_set_exiting(void) {
    atomic_store(&exiting, true);
}

// Waits for the reader of a pipe that the program made non-blocking, as Node does.
static bool stderr_takes_more(void) {
    struct pollfd pipe  = { .fd = STDERR_FILENO, .events = POLLOUT };
    const int     ready = poll(&pipe, 1, PATIENCE_MS);
    return ready > 0 || (ready < 0 && errno == EINTR);
}

// Where there is no stderr its number is free: what the program opens may get it, and is no place for our lines.
void host_log_note_stderr(void) {
    atomic_store(&has_no_stderr, fcntl(STDERR_FILENO, F_GETFD) < 0);
}

void host_log_to_stderr(const char * lines) {
    if (atomic_load(&has_no_stderr)) {
        return;
    }
    const int           saved = errno;
    size_t              left  = strlen(lines);
    ssize_t             n     = 0;
    struct signal_guard guard;
    signal_guard_enter(&guard, SIGPIPE);
    while (left > 0) {
        n = write(STDERR_FILENO, lines, left);
        if (n < 0 && errno != EINTR && !(errno == EAGAIN && stderr_takes_more())) {
            break; // closed, or nobody reads it: there is nowhere to complain
        }
        if (n > 0) {
            lines += n;
            left  -= (size_t) n;
        }
    }
    signal_guard_leave(&guard, n < 0 && errno == EPIPE);
    errno = saved;
}

static int ggml_level(enum log_level level) {
    switch (level) {
        case LOG_WARNING: return GGML_LOG_LEVEL_WARN;
        case LOG_ERROR:   return GGML_LOG_LEVEL_ERROR;
        default:          return GGML_LOG_LEVEL_INFO;
    }
}

static bool is_common_log(const struct real * real, ggml_log_fn callback) {
    return callback && callback == real->_Z27common_log_default_callback14ggml_log_levelPKcPv &&
           real->_Z15common_log_mainv && real->_Z14common_log_addP10common_log14ggml_log_levelPKcz;
}

// A logger that is paused (--log-disable) drops what it gets, and --log-jsonl sends it to stdout.
static bool common_log_is_heard(const struct real * real) {
    return !atomic_load(&common_log_is_paused) &&
           !(real->_Z20common_log_get_jsonlv && real->_Z20common_log_get_jsonlv());
}

static bool is_in_the_engine(ggml_log_fn callback) {
    const void * address;
    Dl_info      object;
    memcpy(&address, &callback, sizeof(address));
    return dladdr(address, &object) && object.dli_fname &&
           (strstr(object.dli_fname, "/libggml") || strstr(object.dli_fname, "/libllama."));
}

// ggml's own callback writes to stderr; libllama has one that does the same. To look up whose it is takes longer than
// to write many lines, and it is the same one mostly.
static bool is_the_engines_own(const struct real * real, ggml_log_fn callback) {
    static _Atomic(ggml_log_fn) known_own;
    static _Atomic(ggml_log_fn) known_other;
    if (callback == real->ggml_log_callback_default || callback == atomic_load(&known_own)) {
        return true;
    }
    if (callback == atomic_load(&known_other)) {
        return false;
    }
    const bool is_own = is_in_the_engine(callback);
    atomic_store(is_own ? &known_own : &known_other, callback);
    return is_own;
}

static const char * end_of_line(const char * line) {
    const char * newline = strchr(line, '\n');
    return newline ? newline + 1 : line + strlen(line);
}

// Calls `fn` for each line, with its newline, or for several lines together, as many as take `most` bytes. They are not
// ended by a zero byte.
static void for_each_message(const char * lines, size_t most,
                             void (*fn)(const char * message, size_t length, void * data), void * data) {
    for (const char * end; *lines; lines = end) {
        end = end_of_line(lines);
        for (const char * next; *end && (size_t) ((next = end_of_line(end)) - lines) <= most; ) {
            end = next;
        }
        fn(lines, (size_t) (end - lines), data);
    }
}

struct voice {
    const struct real * real;
    void              * common_log;
    ggml_log_fn         callback;
    void              * callback_data;
    int                 level;
};

// The logger puts its prefix before each message, so that each line is one, if there are not too many.
static void say_to_common_log(const char * message, size_t length, void * data) {
    const struct voice * voice = data;
    voice->real->_Z14common_log_addP10common_log14ggml_log_levelPKcz(voice->common_log, voice->level, "%.*s",
        (int) length, message);
}

static void say_to_callback(const char * line, size_t length, void * data) {
    const struct voice * voice = data;
    char   fixed[512];
    char * room = length < sizeof(fixed) ? fixed : malloc(length + 1);
    if (room) {
        memcpy(room, line, length);
        room[length] = '\0';
        voice->callback(voice->level, room, voice->callback_data);
    }
    if (room != fixed) {
        free(room);
    }
}

void host_log(enum log_level level, const char * lines) {
    // asked for each time: programs install short-lived callbacks
    struct voice voice = { .real = atomic_load(&engine), .level = ggml_level(level) };
    if (voice.real && voice.real->ggml_log_get) {
        voice.real->ggml_log_get(&voice.callback, &voice.callback_data);
    }
    if (voice.callback == NULL) {
        host_log_to_stderr(lines);
    } else if (!is_common_log(voice.real, voice.callback)) {
        host_log_to_stderr(lines);
        if (!is_the_engines_own(voice.real, voice.callback) && !atomic_load(&exiting)) {
            for_each_message(lines, 0, say_to_callback, &voice);
        }
    } else if (!common_log_is_heard(voice.real)) {
        host_log_to_stderr(lines);
    } else {
        voice.common_log = voice.real->_Z15common_log_mainv();
        atomic_store(&used_common_log, true);
        for_each_message(lines, level == LOG_BULK ? MESSAGE_MAX : 0, say_to_common_log, &voice);
    }
}

void host_log_flush(void) {
    const struct real * real = atomic_load(&engine);
    if (atomic_load(&used_common_log) && real->_Z16common_log_flushP10common_log) {
        real->_Z16common_log_flushP10common_log(real->_Z15common_log_mainv());
    }
}
