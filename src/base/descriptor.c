// Opens files above the standard descriptors, even where a program has closed those.

#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define DESCRIPTORS_STANDARD 3

// Takes what is free of 0, 1 and 2. Nothing can be read from such a descriptor or written to it: for the program's
// other threads it is as good as closed. Returns how many, to be closed again.
static int fill_standard(int fillers[DESCRIPTORS_STANDARD]) {
    int n = 0;
    while (n < DESCRIPTORS_STANDARD) {
        const int fd = open("/", O_PATH | O_CLOEXEC);
        if (fd < 0) {
            break;
        }
        if (fd >= DESCRIPTORS_STANDARD) {
            close(fd);
            break;
        }
        fillers[n++] = fd;
    }
    return n;
}

static int move_up(int low) {
    const int fd    = fcntl(low, F_DUPFD_CLOEXEC, DESCRIPTORS_STANDARD);
    const int error = -errno;
    close(low);
    return fd < 0 ? error : fd;
}

int descriptor_open(int directory, const char * path, int flags, mode_t mode) {
    int       fillers[DESCRIPTORS_STANDARD];
    const int n = fill_standard(fillers);
    int       fd = openat(directory, path, flags | O_CLOEXEC, mode);
    fd = fd < 0 ? -errno : fd;
    for (int i = 0; i < n; i++) {
        close(fillers[i]);
    }
    // one of them was closed by another thread meanwhile
    return fd >= 0 && fd < DESCRIPTORS_STANDARD ? move_up(fd) : fd;
}

int descriptor_take(int fd) {
    return fd < 0 ? -errno : fd < DESCRIPTORS_STANDARD ? move_up(fd) : fd;
}
