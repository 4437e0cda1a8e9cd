// Running text in lines of a terminal's width, and what a terminal must not get to see.

#include "unit.h"

#include "tool/terminal.h"
#include "tool/wrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char * printed(size_t width, const char * text) {
    char          * lines = NULL;
    size_t          size  = 0;
    struct terminal terminal = { .out = open_memstream(&lines, &size), .width = width };
    assert_non_null(terminal.out);
    terminal_paragraph(&terminal, text);
    fclose(terminal.out);
    return lines;
}

static void expect(size_t width, const char * text, const char * wanted) {
    char * lines = printed(width, text);
    assert_string_equal(lines, wanted);
    free(lines);
}

static void test_breaks_between_words(void ** state) {
    (void) state;
    expect(12, "one two three four", "one two\nthree four\n");
    expect(13, "one two three four", "one two three\nfour\n");
    expect(80, "one  two ",          "one two\n");
    expect(10, "",                   "\n");
}

static void test_words_stay_whole(void ** state) {
    (void) state;
    expect(6, "a /some/long/path.moetrace b", "a\n/some/long/path.moetrace\nb\n");
}

static void test_counts_characters(void ** state) {
    (void) state;
    expect(9, "µµµµ öööö x", "µµµµ öööö\nx\n");
}

static void test_nothing_harmful(void ** state) {
    (void) state;
    expect(80, "a\033[1mb\nc", "a?[1mb?c\n");
}

static void test_indents(void ** state) {
    (void) state;
    char * lines = NULL;
    size_t size  = 0;
    FILE * out   = open_memstream(&lines, &size);
    wrap_print(out, "one two three", strlen("one two three"), 10, 4, 2);
    fclose(out);
    assert_string_equal(lines, "one two\n    three\n");
    free(lines);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breaks_between_words),
        cmocka_unit_test(test_words_stay_whole),
        cmocka_unit_test(test_counts_characters),
        cmocka_unit_test(test_nothing_harmful),
        cmocka_unit_test(test_indents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
