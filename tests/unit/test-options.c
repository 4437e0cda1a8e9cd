// The table of a command's options: what it takes of a command line, what it refuses, and the help that is made of it.

#include "unit.h"

#include "tool/help.h"
#include "tool/options.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum color { RED, GREEN };
enum mode  { PLAIN, STRICT };

struct options {
    bool         force;
    bool         keep;
    enum mode    mode;
    const char * output;
    const char * way;
    enum color   color;
    uint64_t     top;
    double       half;
    uint64_t     size;
    double       rate;
    int          squared;
};

static bool take_squared(const char * text, void * place, struct error * error) {
    *(int *) place = (int) (strlen(text) * strlen(text));
    return *text != '\0' || error_set(error, "--squared: nothing has no length");
}

static const struct option_choice colors[] = { { "red", NULL }, { "green", NULL }, { 0 } };
static const struct option_choice ways[]   = {
    { "over",  "above it, by the longer but by far the nicer way, in many words" },
    { "under", "below it" },
    { 0 },
};

static const struct option_spec options_known[] = {
    { 'f', "force", OPTION_ON, OPTION_AT(force), .help = "whatever is there" },
    { 'o', "output", OPTION_FILE, OPTION_AT(output), .value = "OUT", .help = "write here" },
    { 0, "color", OPTION_CHOICE, OPTION_AT(color), .value = "COLOR", .choices = colors, .help = "red or green" },
    { 0, "way", OPTION_WORD, OPTION_AT(way), .value = "WAY", .choices = ways, .help = "one of those below" },
    { 'n', "top", OPTION_COUNT, OPTION_AT(top), .value = "N", .min = 2, .max = 1000, .expects = "needs 2 to 1000",
      .help = "so many" },
    { .kind = OPTION_GROUP, .help = "Numbers" },
    { 0, "drop", OPTION_OFF, OPTION_AT(keep), .help = "do not keep" },
    { 0, "strict", OPTION_SET, OPTION_AT(mode), .sets = STRICT, .help = "strictly" },
    { 0, "half", OPTION_NUMBER, OPTION_AT(half), .value = "N", .expects = "needs a number", .help = "so much" },
    { 0, "size", OPTION_BYTES, OPTION_AT(size), .value = "SIZE", .min = 1024, .expects = "needs a size",
      .help = "of it" },
    { 0, "rate", OPTION_RATE, OPTION_AT(rate), .value = "RATE", .expects = "needs a rate", .help = "a second" },
    { 0, "a-long-name-that-leaves-no-room", OPTION_TEXT, OPTION_AT(squared), .value = "TEXT", .take = take_squared,
      .help = "its text begins in a line of its own, and goes on in further ones as soon as it is too long for one" },
    { 0 },
};

static int no_main(int argc, char ** argv) {
    (void) argc;
    (void) argv;
    return 0;
}

static struct command command = {
    .name    = "try",
    .summary = "tries",
    .usage   = "[OPTION]… FILE…\n--strict",
    .about   = "Tries it, with words enough to come to the end of a line that is no longer than eighty columns.\n"
               "\n"
               "  as    it is\n"
               "  and   this\n"
               "\n"
               "More.",
    .options = options_known,
    .notes   = "That is all.",
    .main    = no_main,
};

#define ARGUMENTS_MAX 32

struct given {
    struct options options;
    bool           ok;
    int            status;
    int            argc;
    char         * all[ARGUMENTS_MAX];
    char        ** argv;
    char           said[4096]; // to stdout and stderr
};

static void hear(FILE * from, char * text, size_t size) {
    rewind(from);
    text[fread(text, 1, size - 1, from)] = '\0';
    fclose(from);
}

// `line` in words, behind the command's name.
static struct given * give(const char * line) {
    static struct given given;
    static char         words[512];
    static char         name[] = "try";
    given = (struct given) { .options = { .keep = true }, .argc = 1, .argv = given.all };
    snprintf(words, sizeof(words), "%s", line);
    given.all[0] = name;
    for (char * word = strtok(words, " "); word != NULL; word = strtok(NULL, " ")) {
        given.all[given.argc++] = word;
    }
    FILE    * heard = tmpfile();
    const int out   = dup(STDOUT_FILENO);
    const int err   = dup(STDERR_FILENO);
    fflush(stdout);
    dup2(fileno(heard), STDOUT_FILENO);
    dup2(fileno(heard), STDERR_FILENO);
    given.ok = options_parse(&command, &given.options, &given.argc, &given.argv, &given.status);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    close(out);
    close(err);
    hear(heard, given.said, sizeof(given.said));
    return &given;
}

static void refuses(const char * line, const char * why) {
    char expected[512];
    snprintf(expected, sizeof(expected), "llama-expert-tracer: try: %s\ntry: llama-expert-tracer try --help\n", why);
    const struct given * given = give(line);
    assert_false(given->ok);
    assert_int_equal(given->status, STATUS_USAGE);
    assert_string_equal(given->said, expected);
}

