// Lists a folder for the files that belong to a path.

#include "base/family.h"

#include "base/aside.h"
#include "base/descriptor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIBLING_DIGITS  8 // at the most
#define PART_DIGITS     6 // at the least
#define PART_DIGITS_MAX 15

// What a name says.
struct member {
    int     n;
    int64_t part;
    bool    is_aside;
};

// Where the part of a name begins that stays at its end.
static size_t stem_length(const char * name) {
    const char * dot = strrchr(name, '.');
    return dot != NULL && dot != name ? (size_t) (dot - name) : strlen(name);
}

bool family_member(char * member, size_t room, const char * path, int n, int64_t part) {
    const char * slash      = strrchr(path, '/');
    const size_t start      = slash != NULL ? (size_t) (slash + 1 - path) : 0;
    const size_t stem       = start + stem_length(path + start);
    char         number[16] = "";
    char         digits[32] = "";
    if (n > 1) {
        snprintf(number, sizeof(number), "-%d", n);
    }
    if (part != FAMILY_NO_PART) {
        snprintf(digits, sizeof(digits), "-%06" PRId64, part);
    }
    const int length = snprintf(member, room, "%.*s%s%s%s", (int) stem, path, number, digits, path + stem);
    return length >= 0 && (size_t) length < room;
}

//
// names
//

// Takes "-123". Returns the number of digits, 0 where it is none.
static size_t take_number(const char ** at, int64_t * number) {
    const size_t digits = **at == '-' ? strspn(*at + 1, "0123456789") : 0;
    if (digits == 0 || digits > PART_DIGITS_MAX) {
        return 0;
    }
    *number = 0;
    for (size_t i = 1; i <= digits; i++) {
        *number = *number * 10 + ((*at)[i] - '0');
    }
    *at += 1 + digits;
    return digits;
}

static bool is_part(const char * digits, size_t n_digits) {
    return n_digits == PART_DIGITS || (n_digits > PART_DIGITS && digits[0] != '0');
}

static bool is_sibling(const char * digits, size_t n_digits, int64_t number) {
    return n_digits > 0 && n_digits <= SIBLING_DIGITS && digits[0] != '0' && number > 1;
}

// What is between the stem and its end.
static bool read_numbers(const char * text, bool rotated, struct member * member) {
    const char * at    = text;
    int64_t      first = 0;
    const size_t n     = take_number(&at, &first);
    *member = (struct member) { .n = 1, .part = FAMILY_NO_PART };
    if (n == 0) {
        return *text == '\0';
    }
    if (*at == '\0' && is_part(text + 1, n) && (rotated || !is_sibling(text + 1, n, first))) {
        member->part = first;
        return true;
    }
    if (!is_sibling(text + 1, n, first)) {
        return false;
    }
    member->n = (int) first;
    const char * second = at;
    const size_t digits = take_number(&at, &member->part);
    return *at == '\0' && (digits == 0 || is_part(second + 1, digits));
}

static bool read_member(const struct family * family, const char * entry, struct member * member) {
    const size_t stem   = stem_length(family->name);
    const char * ending = family->name + stem;
    size_t       length = strlen(entry);
    const bool   aside  = length > ASIDE_SUFFIX_SIZE && aside_is_suffix(entry + length - ASIDE_SUFFIX_SIZE);
    char         numbers[48];
    length -= aside ? ASIDE_SUFFIX_SIZE : 0;
    const size_t around = stem + strlen(ending);
    if (length < around || length - around >= sizeof(numbers) || strncmp(entry, family->name, stem) != 0 ||
        memcmp(entry + length - strlen(ending), ending, strlen(ending)) != 0) {
        return false;
    }
    snprintf(numbers, sizeof(numbers), "%.*s", (int) (length - around), entry + stem);
    const bool is_member = read_numbers(numbers, family->rotated, member);
    member->is_aside = aside;
    return is_member;
}

//
// files
//

