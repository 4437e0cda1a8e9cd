// The folder of running tracers: which one it is, who else may write there, and whose files live.

#include "unit.h"

#include "folder.h"

#include "live/live-folder.h"
#include "live/live-names.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int open_and_close(const char * setting, bool make) {
    char    * path = NULL;
    const int fd   = live_folder_open(setting, make, &path);
    free(path);
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? fd : 0;
}

static void test_a_named_folder_is_taken_as_it_is(void ** state) {
    (void) state;
    assert_int_equal(open_and_close("live", true), -ENOENT);
    assert_int_equal(mkdir("live", 0755), 0);
    assert_int_equal(open_and_close("live", true), 0);
    assert_int_equal(symlink("live", "link"), 0);
    assert_int_equal(open_and_close("link", true), 0);
    assert_int_equal(chmod("live", 0775), 0);
    assert_true(open_and_close("live", true) < 0);
    assert_non_null(strstr(live_folder_explain(open_and_close("live", true)), "chmod"));
    assert_int_equal(chmod("live", 0757), 0);
    assert_true(open_and_close("live", false) < 0);
    fclose(fopen("file", "w"));
    assert_int_equal(open_and_close("file", true), -ENOTDIR);
}

static void test_settings_that_name_none(void ** state) {
    (void) state;
    static const char * const settings[] = { NULL, "", "0", "1" };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        assert_false(live_folder_is_named(settings[i]));
    }
    assert_true(live_folder_is_named("11"));
    assert_true(live_folder_is_named("/run/tracers"));
}

static void test_the_runtime_folder_is_made_for_the_user_alone(void ** state) {
    (void) state;
    char        path[128];
    char      * opened = NULL;
    struct stat status;
    setenv("XDG_RUNTIME_DIR", folder, 1);
    snprintf(path, sizeof(path), "%s/llama-expert-tracer", folder);
    assert_int_not_equal(stat(path, &status), 0);
    const mode_t before = umask(0);
    const int    fd     = live_folder_open("1", true, &opened);
    umask(before);
    assert_true(fd > 2);
    assert_string_equal(opened, path);
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(fd);
    free(opened);
    assert_int_equal(open_and_close(NULL, false), 0);
}

// What has to be skipped, so that the next one is tried: that one's path comes out.
static void expect_the_common_folder(void) {
    char    * common = live_folder_common_path(geteuid());
    const int before = access(common, F_OK);
    char    * opened = NULL;
    const int fd     = live_folder_open("1", true, &opened);
    assert_string_equal(opened, common);
    if (fd >= 0) {
        close(fd);
    }
    if (before != 0) {
        rmdir(common);
    }
    free(opened);
    free(common);
}

static void test_a_runtime_folder_that_is_of_no_use_is_skipped(void ** state) {
    (void) state;
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    assert_int_equal(mkdir("relative", 0700), 0);
    expect_the_common_folder();
    assert_int_not_equal(access("relative/llama-expert-tracer", F_OK), 0);
    setenv("XDG_RUNTIME_DIR", "/nowhere/at/all", 1);
    expect_the_common_folder();
    unsetenv("XDG_RUNTIME_DIR");
    expect_the_common_folder();
    setenv("XDG_RUNTIME_DIR", folder, 1);
    assert_int_equal(mkdir("elsewhere", 0700), 0);
    assert_int_equal(symlink("elsewhere", "llama-expert-tracer"), 0);
    expect_the_common_folder();
    assert_int_equal(unlink("llama-expert-tracer"), 0);
    assert_int_equal(mkdir("llama-expert-tracer", 0700), 0);
    assert_int_equal(chmod("llama-expert-tracer", 0770), 0);
    expect_the_common_folder();
}

static void test_links_and_folders_of_others_are_refused(void ** state) {
    (void) state;
    assert_int_equal(mkdir("real", 0700), 0);
    assert_int_equal(symlink("real", "link"), 0);
    assert_int_equal(symlink("nothing", "dangling"), 0);
    assert_int_equal(live_folder_open_path("link", geteuid(), false), -EPERM);
    assert_int_equal(live_folder_open_path("dangling", geteuid(), false), -EPERM);
    if (geteuid() != 0) {
        assert_int_equal(live_folder_open_path("real", geteuid() + 1, false), -EPERM);
    } else {
        assert_int_equal(chown("real", 12345, 12345), 0);
        assert_int_equal(live_folder_open_path("real", 0, false), -EPERM);
    }
    const int fd = live_folder_open_path("/", geteuid(), false); // root's
    assert_true(fd >= 0);
    close(fd);
}

//
// names
//

