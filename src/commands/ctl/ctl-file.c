// Makes or takes the file of a routing trace. It is locked: the process that gets its descriptor holds the lock, too,
// as long as it records.

#include "commands/ctl/ctl-file.h"

#include "base/aside.h"
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool fail(const char * path, int why, struct error * error) {
    return error_set(error, "%s: cannot be written: %s", path,
                     why == EXDEV ? "another user's link leads there: name the file that it leads to" : strerror(why));
}

// What is there already may be a device, or hold something.
static bool check(const struct ctl_file * file, const char * path, bool force, struct error * error) {
    struct stat status;
    if (fstatat(file->place.directory, file->place.name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT || fail(path, errno, error);
    }
    if (!S_ISREG(status.st_mode)) {
        return error_set(error, "%s: a trace grows, and takes a regular file: name one", path);
    }
    return status.st_size == 0 || force ||
           error_set(error, "%s: holds something, and stays: choose another name, or --force replaces it", path);
}

static int open_plainly(struct ctl_file * file) {
    const int directory = file->place.directory;
    int       fd        = descriptor_open(directory, file->place.name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    file->is_new = fd >= 0;
    if (fd == -EEXIST) {
        fd = descriptor_open(directory, file->place.name, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0);
    }
    return fd;
}

static bool open_in(struct ctl_file * file, const char * path, bool force, struct error * error) {
    if (!check(file, path, force, error)) {
        return false;
    }
    file->fd = force ? aside_make(file->place.directory, file->place.name, &file->aside) : open_plainly(file);
    if (file->fd < 0) {
        return fail(path, -file->fd, error);
    }
    struct stat status;
    if (!aside_lock(file->fd, false) || fstat(file->fd, &status) != 0 || status.st_size > 0) {
        return error_set(error, "%s: another process writes to it: choose another name", path);
    }
    return true;
}

bool ctl_file_open(struct ctl_file * file, const char * path, bool force, struct error * error) {
    *file = (struct ctl_file) { .place = PLACE_NONE, .fd = -1 };
    if (strcmp(path, "-") == 0) {
        return error_set(error, "-: a trace grows, and takes a regular file: name one");
    }
    const int why = place_find(&file->place, path);
    if ((why == 0 || fail(path, -why, error)) && open_in(file, path, force, error)) {
        return true;
    }
    ctl_file_drop(file);
    return false;
}

static void forget(struct ctl_file * file) {
    if (file->fd >= 0) {
        close(file->fd);
    }
    place_leave(&file->place);
    free(file->aside);
    *file = (struct ctl_file) { .place = PLACE_NONE, .fd = -1 };
}

bool ctl_file_keep(struct ctl_file * file, struct error * error) {
    const int why = file->aside == NULL ? 0
                  : aside_place(file->place.directory, file->aside, file->place.name, true);
    const bool ok = why == 0 || error_set(error, "%s: is recorded to, and could not be renamed to %s: %s", file->aside,
                                          file->place.name, strerror(-why));
    forget(file);
    return ok;
}

void ctl_file_drop(struct ctl_file * file) {
    if (file->fd >= 0 && (file->aside != NULL || file->is_new)) {
        unlinkat(file->place.directory, file->aside != NULL ? file->aside : file->place.name, 0);
    }
    forget(file);
}
