// The statistics file: which one is claimed and replaced, and which file stays as it is.

#include "unit.h"

#include "folder.h"

#include "tracer/output.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BEGINNING "{\n  \"format\": \"llama-expert-tracer-statistics\",\n  \"version\": 1,\n"
#define ONE BEGINNING "  \"run\": \"run-1\",\n  \"n\": 1\n}\n"
#define TWO BEGINNING "  \"run\": \"run-2\",\n  \"n\": 2\n}\n"

static void assert_content(const char * path, const char * expected) {
    char   content[256] = "";
    FILE * file = fopen(path, "r");
    assert_non_null(file);
    content[fread(content, 1, sizeof(content) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(content, expected);
}

static void write_content(const char * path, const char * content) {
    FILE * file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
}

static void assert_n_files(int expected) {
    DIR * directory = opendir(".");
    int   n = 0;
    for (const struct dirent * entry; (entry = readdir(directory)); ) {
        n += entry->d_name[0] != '.';
    }
    closedir(directory);
    assert_int_equal(n, expected);
}

static int claim(struct output * output, const char * path, const char * content) {
    const struct output_wish wish = { path, strstr(content, "run-2") ? "run-2" : "run-1", 0 };
    return output_claim(output, &wish, content, strlen(content));
}

static void claims_and_replaces(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    assert_content("stats.json", ONE);
    assert_int_equal(output.path[0], '/');
    assert_int_equal(output_replace(&output, TWO, strlen(TWO), true), 0);
    assert_content("stats.json", TWO);
    output_release(&output);
    assert_n_files(1);

    struct stat about;
    assert_int_equal(stat("stats.json", &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
}

static void a_claimed_file_is_not_taken(void ** state) {
    (void) state;
    struct output first  = OUTPUT_UNCLAIMED;
    struct output second = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&first,  "stats.json", ONE), 0);
    assert_int_equal(claim(&second, "stats.json", TWO), 0);
    assert_content("stats.json", ONE);
    assert_content("stats-2.json", TWO);
    assert_int_equal(output_replace(&first, ONE "\n", strlen(ONE) + 1, true), 0);
    output_release(&first);
    output_release(&second);
    assert_n_files(2);
}

static void a_file_of_the_same_run_is_not_taken(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    output_release(&output);
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    assert_non_null(strstr(output.path, "stats-2.json"));
    output_release(&output);
}

static void an_earlier_run_is_renamed(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    output_release(&output);
    assert_int_equal(claim(&output, "stats.json", TWO), 0);
    assert_int_equal(output.reason, CLAIM_AS_WANTED);
    assert_non_null(strstr(output.moved, "/stats-2.json"));
    output_release(&output);
    assert_content("stats.json",   TWO);
    assert_content("stats-2.json", ONE);

    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    assert_non_null(strstr(output.moved, "/stats-3.json"));
    output_release(&output);
    assert_content("stats.json",   ONE);
    assert_content("stats-2.json", ONE);
    assert_content("stats-3.json", TWO);
    assert_n_files(3);
}

static void a_file_put_in_its_place_is_not_replaced(void ** state) {
    (void) state;
    static const char * const others[] = { "another's", TWO, "" };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        struct output output = OUTPUT_UNCLAIMED;
        assert_int_equal(claim(&output, "stats.json", ONE), 0);
        write_content("other", others[i]);
        assert_int_equal(rename("other", "stats.json"), 0);
        assert_int_equal(output_replace(&output, ONE, strlen(ONE), true), -ESTALE);
        assert_content("stats.json", others[i]);
        output_release(&output);
        assert_int_equal(unlink("stats.json"), 0);
    }
}

static void a_truncated_file_is_written_again(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    write_content("stats.json", "");
    assert_int_equal(output_replace(&output, ONE, strlen(ONE), true), 0);
    assert_content("stats.json", ONE);
    output_release(&output);
    assert_n_files(1);
}

static void siblings_of_odd_names(void ** state) {
    (void) state;
    static const char * const names[][2] = {
        { "plain", "plain-2" }, { ".hidden", ".hidden-2" }, { "a.b.json", "a.b-2.json" }, { "x.y/z", "x.y/z-2" },
    };
    assert_int_equal(mkdir("x.y", 0700), 0);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct output first  = OUTPUT_UNCLAIMED;
        struct output second = OUTPUT_UNCLAIMED;
        assert_int_equal(claim(&first,  names[i][0], ONE), 0);
        assert_int_equal(claim(&second, names[i][0], TWO), 0);
        assert_content(names[i][1], TWO);
        output_release(&first);
        output_release(&second);
    }
}