static int here(void) {
    const int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static int count(int directory) {
    struct live_name * names = NULL;
    const int          n     = live_names_list(directory, &names);
    free(names);
    return n;
}

static void test_the_form_of_a_name(void ** state) {
    (void) state;
    assert_true(live_name_is("1-00000000"));
    assert_true(live_name_is("4194304-89abcdef"));
    static const char * const others[] = {
        "", "-", "1", "1-", "1-0000000", "1-000000000", "1-0000000G", "1-ABCDEF00", "-00000000", "a1-00000000",
        "1-00000000.lock", "../1-00000000", "11111111111111111111111111111111-00000000",
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(live_name_is(others[i]));
    }
}

static void test_a_name_lives_as_long_as_its_descriptor(void ** state) {
    (void) state;
    const int        directory = here();
    struct live_name name;
    const int        fd = live_name_take(directory, &name);
    assert_true(fd > 2);
    assert_true(live_name_is(name.text));
    assert_int_equal(strtol(name.text, NULL, 10), getpid());
    assert_true(live_name_is_alive(directory, &name));
    assert_int_equal(count(directory), 1);
    live_names_sweep(directory);
    assert_true(live_name_is_alive(directory, &name));
    close(fd);
    assert_false(live_name_is_alive(directory, &name));
    assert_int_equal(count(directory), 0);
    close(directory);
}

static void make(const char * format, const char * name) {
    char file[128];
    snprintf(file, sizeof(file), format, name);
    fclose(fopen(file, "w"));
}

static int exists(const char * format, const char * name) {
    char file[128];
    snprintf(file, sizeof(file), format, name);
    return access(file, F_OK) == 0;
}

static void test_leftovers_are_removed(void ** state) {
    (void) state;
    const int        directory = here();
    struct live_name name;
    const int        fd = live_name_take(directory, &name);
    make("%s.sock", name.text);
    make("%s.lock", "1-00000001");
    make("%s.sock", "1-00000001");
    make(".%s.lock.abcdef.tmp", "1-00000002");
    make("%s", "1-00000003");
    make("%s.lock", "mine");
    make(".%s.lock", "mine");
    make(".%s.lock.abcdef.tmp", "mine");
    live_names_sweep(directory);
    assert_true (exists("%s.lock", name.text));
    assert_true (exists("%s.sock", name.text));
    assert_false(exists("%s.lock", "1-00000001"));
    assert_false(exists("%s.sock", "1-00000001"));
    assert_false(exists(".%s.lock.abcdef.tmp", "1-00000002"));
    assert_true (exists("%s", "1-00000003"));
    assert_true (exists("%s.lock", "mine"));
    assert_true (exists(".%s.lock", "mine"));
    assert_true (exists(".%s.lock.abcdef.tmp", "mine"));
    live_name_remove(directory, &name);
    assert_false(exists("%s.lock", name.text));
    assert_false(exists("%s.sock", name.text));
    close(fd);
    close(directory);
}

static void test_what_others_put_there_makes_nobody_wait(void ** state) {
    (void) state;
    const int directory = here();
    assert_int_equal(mkfifo("1-00000001.lock", 0600), 0);
    assert_int_equal(symlink("/etc/passwd", "1-00000002.lock"), 0);
    assert_int_equal(mkdir("1-00000003.lock", 0700), 0);
    assert_int_equal(count(directory), 0);
    live_names_sweep(directory);
    assert_true(exists("%s.lock", "1-00000001"));
    assert_true(exists("%s.lock", "1-00000003"));
    close(directory);
}

static void test_a_killed_process_does_not_live(void ** state) {
    (void) state;
    const int   directory = here();
    int         ready[2];
    char        byte;
    assert_int_equal(pipe(ready), 0);
    const pid_t child = fork();
    if (child == 0) {
        struct live_name name;
        _exit(live_name_take(directory, &name) >= 0 && write(ready[1], "x", 1) == 1 && pause());
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(count(directory), 1);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(count(directory), 0);
    close(ready[0]);
    close(ready[1]);
    close(directory);
}

// Ever so many that sweep while ever so many take: nobody loses a name that was taken.
static void test_taking_and_sweeping_at_once(void ** state) {
    (void) state;
    const int directory = here();
    pid_t     sweepers[3];
    for (size_t i = 0; i < 3; i++) {
        sweepers[i] = fork();
        for (int n = 0; sweepers[i] == 0 && n < 100000; n++) {
            live_names_sweep(directory);
        }
        if (sweepers[i] == 0) {
            _exit(0);
        }
    }
    for (int i = 0; i < 500; i++) {
        struct live_name name;
        const int        fd = live_name_take(directory, &name);
        assert_true(fd >= 0);
        assert_true(live_name_is_alive(directory, &name));
        if (i % 2 == 0) {
            live_name_remove(directory, &name);
        }
        close(fd);
    }
    for (size_t i = 0; i < 3; i++) {
        kill(sweepers[i], SIGKILL);
        waitpid(sweepers[i], NULL, 0);
    }
    live_names_sweep(directory);
    assert_int_equal(system("test -z \"$(ls -A)\""), 0);
    close(directory);
}

static void test_a_socket_is_found_by_the_descriptor(void ** state) {
    (void) state;
    assert_int_equal(mkdir("a-folder-whose-path-is-far-longer-than-the-hundred-and-eight-bytes-of-a-sockets-address-may"
                           "-ever-be-whatever-it-is-called", 0700), 0);
    const int directory = open("a-folder-whose-path-is-far-longer-than-the-hundred-and-eight-bytes-of-a-sockets-address"
                               "-may-ever-be-whatever-it-is-called", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct live_name         name;
    const int                lock    = live_name_take(directory, &name);
    const struct sockaddr_un address = live_name_address(directory, &name);
    const int                server  = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    const int                client  = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server, (const struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(server, 1), 0);
    assert_int_equal(connect(client, (const struct sockaddr *) &address, sizeof(address)), 0);
    close(client);
    close(server);
    live_name_remove(directory, &name);
    close(lock);
    close(directory);
}

int main(void) {
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_a_named_folder_is_taken_as_it_is),
        IN_FOLDER(test_settings_that_name_none),
        IN_FOLDER(test_the_runtime_folder_is_made_for_the_user_alone),
        IN_FOLDER(test_a_runtime_folder_that_is_of_no_use_is_skipped),
        IN_FOLDER(test_links_and_folders_of_others_are_refused),
        IN_FOLDER(test_the_form_of_a_name),
        IN_FOLDER(test_a_name_lives_as_long_as_its_descriptor),
        IN_FOLDER(test_leftovers_are_removed),
        IN_FOLDER(test_what_others_put_there_makes_nobody_wait),
        IN_FOLDER(test_a_killed_process_does_not_live),
        IN_FOLDER(test_taking_and_sweeping_at_once),
        IN_FOLDER(test_a_socket_is_found_by_the_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
