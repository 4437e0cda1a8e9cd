// What the command line gives, by the table of the command's options.

#include "tool/options.h"

#include "tool/help.h"
#include "tool/quantity.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROW 256 // getopt_long's number of the first row, above all letters

//
// values
//

static bool find_choice(const struct option_choice * choices, const char * text, size_t * index) {
    for (*index = 0; choices[*index].name != NULL; ++*index) {
        if (strcmp(choices[*index].name, text) == 0) {
            return true;
        }
    }
    return false;
}

static bool take_count(const struct option_spec * spec, const char * text, uint64_t * count) {
    char * end;
    *count = strtoull(text, &end, 10); // ULLONG_MAX where that is too little
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && *count >= spec->min
        && (spec->max == 0 || *count <= spec->max);
}

static bool take_choice(const struct option_spec * spec, const char * text, void * place) {
    size_t index;
    if (!find_choice(spec->choices, text, &index)) {
        return false;
    }
    if (spec->kind == OPTION_WORD) {
        *(const char **) place = text;
    } else {
        *(int *) place = (int) index;
    }
    return true;
}

static bool take_by_kind(const struct option_spec * spec, const char * text, void * place) {
    switch (spec->kind) {
        case OPTION_ON:     *(bool *) place = true;          return true;
        case OPTION_OFF:    *(bool *) place = false;         return true;
        case OPTION_SET:    *(int  *) place = spec->sets;    return true;
        case OPTION_COUNT:  return take_count(spec, text, place);
        case OPTION_NUMBER: return quantity_number(text, place);
        case OPTION_BYTES:  return quantity_bytes(text, place) && *(uint64_t *) place >= spec->min;
        case OPTION_RATE:   return quantity_rate(text, place);
        case OPTION_WORD:
        case OPTION_CHOICE: return take_choice(spec, text, place);
        default:            *(const char **) place = text;   return true;
    }
}

static void explain(const struct option_spec * spec, const char * text, struct error * error) {
    if (spec->expects != NULL) {
        error_set(error, "--%s %s, not '%s'", spec->name, spec->expects, text);
    } else if (spec->choices != NULL) {
        char * choices = options_choices(spec->choices);
        error_set(error, "--%s is %s, not '%s'", spec->name, choices, text);
        free(choices);
    }
}

static bool take(const struct option_spec * spec, const char * text, void * options, struct error * error) {
    void     * place = (char *) options + spec->at;
    const bool ok    = spec->take != NULL ? spec->take(text, place, error) : take_by_kind(spec, text, place);
    if (!ok) {
        explain(spec, text, error);
    }
    return ok;
}

//
// the command line
//

struct parser {
    const struct option_spec * rows;
    size_t                     n_rows;
    struct option            * known;   // getopt_long's own table
    char                     * letters; // likewise
};

static size_t count_rows(const struct option_spec * rows) {
    size_t n = 0;
    while (rows != NULL && rows[n].kind != OPTION_END) {
        n++;
    }
    return n;
}

static void add_letter(char ** end, const struct option_spec * spec) {
    if (spec->letter != '\0') {
        *(*end)++ = spec->letter;
        if (spec->value != NULL) {
            *(*end)++ = ':';
        }
    }
}

static struct option known_of(const struct option_spec * spec, int number) {
    return (struct option) { spec->name, spec->value != NULL ? required_argument : no_argument, NULL, number };
}

static struct parser parser_new(const struct command * command) {
    struct parser parser = { .rows = command->options, .n_rows = count_rows(command->options) };
    parser.known   = memory_new(parser.n_rows + 2, sizeof(*parser.known));
    parser.letters = memory_new(2 * parser.n_rows + 4, 1);

    size_t n   = 0;
    char * end = parser.letters;
    if (command->passes_on) {
        *end++ = '+';
    }
    *end++ = ':';
    for (size_t i = 0; i < parser.n_rows; i++) {
        if (parser.rows[i].name != NULL) {
            parser.known[n++] = known_of(&parser.rows[i], FIRST_ROW + (int) i);
            add_letter(&end, &parser.rows[i]);
        }
    }
    parser.known[n] = known_of(&option_help, option_help.letter);
    add_letter(&end, &option_help);
    return parser;
}

static void parser_free(struct parser * parser) {
    free(parser->known);
    free(parser->letters);
}

// NULL: it is none of the table's.
static const struct option_spec * parser_find(const struct parser * parser, int option) {
    if (option >= FIRST_ROW) {
        return &parser->rows[option - FIRST_ROW];
    }
    for (size_t i = 0; i < parser->n_rows; i++) {
        if (parser->rows[i].letter == option && option != '\0') {
            return &parser->rows[i];
        }
    }
    return NULL;
}

// For the '?' and ':' of getopt_long.
static int wrong_option(const struct command * command, char ** argv, int option) {
    const char * given = argv[optind - 1];
    if (option == ':') {
        return command_usage_error(command, "%s needs a value", given);
    }
    if (strncmp(given, "--", 2) == 0) {
        const bool known = optopt != 0;
        return command_usage_error(command, known ? "option %s takes no value" : "unknown or ambiguous option %s",
            given);
    }
    return command_usage_error(command, "unknown option -%c", optopt);
}

static bool parse(const struct command * command, const struct parser * parser, void * options, int argc, char ** argv,
                  int * status) {
    optind = 0; // begin anew, with all that getopt_long remembers
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, parser->letters, parser->known, NULL)) != -1;) {
        struct error               error;
        const struct option_spec * spec = parser_find(parser, option);
        if (option == option_help.letter) {
            help_print(stdout, command);
            *status = STATUS_OK;
            return false;
        }
        if (spec == NULL) {
            *status = wrong_option(command, argv, option);
            return false;
        }
        if (!take(spec, optarg, options, &error)) {
            *status = command_usage_error(command, "%s", error.text);
            return false;
        }
    }
    return true;
}

bool options_parse(const struct command * command, void * options, int * argc, char *** argv, int * status) {
    struct parser parser = parser_new(command);
    const bool    ok     = parse(command, &parser, options, *argc, *argv, status);
    parser_free(&parser);
    *argc -= optind;
    *argv += optind;
    return ok;
}