static void test_every_kind(void ** state) {
    (void) state;
    const struct given   * given   = give("-f -o here --color green --way under -n 1000 --drop --strict --half .5 "
                                          "--size 2KiB --rate 3MB/s");
    const struct options * options = &given->options;
    assert_true(given->ok);
    assert_int_equal(given->argc, 0);
    assert_string_equal(given->said, "");
    assert_true(options->force);
    assert_false(options->keep);
    assert_int_equal(options->mode, STRICT);
    assert_string_equal(options->output, "here");
    assert_string_equal(options->way, "under");
    assert_int_equal(options->color, GREEN);
    assert_int_equal(options->top, 1000);
    assert_true(options->half == 0.5);
    assert_int_equal(options->size, 2048);
    assert_true(options->rate == 3e6);
}

static void test_ways_to_write_it(void ** state) {
    (void) state;
    assert_string_equal(give("-ohere")->options.output, "here");
    assert_string_equal(give("-fohere")->options.output, "here");
    assert_string_equal(give("--output=here")->options.output, "here");
    assert_string_equal(give("--out here")->options.output, "here");
    assert_string_equal(give("--output=")->options.output, "");
    assert_string_equal(give("-o one -o two")->options.output, "two");
    assert_int_equal(give("--a-long xyz")->options.squared, 9);
    assert_true(give("")->ok);
}

static void test_arguments_stay(void ** state) {
    (void) state;
    const struct given * given = give("a -f - b -- -o");
    assert_int_equal(given->argc, 4);
    assert_string_equal(given->argv[0], "a");
    assert_string_equal(given->argv[1], "-");
    assert_string_equal(given->argv[2], "b");
    assert_string_equal(given->argv[3], "-o");
    assert_null(given->argv[4]);
    assert_true(given->options.force);

    command.passes_on = true;
    given = give("-f program -o x --help");
    assert_true(given->ok);
    assert_int_equal(given->argc, 4);
    assert_string_equal(given->argv[0], "program");
    assert_null(given->options.output);
    command.passes_on = false;
}

static void test_what_is_refused(void ** state) {
    (void) state;
    refuses("--nope",         "unknown or ambiguous option --nope");
    refuses("--s 1",          "unknown or ambiguous option --s"); // strict or size
    refuses("-q",             "unknown option -q");
    refuses("-fq",            "unknown option -q");
    refuses("--force=1",      "option --force=1 takes no value");
    refuses("--help=1",       "option --help=1 takes no value");
    refuses("--top",          "--top needs a value");
    refuses("-n",             "-n needs a value");
    refuses("--color blue",   "--color is red or green, not 'blue'");
    refuses("--way around",   "--way is over or under, not 'around'");
    refuses("--size 1023",    "--size needs a size, not '1023'");
    refuses("--size x",       "--size needs a size, not 'x'");
    refuses("--half 0",       "--half needs a number, not '0'");
    refuses("--half 1x",      "--half needs a number, not '1x'");
    refuses("--rate fast",    "--rate needs a rate, not 'fast'");
    refuses("--a-long-name-that-leaves-no-room=", "--squared: nothing has no length");
    static const char * const counts[] = { "1", "1001", "-5", "+5", "0x10", "5.", "", "99999999999999999999" };
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "--top=%s", counts[i]);
        assert_false(give(line)->ok);
    }
}

static size_t columns(const char * line, size_t n) {
    size_t width = 0;
    for (size_t i = 0; i < n; i++) {
        width += ((unsigned char) line[i] & 0xC0) != 0x80;
    }
    return width;
}

static void test_help(void ** state) {
    (void) state;
    const struct given * given = give("--he -q");
    assert_false(given->ok);
    assert_int_equal(given->status, STATUS_OK);
    const char * text = given->said;
    assert_non_null(strstr(text, "usage: llama-expert-tracer try [OPTION]… FILE…\n"
                                 "       llama-expert-tracer try --strict\n\nTries it, "));
    assert_non_null(strstr(text, "\n\n  as    it is\n  and   this\n\nMore.\n\n"
                                 "  -f, --force        whatever is there\n"));
    assert_non_null(strstr(text, "\n  -h, --help         show this\n\nNumbers:\n      --drop         do not keep\n"));
    assert_non_null(strstr(text, "\n      --a-long-name-that-leaves-no-room TEXT\n                "));
    assert_non_null(strstr(text, "\nWAY is one of these:\n  over   above it, by"));
    assert_non_null(strstr(text, "\n\nThat is all.\n"));
    for (const char * line = text, * end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        assert_true(columns(line, (size_t) (end - line)) <= 80);
        assert_true(end == line || end[-1] != ' ');
    }
    assert_string_equal(give("-h")->said, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind),
        cmocka_unit_test(test_ways_to_write_it),
        cmocka_unit_test(test_arguments_stay),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_help),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
