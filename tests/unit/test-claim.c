// Files that are claimed by name: siblings, parts, leftovers, and links of other users.

#include "unit.h"

#include "folder.h"

#include "base/claim.h"
#include "base/descriptor.h"
#include "base/place.h"
#include "trace/format/trace-format.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRACE(run) TRACE_MAGIC "{\"run\": \"" run "\"}"

static struct claim wish(const char * path, const char * run) {
    static char data[256];
    snprintf(data, sizeof(data), TRACE_MAGIC "{\"run\": \"%s\"}", run);
    return (struct claim) { .path = path, .kind = FILE_KIND_TRACE, .run = run, .data = data, .size = strlen(data) };
}

static void give_back(struct claimed * claimed) {
    close(claimed->fd);
    free(claimed->path);
    free(claimed->moved);
    *claimed = (struct claimed) { .fd = -1 };
}

static void write_file(const char * path, const char * content, int64_t time) {
    const struct timespec times[] = { { .tv_sec = time }, { .tv_sec = time } };
    FILE * file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool exists(const char * path) {
    return access(path, F_OK) == 0;
}

static void assert_named(const struct claimed * claimed, const char * name) {
    assert_string_equal(strrchr(claimed->path, '/') + 1, name);
    assert_true(exists(claimed->path));
}

// Whole traces, each of an owner that ended.
static void assert_new(const char * path, const char * run, const char * name, enum claim_reason reason) {
    const struct claim claim = wish(path, run);
    struct claimed     claimed;
    assert_int_equal(claim_new(&claim, &claimed), 0);
    assert_named(&claimed, name);
    assert_int_equal(claimed.reason, reason);
    give_back(&claimed);
}

static void assert_part(const char * path, const char * run, const char * name, enum claim_reason reason) {
    const struct claim claim = wish(path, run);
    struct claimed     claimed;
    assert_int_equal(claim_part(&claim, NULL, &claimed), 0);
    assert_named(&claimed, name);
    assert_int_equal(claimed.reason, reason);
    give_back(&claimed);
}

static void a_trace_is_never_replaced(void ** state) {
    (void) state;
    assert_new("run.moetrace", "1", "run.moetrace",   CLAIM_AS_WANTED);
    assert_new("run.moetrace", "2", "run-2.moetrace", CLAIM_BESIDE_EARLIER);
    assert_new("run.moetrace", "3", "run-3.moetrace", CLAIM_BESIDE_EARLIER);
    assert_new("run.moetrace", "1", "run-4.moetrace", CLAIM_BESIDE_ANOTHER); // a model of the first run
    write_file("run.moetrace", "", 1);
    assert_new("run.moetrace", "4", "run.moetrace",   CLAIM_AS_WANTED);
    assert_int_equal(unlink("run.moetrace"), 0);
    assert_new("run.moetrace", "5", "run.moetrace",   CLAIM_AS_WANTED);
}

static void siblings_are_numbered_on(void ** state) {
    (void) state;
    static const char * const others[] = {
        "run.moetrace", "run-7.moetrace", "run-05.moetrace", "run-1.moetrace", "run-x.moetrace",
        "run-.moetrace", "run-99.moetrace.gz", "runs-50.moetrace", "run-60.json", "run-70-x.moetrace",
        "run-123456789012.moetrace", "run--80.moetrace", "run-8-9.moetrace",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        write_file(others[i], TRACE("0"), 1);
    }
    assert_new("run.moetrace", "1", "run-8.moetrace", CLAIM_BESIDE_EARLIER);
    write_file("run-9.moetrace", "somebody else's", 1);
    assert_int_equal(mkdir("run-10.moetrace", 0700), 0);
    assert_new("run.moetrace", "2", "run-11.moetrace", CLAIM_BESIDE_EARLIER);
}

static void parts_are_numbered_on(void ** state) {
    (void) state;
    struct claimed one;
    struct claimed two;
    struct claimed other;
    const struct claim first = wish("run.moetrace", "1");
    assert_int_equal(claim_part(&first, NULL, &one), 0);
    assert_named(&one, "run-000000.moetrace");
    assert_int_equal(claim_part(&first, &one, &two), 0);
    assert_named(&two, "run-000001.moetrace");
    give_back(&one);

    // beside a program that runs
    const struct claim second = wish("run.moetrace", "2");
    assert_int_equal(claim_part(&second, NULL, &other), 0);
    assert_named(&other, "run-2-000000.moetrace");
    assert_int_equal(other.reason, CLAIM_BESIDE_ANOTHER);
    assert_int_equal(claim_part(&second, &other, &one), 0);
    assert_named(&one, "run-2-000001.moetrace");
    give_back(&other);
    give_back(&one);
    give_back(&two);

    assert_part("run.moetrace", "3", "run-000002.moetrace", CLAIM_BESIDE_EARLIER);
    assert_part("run.moetrace", "3", "run-3-000000.moetrace", CLAIM_BESIDE_ANOTHER); // another model of that run
    write_file("run-000007.moetrace", "somebody else's", 1);
    assert_part("run.moetrace", "4", "run-000008.moetrace", CLAIM_BESIDE_EARLIER);
    write_file("run-999999.moetrace", TRACE("0"), 1);
    assert_part("run.moetrace", "5", "run-1000000.moetrace", CLAIM_BESIDE_EARLIER);
    assert_part("run.moetrace", "6", "run-1000001.moetrace", CLAIM_BESIDE_EARLIER);
}

static void a_part_that_is_taken_is_skipped(void ** state) {
    (void) state;
    const struct claim claim = wish("run.moetrace", "1");
    struct claimed one;
    struct claimed two;
    assert_int_equal(claim_part(&claim, NULL, &one), 0);
    write_file("run-000001.moetrace", "x", 1);
    write_file("run-000003.moetrace", "x", 1);
    assert_int_equal(claim_part(&claim, &one, &two), 0);
    assert_named(&two, "run-000004.moetrace");
    give_back(&one);
    give_back(&two);
}

static void thousands_of_siblings(void ** state) {
    (void) state;
    char name[64];
    write_file("run.moetrace", TRACE("0"), 1);
    for (int i = 2; i <= 3000; i++) {
        snprintf(name, sizeof(name), "run-%d.moetrace", i);
        write_file(name, "x", 1);
    }
    assert_new("run.moetrace", "1", "run-3001.moetrace", CLAIM_BESIDE_EARLIER);
}

static void leftovers_are_removed(void ** state) {
    (void) state;
    static const char * const ours[] = {
        "run.moetrace.AbC123.tmp", "run-2.moetrace.zzzzzz.tmp", "run-000004.moetrace.000000.tmp",
        "run-3-000004.moetrace.000000.tmp",
    };
    static const char * const others[] = {
        "run.moetrace.AbC12.tmp", "run.moetrace.AbC-23.tmp", "run.moetrace.AbC123.tmp2",
        "other.moetrace.AbC123.tmp", "run.moetrace.tmp-12",
    };
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        write_file(ours[i], i == 0 ? "" : TRACE("0"), 1);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        write_file(others[i], TRACE("0"), 1);
    }
    write_file("run.moetrace.precio.tmp", "another's", 1);
    write_file("run.moetrace.locked.tmp", "", 1);
    const int fd = open("run.moetrace.locked.tmp", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_new("run.moetrace", "1", "run.moetrace", CLAIM_AS_WANTED);
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        assert_false(exists(ours[i]));
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_true(exists(others[i]));
    }
    assert_true(exists("run.moetrace.precio.tmp"));
    assert_true(exists("run.moetrace.locked.tmp"));
    close(fd);
}

