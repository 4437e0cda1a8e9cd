// Takes, looks at and removes the files of running tracers. Alive is who holds a lock: the numbers of processes mean
// nothing across containers, and come back.

#include "live/live-names.h"

#include "base/aside.h"
#include "base/descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LIVE_NAME_TRIES  100
#define LIVE_NAME_RANDOM 8     // digits
#define LIVE_LOCK        ".lock"
#define LIVE_SOCKET      ".sock"

// With a dot before it, and what files that are made aside have behind it.
#define LIVE_FILE_SIZE   (1 + LIVE_NAME_SIZE + sizeof(LIVE_LOCK) + ASIDE_SUFFIX_SIZE)

bool live_name_is(const char * text) {
    const size_t digits = strspn(text, "0123456789");
    const char * random = text + digits + 1;
    return digits > 0 && digits + 1 + LIVE_NAME_RANDOM < LIVE_NAME_SIZE && text[digits] == '-' &&
           strlen(random) == LIVE_NAME_RANDOM && strspn(random, "0123456789abcdef") == LIVE_NAME_RANDOM;
}

static struct live_name live_name_choose(void) {
    struct live_name name;
    uint32_t         random;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t) sizeof(random)) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        random = (uint32_t) now.tv_nsec ^ (uint32_t) now.tv_sec;
    }
    snprintf(name.text, sizeof(name.text), "%ld-%08x", (long) getpid(), (unsigned) random);
    return name;
}

static const char * live_file(char file[LIVE_FILE_SIZE], const struct live_name * name, const char * end) {
    snprintf(file, LIVE_FILE_SIZE, "%s%s", name->text, end);
    return file;
}

// What is locked before it has its name. A file system that knows no locks is of no use.
static int live_lock_make(int directory, const struct live_name * name) {
    char   file[LIVE_FILE_SIZE];
    char   hidden[LIVE_FILE_SIZE + 1];
    char * aside = NULL;
    snprintf(hidden, sizeof(hidden), ".%s", live_file(file, name, LIVE_LOCK));
    const int fd = aside_make(directory, hidden, &aside);
    if (fd < 0) {
        return fd;
    }
    const int error = aside_lock(fd, true) ? aside_place(directory, aside, file, false) : -ENOLCK;
    if (error) {
        unlinkat(directory, aside, 0);
        close(fd);
    }
    free(aside);
    return error ? error : fd;
}

int live_name_take(int directory, struct live_name * name) {
    int fd = -EEXIST;
    for (int tries = 0; tries < LIVE_NAME_TRIES && fd == -EEXIST; tries++) {
        *name = live_name_choose();
        fd    = live_lock_make(directory, name);
    }
    return fd;
}

// The lock last: a socket without one is a leftover.
void live_name_remove(int directory, const struct live_name * name) {
    char file[LIVE_FILE_SIZE];
    unlinkat(directory, live_file(file, name, LIVE_SOCKET), 0);
    unlinkat(directory, live_file(file, name, LIVE_LOCK), 0);
}

struct sockaddr_un live_name_address(int directory, const struct live_name * name) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s" LIVE_SOCKET, directory, name->text);
    return address;
}

// A fifo of that name would make who opens it wait.
static int live_file_open(int directory, const char * file) {
    const int    fd = descriptor_open(directory, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    struct statx about;
    if (fd >= 0 && (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &about) != 0 || !S_ISREG(about.stx_mode))) {
        close(fd);
        return -EBADMSG;
    }
    return fd;
}

// Shared, so that those who look do not take each other for the owner.
bool live_name_is_alive(int directory, const struct live_name * name) {
    char      file[LIVE_FILE_SIZE];
    const int fd = live_file_open(directory, live_file(file, name, LIVE_LOCK));
    if (fd < 0) {
        return false;
    }
    const bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(fd);
    return locked;
}

//
// the folder
//

// Returns 0, or -errno.
static int live_names_open(int directory, DIR ** all) {
    const int fd = descriptor_open(directory, ".", O_RDONLY | O_DIRECTORY, 0);
    *all = fd < 0 ? NULL : fdopendir(fd);
    if (*all == NULL && fd >= 0) {
        close(fd);
        return -ENOMEM;
    }
    return *all == NULL ? fd : 0;
}

// The name of a file with that end.
static bool live_name_of(const char * file, const char * end, struct live_name * name) {
    const size_t length = strlen(file);
    const size_t behind = strlen(end);
    if (length <= behind || length - behind >= sizeof(name->text) || strcmp(file + length - behind, end) != 0) {
        return false;
    }
    memcpy(name->text, file, length - behind);
    name->text[length - behind] = '\0';
    return live_name_is(name->text);
}

static int live_names_add(struct live_name ** names, int n, const struct live_name * name) {
    struct live_name * more = realloc(*names, (size_t) (n + 1) * sizeof(*more));
    if (more == NULL) {
        return -ENOMEM;
    }
    *names  = more;
    more[n] = *name;
    return n + 1;
}

int live_names_list(int directory, struct live_name ** names) {
    DIR * all;
    int   n = live_names_open(directory, &all);
    *names = NULL;
    for (struct dirent * file; n >= 0 && (file = readdir(all)) != NULL; ) {
        struct live_name name;
        if (live_name_of(file->d_name, LIVE_LOCK, &name) && live_name_is_alive(directory, &name)) {
            n = live_names_add(names, n, &name);
        }
    }
    if (all != NULL) {
        closedir(all);
    }
    if (n < 0) {
        free(*names);
        *names = NULL;
    }
    return n;
}

// Whether nobody has the file, and nobody will have while the descriptor is open that is returned; -1: somebody has.
static int live_lock_seize(int directory, const char * file) {
    const int fd = live_file_open(directory, file);
    if (fd < 0) {
        return -1;
    }
    if (!aside_lock(fd, true) || !aside_is_at(fd, directory, file)) {
        close(fd);
        return -1;
    }
    return fd;
}

// ".NAME.lock.XXXXXX.tmp"
static bool live_file_is_hidden(const char * file) {
    const size_t     length = strlen(file);
    char             whole[LIVE_FILE_SIZE];
    struct live_name name;
    if (file[0] != '.' || length >= sizeof(whole) || length <= 1 + ASIDE_SUFFIX_SIZE ||
        !aside_is_suffix(file + length - ASIDE_SUFFIX_SIZE)) {
        return false;
    }
    snprintf(whole, sizeof(whole), "%.*s", (int) (length - 1 - ASIDE_SUFFIX_SIZE), file + 1);
    return live_name_of(whole, LIVE_LOCK, &name);
}

// Closing gives the lock back: behind the removal.
static void live_name_sweep(int directory, const char * file) {
    struct live_name name;
    const bool       locked = live_name_of(file, LIVE_LOCK, &name);
    const int        fd     = locked || live_file_is_hidden(file) ? live_lock_seize(directory, file) : -1;
    if (fd < 0) {
        return;
    }
    if (locked) {
        live_name_remove(directory, &name);
    } else {
        unlinkat(directory, file, 0);
    }
    close(fd);
}

void live_names_sweep(int directory) {
    DIR     * all;
    const int error = live_names_open(directory, &all);
    for (struct dirent * file; error == 0 && (file = readdir(all)) != NULL; ) {
        live_name_sweep(directory, file->d_name);
    }
    if (error == 0) {
        closedir(all);
    }
}
