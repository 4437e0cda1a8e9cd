#include "loader.h"

#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char ** environ;

// Where libraries are found is the user's; what else the loader can be told would change the answer's form.
static void clean_environment(const char * preload) {
    char * keep = getenv("LD_LIBRARY_PATH") == NULL ? NULL : memory_text("%s", getenv("LD_LIBRARY_PATH"));
    for (char ** variable = environ; *variable != NULL;) {
        if (strncmp(*variable, "LD_", 3) != 0) {
            variable++;
            continue;
        }
        char * name = memory_text("%.*s", (int) strcspn(*variable, "="), *variable);
        if (unsetenv(name) != 0) {
            variable++;
        }
        free(name);
    }
    if (keep != NULL) {
        setenv("LD_LIBRARY_PATH", keep, 1);
    }
    if (preload != NULL) {
        setenv("LD_PRELOAD", preload, 1);
    }
    free(keep);
}

static void become_loader(const char * interpreter, const char * program, const char * preload, int out) {
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    clean_environment(preload);
    execl(interpreter, interpreter, "--list", program, (char *) NULL);
    _exit(127);
}

static char * read_all(int fd) {
    size_t size = 0;
    size_t room = 4096;
    char * text = memory_new(room, 1);
    for (;;) {
        if (size + 1 == room) {
            room *= 2;
            text = memory_resize(text, room, 1);
        }
        const ssize_t n = read(fd, text + size, room - size - 1);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            break;
        }
        size += n < 0 ? 0 : (size_t) n;
    }
    text[size] = '\0';
    return text;
}

// What the loader prints, NULL where it could not be started. *status as of waitpid.
static char * ask(const char * interpreter, const char * program, const char * preload, int * status) {
    int ends[2];
    if (pipe(ends) != 0) {
        return NULL;
    }
    const pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        become_loader(interpreter, program, preload, ends[1]);
    }
    close(ends[1]);
    char * text = child < 0 ? NULL : read_all(ends[0]);
    close(ends[0]);
    while (child > 0 && waitpid(child, status, 0) < 0 && errno == EINTR) {
    }
    return text;
}

static void add(struct loader_listing * listing, const char * name, const char * path) {
    listing->n++;
    listing->names = memory_resize(listing->names, listing->n, sizeof(*listing->names));
    listing->paths = memory_resize(listing->paths, listing->n, sizeof(*listing->paths));
    listing->names[listing->n - 1] = memory_text("%s", name);
    listing->paths[listing->n - 1] = path == NULL ? NULL : memory_text("%s", path);
}

// "NAME => PATH (0x…)", "NAME => not found" or "PATH (0x…)"
static void read_line(struct loader_listing * listing, char * line) {
    char * address = strstr(line, " (0x");
    char * arrow   = strstr(line, " => ");
    if (address != NULL) {
        *address = '\0';
    }
    if (arrow == NULL) {
        add(listing, line, line);
        return;
    }
    *arrow = '\0';
    add(listing, line, address == NULL ? NULL : arrow + 4);
}

static void complain(struct loader_listing * listing, const char * line) {
    char * more = listing->complaints == NULL ? memory_text("%s", line) : memory_text("%s; %s", listing->complaints, line);
    free(listing->complaints);
    listing->complaints = more;
}

void loader_list(struct loader_listing * listing, const char * interpreter, const char * program, const char * preload) {
    *listing = (struct loader_listing) { 0 };

    int    status = -1;
    char * text   = ask(interpreter, program, preload, &status);
    char * rest   = NULL;
    for (char * line = text == NULL ? NULL : strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (*line == '\t') {
            read_line(listing, line + 1);
        } else {
            complain(listing, line);
        }
    }
    listing->ok = listing->n > 0 && WIFEXITED(status);
    free(text);
}

void loader_clear(struct loader_listing * listing) {
    for (size_t i = 0; i < listing->n; i++) {
        free(listing->names[i]);
        free(listing->paths[i]);
    }
    free(listing->names);
    free(listing->paths);
    free(listing->complaints);
    *listing = (struct loader_listing) { 0 };
}