//
// what all runs may take
//

static void write_trace_of(const char * path, size_t size, int64_t time) {
    char content[4096] = TRACE("0");
    memset(content + strlen(content), ' ', sizeof(content) - strlen(content));
    content[size] = '\0';
    write_file(path, content, time);
}

static void the_oldest_go_first(void ** state) {
    (void) state;
    write_trace_of("run.moetrace",          1000, 10);
    write_trace_of("run-2.moetrace",        1000, 40);
    write_trace_of("run-3.moetrace",        1000, 20); // another program's that runs
    write_trace_of("run-000000.moetrace",   1000, 30);
    write_trace_of("run-2-000001.moetrace", 1000, 50);
    write_file("run-4.moetrace", "somebody else's", 5);
    write_file("run-5.moetrace", "", 5);
    write_trace_of("other.moetrace",        1000,  1);
    const int fd = open("run-3.moetrace", O_RDONLY | O_CLOEXEC);
    assert_int_equal(flock(fd, LOCK_EX), 0);

    struct claim   claim = wish("run.moetrace", "1");
    struct claimed claimed;
    claim.limit = 1000 + 1000 + 1000 + 200;
    assert_int_equal(claim_new(&claim, &claimed), 0);
    assert_named(&claimed, "run-6.moetrace");
    assert_int_equal(claimed.others, 3015);
    assert_false(exists("run.moetrace"));
    assert_false(exists("run-000000.moetrace"));
    assert_true (exists("run-2.moetrace"));
    assert_true (exists("run-3.moetrace"));
    assert_true (exists("run-2-000001.moetrace"));

    claim.limit = 1;
    claim_limit(&claim, false, claim.size);
    assert_false(exists("run-2.moetrace"));
    assert_false(exists("run-2-000001.moetrace"));
    assert_true (exists("run-3.moetrace"));
    assert_true (exists("run-4.moetrace"));
    assert_true (exists("run-5.moetrace"));
    assert_true (exists("run-6.moetrace"));
    assert_true (exists("other.moetrace"));
    give_back(&claimed);
    close(fd);
}

