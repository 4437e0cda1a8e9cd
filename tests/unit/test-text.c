// Text that grows, and what makes it harmless to terminals and right as JSON.

#include "unit.h"

#include "base/clean.h"
#include "base/text.h"

#include <string.h>

static void grows(void ** state) {
    (void) state;
    struct text text = { 0 };
    for (int i = 0; i < 10000; i++) {
        text_add(&text, "%04d ", i);
    }
    assert_false(text.failed);
    assert_int_equal(text.length, 50000);
    assert_int_equal(strlen(text.data), 50000);
    assert_memory_equal(text.data + 49995, "9999 ", 5);
    text_free(&text);
}

static void takes_what_was_not_formatted(void ** state) {
    (void) state;
    struct text text = { 0 };
    for (int i = 0; i < 1000; i++) {
        memcpy(text_room(&text, 100), "0123456789", 10);
        text_take(&text, 10);
        assert_int_equal(strlen(text.data), text.length);
    }
    text_add(&text, "%d", 5);
    assert_int_equal(text.length, 10001);
    assert_int_equal(strlen(text.data), 10001);
    assert_string_equal(text.data + 9990, "01234567895");

    const size_t room = text.room;
    text_clear(&text);
    assert_string_equal(text.data, "");
    text_add(&text, "again");
    assert_string_equal(text.data, "again");
    assert_int_equal(text.room, room);
    text_free(&text);
    text_clear(&text);
    assert_null(text.data);
}

static void assert_json(const char * string, const char * json) {
    struct text text = { 0 };
    text_add_json_string(&text, string);
    assert_string_equal(text.data, json);
    text_free(&text);
}

static void a_line_stays_one(void ** state) {
    (void) state;
    struct text text = { 0 };
    text_add_line(&text, "%s and %d",
        "a\n\033[31mb\r\x7f" "c\xff\xc2\x9b" "d\xe2\x80\xae" "e\xe2\x80\xa8" "größe 🦙", 5);
    text_add_line(&text, "%s", "");
    assert_string_equal(text.data,
        "[EXPERT-TRACE] a\xef\xbf\xbd\xef\xbf\xbd[31mb\xef\xbf\xbd\xef\xbf\xbd" "c\xef\xbf\xbd\xef\xbf\xbd"
        "d\xef\xbf\xbd" "e\xef\xbf\xbd" "größe 🦙 and 5\n[EXPERT-TRACE] \n");
    text_free(&text);
}

static void what_is_harmless(void ** state) {
    (void) state;
    static const uint32_t first[] = { 0, 0x7f, 0x61c, 0x200e, 0x2028, 0x2066 };
    static const uint32_t last [] = { 0x1f, 0x9f, 0x61c, 0x200f, 0x202e, 0x2069 };
    for (uint32_t code = 0; code < 0x3000; code++) {
        bool hidden = false;
        for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
            hidden = hidden || (code >= first[i] && code <= last[i]);
        }
        assert_int_equal(clean_is_harmless(code), !hidden);
    }
    char text[] = "a\x1b" "b\xc2\x85" "c\xe2\x80\xae" "d\x9b\xc3";
    assert_string_equal(clean_in_place(text), "a?b??c???d??");

    char room[8];
    clean_copy(room, sizeof(room), "\x01" "ab\x02" "c"); // what does not fit whole is left out
    assert_string_equal(room, "\xef\xbf\xbd" "ab");
    clean_copy(room, 1, "abc");
    assert_string_equal(room, "");
}

static void json_is_harmless_and_true(void ** state) {
    (void) state;
    assert_json("\033\x7f\xc2\x9b", "\"\\u001b\\u007f\\u009b\"");
    assert_json("\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8", "\"\\u202e\\u2066\\u2028\"");
    assert_json("\x9b", "\"\\ufffd\"");
}

static void writes_json_strings(void ** state) {
    (void) state;
    assert_json(NULL, "null");
    assert_json("", "\"\"");
    assert_json("a \"b\" \\ c/", "\"a \\\"b\\\" \\\\ c/\"");
    assert_json("tab\tline\n\x01", "\"tab\\u0009line\\u000a\\u0001\"");
    assert_json("größe 模型 🦙", "\"größe 模型 🦙\"");
}

static void replaces_what_is_not_utf8(void ** state) {
    (void) state;
    assert_json("\xff", "\"\\ufffd\"");
    assert_json("a\xc3", "\"a\\ufffd\"");                         // cut off
    assert_json("\xc0\xaf", "\"\\ufffd\\ufffd\"");                // longer than need be
    assert_json("\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"");     // half of a pair
    assert_json("\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""); // beyond the last
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows),
        cmocka_unit_test(takes_what_was_not_formatted),
        cmocka_unit_test(a_line_stays_one),
        cmocka_unit_test(what_is_harmless),
        cmocka_unit_test(json_is_harmless_and_true),
        cmocka_unit_test(writes_json_strings),
        cmocka_unit_test(replaces_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
