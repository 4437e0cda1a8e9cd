#include "unit.h"

#include "tracer/text.h"

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
        cmocka_unit_test(writes_json_strings),
        cmocka_unit_test(replaces_what_is_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