static void without_a_limit_nothing_goes(void ** state) {
    (void) state;
    write_trace_of("run.moetrace", 1000, 10);
    assert_new("run.moetrace", "1", "run-2.moetrace", CLAIM_BESIDE_EARLIER);
    assert_true(exists("run.moetrace"));
}

//
// descriptors
//

static void child_of_descriptors(int mask) {
    for (int fd = 0; fd < 3; fd++) {
        if (mask & (1 << fd)) {
            close(fd);
        }
    }
    const struct claim claim = wish("run.moetrace", "1");
    struct claimed     claimed;
    bool ok = claim_new(&claim, &claimed) == 0 && claimed.fd > 2 && (fcntl(claimed.fd, F_GETFD) & FD_CLOEXEC);
    for (int fd = 0; fd < 3; fd++) {
        ok = ok && (fcntl(fd, F_GETFD) < 0) == ((mask & (1 << fd)) != 0);
    }
    _exit(ok ? 0 : 1);
}

static void descriptors_are_above_two(void ** state) {
    (void) state;
    for (int mask = 0; mask < 8; mask++) {
        const pid_t pid = fork();
        if (pid == 0) {
            child_of_descriptors(mask);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

//
// links
//

static void assert_place(const char * path, const char * expected) {
    struct place place;
    char         absolute[256];
    assert_int_equal(place_find(&place, path), 0);
    snprintf(absolute, sizeof(absolute), "%s%s%s", *expected == '/' ? "" : folder,
             *expected == '/' ? "" : "/", expected);
    assert_string_equal(place.path, absolute);
    assert_string_equal(place.name, strrchr(absolute, '/') + 1);
    place_leave(&place);
}

static void assert_no_place(const char * path, int error) {
    struct place place;
    assert_int_equal(place_find(&place, path), error);
}

static void places(void ** state) {
    (void) state;
    char absolute[256];
    assert_int_equal(mkdir("a", 0700), 0);
    assert_int_equal(mkdir("a/b", 0700), 0);
    write_file("a/file", "", 1);
    assert_int_equal(symlink("a/b",        "link"),     0);
    assert_int_equal(symlink("../file",    "a/b/up"),   0);
    assert_int_equal(symlink("missing",    "dangling"), 0);
    assert_int_equal(symlink("loop",       "loop"),     0);
    snprintf(absolute, sizeof(absolute), "%s/a/./b//..", folder);
    assert_int_equal(symlink(absolute,     "far"),      0);

    assert_place("new",              "new");
    assert_place("./a/../a/b/new",   "a/b/new");
    assert_place("link/new",         "a/b/new");
    assert_place("link/up",          "a/file");
    assert_place("link/../new",      "a/new"); // as the kernel goes
    assert_place("far/file",         "a/file");
    assert_place("dangling",         "missing");
    assert_place("/new",             "/new");
    assert_place("/../new",          "/new");
    assert_no_place("",              -ENOENT);
    assert_no_place(".",             -EISDIR);
    assert_no_place("/",             -EISDIR);
    assert_no_place("a",             -EISDIR);
    assert_no_place("link",          -EISDIR);
    assert_no_place("a/",            -EISDIR);
    assert_no_place("missing/new",   -ENOENT);
    assert_no_place("missing/",      -ENOENT);
    assert_no_place("a/file/new",    -ENOTDIR);
    assert_no_place("a/file/",       -ENOTDIR);
    assert_no_place("dangling/new",  -ENOENT);
    assert_no_place("loop",          -ELOOP);
    assert_no_place("loop/new",      -ELOOP);
}

#define STRANGER 65534

// Makes a link as another user.
static void link_as_stranger(const char * target, const char * path) {
    const pid_t pid = fork();
    if (pid == 0) {
        _exit(setuid(STRANGER) == 0 && symlink(target, path) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void make_shared(const char * path, mode_t mode) {
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void need_two_users(void) {
    if (geteuid() != 0) {
        print_message("only root can be two users: not tested\n");
        skip();
    }
    assert_int_equal(chmod(folder, 0755), 0);
}

static void a_strangers_link_is_not_followed(void ** state) {
    (void) state;
    need_two_users();
    const mode_t modes[] = { 01777, 0777, 01777 };
    char path[512];
    make_shared("mine", 0700);
    write_file("mine/precious", "", 1);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        char shared[128];
        snprintf(shared, sizeof(shared), "%s/shared-%zu", folder, i);
        make_shared(shared, modes[i]);
        if (i == 2) {
            assert_int_equal(chown(shared, STRANGER, STRANGER), 0); // whose it is changes nothing
        }
        const char * const targets[] = { "../mine/precious", "../mine/new", "/proc/self/exe" };
        for (size_t k = 0; k < sizeof(targets) / sizeof(targets[0]); k++) {
            snprintf(path, sizeof(path), "%s/link-%zu", shared, k);
            link_as_stranger(targets[k], path);
            const struct claim claim = wish(path, "1");
            struct claimed     claimed;
            assert_int_equal(claim_new(&claim, &claimed),        -EXDEV);
            assert_int_equal(claim_part(&claim, NULL, &claimed), -EXDEV);
            assert_int_equal(claim_newest(&claim, &claimed),     -EXDEV);
            assert_int_equal(claim_write_once(&claim),           -EXDEV);
            assert_int_equal(claim_replace(path, 0, "x", 1, true), -EXDEV);
        }
        snprintf(path, sizeof(path), "%s/folder", shared);
        link_as_stranger("../mine", path);
        snprintf(path, sizeof(path), "%s/folder/precious", shared);
        assert_no_place(path, -EXDEV);
        snprintf(path, sizeof(path), "%s/folder/../new", shared);
        assert_no_place(path, -EXDEV);

        snprintf(path, sizeof(path), "%s/own", shared);
        assert_int_equal(symlink("../mine/own", path), 0);
        assert_place(path, "mine/own");
        snprintf(path, sizeof(path), "%s/run.moetrace", shared);
        assert_new(path, "1", "run.moetrace", CLAIM_AS_WANTED);
    }
    assert_false(exists("mine/new"));
    struct stat about;
    assert_int_equal(stat("mine/precious", &about), 0);
    assert_int_equal(about.st_size, 0);
}

static void elsewhere_anyones_link_is_followed(void ** state) {
    (void) state;
    need_two_users();
    make_shared("theirs", 0755);
    assert_int_equal(chown("theirs", STRANGER, STRANGER), 0);
    link_as_stranger("../new", "theirs/link");
    assert_place("theirs/link", "new");
}

static void a_user_follows_roots_links(void ** state) {
    (void) state;
    need_two_users();
    make_shared("shared", 01777);
    assert_int_equal(symlink("../new", "shared/link"), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        struct place place;
        _exit(setuid(STRANGER) == 0 && place_find(&place, "shared/link") == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_trace_is_never_replaced),
        TEST(siblings_are_numbered_on),
        TEST(parts_are_numbered_on),
        TEST(a_part_that_is_taken_is_skipped),
        TEST(thousands_of_siblings),
        TEST(leftovers_are_removed),
        TEST(the_oldest_go_first),
        TEST(without_a_limit_nothing_goes),
        TEST(descriptors_are_above_two),
        TEST(places),
        TEST(a_strangers_link_is_not_followed),
        TEST(elsewhere_anyones_link_is_followed),
        TEST(a_user_follows_roots_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