static bool is_my_file(int directory, const char * name, struct statx * about) {
    return statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, about) == 0 && S_ISREG(about->stx_mode) &&
           about->stx_uid == geteuid();
}

// Whether a file is of the family's kind. An empty one is of all kinds; of one that nothing marks, the name of a file
// that is written aside is mark enough.
static bool is_of_kind(const struct family * family, int fd, bool is_aside) {
    return (is_aside && family->kind == FILE_KIND_UNMARKED) || file_kind_check(fd, family->kind) == 0;
}

// Deletes a file of the kind whose owner is gone.
static bool delete_abandoned(const struct family * family, const char * name, bool is_aside) {
    struct statx about;
    const int   fd = descriptor_open(family->directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    const bool deleted = aside_lock(fd, true) && is_of_kind(family, fd, is_aside) &&
        is_my_file(family->directory, name, &about) && aside_is_at(fd, family->directory, name) &&
        unlinkat(family->directory, name, 0) == 0;
    close(fd);
    return deleted;
}

// NULL: it cannot be read.
static DIR * open_folder(const struct family * family) {
    const int fd     = descriptor_open(family->directory, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR     * folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (fd >= 0 && folder == NULL) {
        close(fd);
    }
    return folder;
}

struct family_last family_look(const struct family * family, int n) {
    struct family_last last   = { 1, FAMILY_NO_PART };
    DIR              * folder = open_folder(family);
    struct member      member;
    for (const struct dirent * entry; folder != NULL && (entry = readdir(folder)) != NULL; ) {
        if (!read_member(family, entry->d_name, &member)) {
            continue;
        }
        if (member.is_aside) {
            delete_abandoned(family, entry->d_name, true);
        }
        last.n    = member.n > last.n ? member.n : last.n;
        last.part = member.n == n && member.part > last.part ? member.part : last.part;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return last;
}

//
// the limit
//

struct aged {
    char          * name;
    uint64_t        size;
    int64_t         time; // of the last write, in nanoseconds
};

struct aged_list {
    struct aged * files;
    size_t        n;
    size_t        room;
};

static void add_aged(struct aged_list * list, const char * name, const struct statx * about) {
    if (list->n == list->room) {
        const size_t  room  = list->room * 2 + 16;
        struct aged * files = realloc(list->files, room * sizeof(*files));
        if (files == NULL) {
            return; // it is not deleted, and does not count
        }
        list->files = files;
        list->room  = room;
    }
    char * copy = strdup(name);
    if (copy != NULL) {
        const int64_t time = about->stx_mtime.tv_sec * 1000000000 + about->stx_mtime.tv_nsec;
        list->files[list->n++] = (struct aged) { copy, about->stx_size, time };
    }
}

static int by_age(const void * one, const void * other) {
    const struct aged * a = one;
    const struct aged * b = other;
    return a->time != b->time ? (a->time < b->time ? -1 : 1) : strcmp(a->name, b->name);
}

static uint64_t list_members(const struct family * family, struct aged_list * list) {
    DIR         * folder = open_folder(family);
    struct member member;
    struct statx  about;
    uint64_t      total = 0;
    for (const struct dirent * entry; folder != NULL && (entry = readdir(folder)) != NULL; ) {
        if (read_member(family, entry->d_name, &member) && !member.is_aside &&
            is_my_file(family->directory, entry->d_name, &about) && about.stx_size > 0) {
            add_aged(list, entry->d_name, &about);
            total += about.stx_size;
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return total;
}

uint64_t family_limit(const struct family * family, uint64_t limit) {
    struct aged_list list  = { 0 };
    uint64_t         total = list_members(family, &list);
    if (total > limit && list.n > 0) {
        qsort(list.files, list.n, sizeof(list.files[0]), by_age);
    }
    for (size_t i = 0; i < list.n; i++) {
        if (total > limit && delete_abandoned(family, list.files[i].name, false)) {
            total -= list.files[i].size;
        }
        free(list.files[i].name);
    }
    free(list.files);
    return total;
}