static void a_link_is_followed(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(close(creat("real.json", 0600)), 0);
    assert_int_equal(symlink("real.json", "link.json"), 0);
    assert_int_equal(claim(&output, "link.json", ONE), 0);
    assert_content("real.json", ONE);
    output_release(&output);

    struct stat about;
    assert_int_equal(lstat("link.json", &about), 0);
    assert_true(S_ISLNK(about.st_mode));
}

static void another_file_stays(void ** state) {
    (void) state;
    static const char * const contents[] = { "GGUF", "precious", "{}",
                                             "{\n  \"format\": \"something-else\"\n}\n", "\n" };
    struct output output = OUTPUT_UNCLAIMED;
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        write_content("stats.json", contents[i]);
        assert_int_equal(claim(&output, "stats.json", ONE), -EBADMSG);
        assert_int_equal(output_write_once("stats.json", ONE, strlen(ONE)), -EBADMSG);
        assert_content("stats.json", contents[i]);
    }
    assert_int_equal(claim(&output, "/proc/self/exe", ONE), -EBADMSG);
    assert_null(output.path);
    assert_n_files(1);

    write_content("stats.json", "");
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    assert_content("stats.json", ONE);
    output_release(&output);
}

static void what_cannot_be_written_is_told(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(claim(&output, "missing/stats.json", ONE), -ENOENT);
    assert_int_equal(claim(&output, folder, ONE), -EISDIR);
    assert_int_equal(claim(&output, "fifo", ONE), -ENOTSUP);
    assert_int_equal(claim(&output, "/dev/null", ONE), -ENOTSUP);
    assert_null(output.path);
    assert_n_files(1);
}

static void a_file_that_vanished_is_written_again(void ** state) {
    (void) state;
    struct output output = OUTPUT_UNCLAIMED;
    assert_int_equal(claim(&output, "stats.json", ONE), 0);
    assert_int_equal(unlink("stats.json"), 0);
    assert_int_equal(output_replace(&output, ONE, strlen(ONE), true), 0);
    assert_content("stats.json", ONE);
    output_release(&output);
}

static int write_once(const char * path) {
    return output_write_once(path, ONE, strlen(ONE));
}

static void an_export_replaces_nothing_but_files(void ** state) {
    (void) state;
    struct stat about;
    assert_int_equal(write_once("stats.json"), 0);
    assert_int_equal(write_once("stats.json"), 0);
    assert_content("stats.json", ONE);

    assert_int_equal(symlink("missing.json", "link.json"), 0);
    assert_int_equal(write_once("link.json"), 0);
    assert_content("missing.json", ONE);
    assert_int_equal(write_once("link.json"), 0);
    assert_int_equal(lstat("link.json", &about), 0);
    assert_true(S_ISLNK(about.st_mode));

    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(symlink("fifo", "link-to-fifo"), 0);
    assert_int_equal(write_once("fifo"),         -ENOTSUP);
    assert_int_equal(write_once("link-to-fifo"), -ENOTSUP);
    assert_int_equal(write_once("/dev/null"),    -ENOTSUP);
    assert_int_equal(write_once("."),            -EISDIR);
    assert_int_equal(write_once("no/such/file"), -ENOENT);
    assert_int_equal(stat("/dev/null", &about), 0);
    assert_true(S_ISCHR(about.st_mode));
    assert_n_files(5);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(claims_and_replaces),
        TEST(a_claimed_file_is_not_taken),
        TEST(a_file_of_the_same_run_is_not_taken),
        TEST(an_earlier_run_is_renamed),
        TEST(a_file_put_in_its_place_is_not_replaced),
        TEST(a_truncated_file_is_written_again),
        TEST(siblings_of_odd_names),
        TEST(a_link_is_followed),
        TEST(another_file_stays),
        TEST(what_cannot_be_written_is_told),
        TEST(a_file_that_vanished_is_written_again),
        TEST(an_export_replaces_nothing_but_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
