// How far a command is, on the terminal alone.

#include "tool/progress.h"

#include "tool/clock.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_MS 1000
#define EVERY_MS  200

// What reads a pipe may be on the same terminal, as less is.
static bool is_file(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

struct progress progress_begin(const char * what, uint64_t total) {
    return (struct progress) {
        .what     = what,
        .total    = total,
        .possible = total > 0 && isatty(STDERR_FILENO) && (isatty(STDOUT_FILENO) || is_file(STDOUT_FILENO)),
        .next     = clock_milliseconds() + FIRST_MS,
    };
}

void progress_tell(struct progress * progress, uint64_t done) {
    if (!progress->possible || clock_milliseconds() < progress->next) {
        return;
    }
    progress->next  = clock_milliseconds() + EVERY_MS;
    progress->shown = true;
    fprintf(stderr, "\r%s %.0f%%", progress->what, 100.0 * (double) done / (double) progress->total);
    fflush(stderr);
}

void progress_end(struct progress * progress) {
    if (progress->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}
