// What variables and options take as a size, a time or a number, and what they do not.

#include "unit.h"

#include "base/quantity.h"
#include "tool/quantity.h"

struct quantity_case {
    const char * text;
    double       value; // negative: refused
};

static void expect(const struct quantity_case * cases, const struct quantity_unit * units) {
    for (; cases->text != NULL; cases++) {
        const double value = quantity_parse(cases->text, units);
        if (cases->value < 0 ? value >= 0 : value != cases->value) {
            fail_msg("'%s': %g, not %g", cases->text, value, cases->value);
        }
    }
}

static void test_numbers(void ** state) {
    (void) state;
    static const struct quantity_case cases[] = {
        { "0", 0 }, { "1", 1 }, { "0.1", 0.1 }, { ".5", 0.5 }, { "5.", 5 }, { "00012", 12 }, { "86400", 86400 },
        { "25.3", 25.3 }, { "", -1 }, { ".", -1 }, { "-1", -1 }, { "+1", -1 }, { " 1", -1 }, { "1 ", -1 },
        { "1e3", -1 },
        { "0x10", -1 }, { "0,5", -1 }, { "1.2.3", -1 }, { "1k", -1 }, { "inf", -1 }, { "nan", -1 }, { NULL, 0 },
    };
    expect(cases, quantity_plain);
}

static void test_units(void ** state) {
    (void) state;
    static const struct quantity_case sizes[] = {
        { "1000", 1000 }, { "1k", 1024 }, { "1K", 1024 }, { "1KiB", 1024 }, { "1kB", 1000 }, { "1.5MiB", 1572864 },
        { "500MB", 5e8 }, { "6G", 0x1.8p32 }, { "2tib", 0x1p41 }, { "2TB", 2e12 }, { "1B", -1 }, { "1 MiB", -1 },
        { "MiB", -1 }, { "1MiB1", -1 }, { "1h", -1 }, { "", -1 }, { NULL, 0 },
    };
    static const struct quantity_case times[] = {
        { "90", 90 }, { "90s", 90 }, { "90m", 5400 }, { "1.5MIN", 90 }, { "1h", 3600 }, { "2D", 172800 }, { "1w", -1 },
        { "1k", -1 }, { NULL, 0 },
    };
    expect(sizes, quantity_sizes);
    expect(times, quantity_times);
}

static void test_seeded(void ** state) {
    (void) state;
    uint64_t n    = 0;
    uint64_t seed = 9;
    assert_true(quantity_seeded("100", 1e15, 7, &n, &seed));
    assert_int_equal(n, 100);
    assert_int_equal(seed, 0);
    assert_true(quantity_seeded("1000000000000000:7", 1e15, 7, &n, &seed));
    assert_int_equal(n, 1000000000000000);
    assert_int_equal(seed, 7);
    static const char * const refused[] = {
        "", "0", "0:1", "1:", ":1", "1:0", "1:8", "1000000000000001", "1.5", "2.", "1:2.", "1e3", "-3", " 2", "2k",
        "1:2:3",
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (quantity_seeded(refused[i], 1e15, 7, &n, &seed)) {
            fail_msg("'%s' is taken", refused[i]);
        }
    }
    assert_int_equal(n, 1000000000000000); // and nothing is changed
}

static void test_options_of_the_command(void ** state) {
    (void) state;
    uint64_t bytes = 0;
    double   rate  = 0;
    double   value = 0;
    assert_true(quantity_bytes("1000B", &bytes) && bytes == 1000);
    assert_true(quantity_bytes("1 GiB", &bytes) && bytes == 1 << 30);
    assert_true(quantity_bytes("1e3", &bytes) && bytes == 1000);
    assert_false(quantity_bytes("0.5", &bytes));
    assert_false(quantity_bytes("0", &bytes));
    assert_false(quantity_bytes("1GB/s", &bytes));
    assert_false(quantity_bytes("9e30", &bytes));
    assert_true(quantity_rate("25GB/s", &rate) && rate == 25e9);
    assert_true(quantity_rate("25gb", &rate) && rate == 25e9);
    assert_true(quantity_rate("1B/s", &rate) && rate == 1);
    assert_true(quantity_rate("0.5/s", &rate) && rate == 0.5);
    assert_false(quantity_rate("fast", &rate));
    assert_true(quantity_number("1.8e1", &value) && value == 18);
    assert_false(quantity_number("0", &value));
    assert_false(quantity_number("18t/s", &value));
    assert_false(quantity_number("1e999", &value));
}

static void test_text(void ** state) {
    (void) state;
    char text[QUANTITY_MAX];
    assert_string_equal(quantity_text(1023, text), "1023 bytes");
    assert_string_equal(quantity_text(1024, text), "1.00 KiB");
    assert_string_equal(quantity_text(48 * 0x1p20, text), "48.0 MiB");
    assert_string_equal(quantity_text(480 * 0x1p30, text), "480 GiB");
    assert_string_equal(quantity_text(4800 * 0x1p40, text), "4800 TiB");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_options_of_the_command),
        cmocka_unit_test(test_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
