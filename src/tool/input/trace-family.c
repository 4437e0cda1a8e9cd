// Looks through a folder for files of one stem, and reads which trace each of them is a part of.

#include "tool/input/trace-family.h"

#include "tool/error.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PART_DIGITS     6  // at the least
#define PART_DIGITS_MAX 15

// "folder/", "run" and ".moetrace" of a path.
struct name_parts {
    char       * folder; // to be freed
    const char * stem;   // in the path
    size_t       n_stem;
    const char * ending;
};

static struct name_parts name_parts_of(const char * path) {
    const char * slash = strrchr(path, '/');
    const char * name  = slash != NULL ? slash + 1 : path;
    const char * dot   = strrchr(name, '.');
    const char * end   = dot != NULL && dot != name ? dot : name + strlen(name);
    return (struct name_parts) {
        .folder = memory_text("%.*s", (int) (name - path), path),
        .stem   = name,
        .n_stem = (size_t) (end - name),
        .ending = end,
    };
}

// Numbers at its end are those of siblings and parts.
static void cut_numbers(struct name_parts * parts) {
    for (size_t n = parts->n_stem; n > 0;) {
        size_t digits = 0;
        while (digits < n && parts->stem[n - digits - 1] >= '0' && parts->stem[n - digits - 1] <= '9') {
            digits++;
        }
        if (digits == 0 || digits + 1 >= n || parts->stem[n - digits - 1] != '-') {
            return;
        }
        parts->n_stem = n -= digits + 1;
    }
}

// Whether a name begins and ends so. *between is what it has between the two.
static bool has_form(const char * name, const struct name_parts * parts, const char ** between, size_t * n_between) {
    const size_t n        = strlen(name);
    const size_t n_ending = strlen(parts->ending);
    if (n < parts->n_stem + n_ending || strncmp(name, parts->stem, parts->n_stem) != 0 ||
        strcmp(name + n - n_ending, parts->ending) != 0) {
        return false;
    }
    *between   = name + parts->n_stem;
    *n_between = n - n_ending - parts->n_stem;
    return true;
}

void trace_member_free(struct trace_member * member) {
    free(member->path);
    *member = (struct trace_member) { 0 };
}

// The best of the files of that form: `is_better` compares one that was found with the best so far, whose path is NULL
// at first.
typedef bool better_fn(const struct trace_member * found, const struct trace_member * best, const void * wanted);

static bool find_best(const struct name_parts * parts, bool only_parts, better_fn * is_better, const void * wanted,
                      struct trace_member * best) {
    DIR        * folder = opendir(*parts->folder != '\0' ? parts->folder : ".");
    const char * between;
    size_t       n;
    *best = (struct trace_member) { 0 };
    for (const struct dirent * entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        struct trace_member found = { 0 };
        if (!has_form(entry->d_name, parts, &between, &n) ||
            (only_parts && (n <= PART_DIGITS || *between != '-' || strspn(between + 1, "0123456789") != n - 1))) {
            continue;
        }
        found.path = memory_text("%s%s", parts->folder, entry->d_name);
        if (trace_identify(found.path, &found.identity) == TRACE_FOUND && is_better(&found, best, wanted)) {
            trace_member_free(best);
            *best = found;
        } else {
            trace_member_free(&found);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return best->path != NULL;
}

static bool is_next(const struct trace_member * found, const struct trace_member * best, const void * wanted) {
    const struct trace_member * before = wanted;
    return trace_identity_is_same_trace(&found->identity, &before->identity) &&
           found->identity.part > before->identity.part &&
           (best->path == NULL || found->identity.part < best->identity.part);
}

// The number at the end of the stem, and one more. False: there is none, or that is not the next part.
static bool find_in_sequence(const struct trace_member * member, const struct name_parts * parts,
                             struct trace_member * next) {
    size_t digits = 0;
    while (digits < parts->n_stem && digits < PART_DIGITS_MAX &&
           strchr("0123456789", parts->stem[parts->n_stem - digits - 1]) != NULL) {
        digits++;
    }
    const int n_before = (int) (parts->n_stem - digits);
    *next = (struct trace_member) { 0 };
    if (digits < PART_DIGITS) {
        return false;
    }
    next->path = memory_text("%s%.*s%0*lld%s", parts->folder, n_before, parts->stem, (int) digits,
                             strtoll(parts->stem + n_before, NULL, 10) + 1, parts->ending);
    if (trace_identify(next->path, &next->identity) == TRACE_FOUND &&
        trace_identity_is_same_trace(&next->identity, &member->identity) &&
        next->identity.part == member->identity.part + 1) {
        return true;
    }
    trace_member_free(next);
    return false;
}

bool trace_family_next(const struct trace_member * member, struct trace_member * next) {
    struct name_parts parts = name_parts_of(member->path);
    bool              found = find_in_sequence(member, &parts, next);
    if (!found) {
        cut_numbers(&parts);
        found = find_best(&parts, false, is_next, member, next);
    }
    free(parts.folder);
    return found;
}

static int64_t written_at(const char * path) {
    struct stat about;
    return stat(path, &about) == 0 ? (int64_t) about.st_mtim.tv_sec * 1000000000 + about.st_mtim.tv_nsec : -1;
}

static bool is_newer(const struct trace_member * found, const struct trace_member * best, const void * wanted) {
    (void) wanted;
    return best->path == NULL || written_at(found->path) > written_at(best->path);
}

static bool is_earlier(const struct trace_member * found, const struct trace_member * best, const void * wanted) {
    const struct trace_member * newest = wanted;
    return trace_identity_is_same_trace(&found->identity, &newest->identity) &&
           (best->path == NULL || found->identity.part < best->identity.part);
}

bool trace_family_first(const char * path, struct trace_member * first) {
    struct name_parts   parts  = name_parts_of(path);
    struct trace_member newest = { 0 };
    const bool found = find_best(&parts, true, is_newer, NULL, &newest) &&
                       find_best(&parts, true, is_earlier, &newest, first);
    trace_member_free(&newest);
    free(parts.folder);
    return found;
}
