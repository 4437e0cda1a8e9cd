// `check`: whether a program can be traced, read from its files.

#include "base/clean.h"
#include "commands/commands.h"
#include "tool/error.h"
#include "tool/launch/preload.h"
#include "tool/launch/program-path.h"
#include "tool/launch/program.h"
#include "tool/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char * answer_text(enum program_answer answer) {
    switch (answer) {
        case PROGRAM_CAN:     return "can be traced";
        case PROGRAM_MAY:     return "may be traced";
        case PROGRAM_UNKNOWN: return "not known whether it can be traced";
        default:              return "cannot be traced";
    }
}

// Takes the line over, which is one whatever is in it.
static void print_line(char * line) {
    puts(clean_in_place(line));
    free(line);
}

static void print_part(const char * label, const struct program_part * part) {
    if (part->path != NULL) {
        const char * version = part->version == NULL ? "" : part->version;
        print_line(memory_text("  %-10s %s%s%s", label, version, *version == '\0' ? "" : "  ", part->path));
    }
}

static void print_verdict(const char * path, const struct program_verdict * verdict) {
    print_line(memory_text("%s: %s: %s", path, answer_text(verdict->answer), verdict->why));
    if (strcmp(path, verdict->path) != 0) {
        print_line(memory_text("  %-10s %s", "starts", verdict->path));
    }
    print_part("llama.cpp", &verdict->llama);
    print_part("ggml",      &verdict->ggml);
    if (verdict->fork != NULL) {
        printf("  %-10s %s\n", "fork", verdict->fork);
    }
    if (verdict->answer == PROGRAM_CAN) {
        print_line(memory_text("  %-10s llama-expert-tracer run %s …", "to do", path));
    } else {
        print_line(memory_text("  %-10s %s", "to do", verdict->advice));
    }
}

// What preloading would use. A program can be judged without.
static char * find_library(void) {
    struct error error;
    char       * library = library_find(&error);
    if (library == NULL || !library_is_preloadable(library, &error)) {
        error_warning("%s", error.text);
        free(library);
        return NULL;
    }
    return library;
}

static int check(const char * name) {
    struct error error;
    int          status;
    char       * path = program_is_library(name) ? memory_text("%s", name) : program_find(name, &error, &status);
    if (path == NULL) {
        error_say("%s", error.text);
        return STATUS_USAGE;
    }

    struct program_verdict verdict;
    char                 * library = find_library();
    if (program_judge(path, library, &verdict, &error)) {
        print_verdict(path, &verdict);
        status = verdict.answer == PROGRAM_IN_VAIN || verdict.answer == PROGRAM_CANNOT ? STATUS_FAILED : STATUS_OK;
        program_verdict_clear(&verdict);
    } else {
        error_say("%s: who may not read a program cannot check it", error.text);
        status = STATUS_USAGE;
    }
    free(library);
    free(path);
    return status;
}

static int check_main(int argc, char ** argv) {
    int status;
    if (!options_parse(&command_check, NULL, &argc, &argv, &status)) {
        return status;
    }
    if (argc != 1) {
        return command_usage_error(&command_check, argc == 0 ? "which program?" : "one program, without its arguments");
    }
    return check(argv[0]);
}

const struct command command_check = {
    .name      = "check",
    .summary   = "says whether a program can be traced, and what to do if not",
    .usage     = "PROGRAM",
    .about     = "Says whether preloading reaches llama.cpp in the program, which llama.cpp that is, and what to do "
                 "if it does not. That is read from the files of the program and of the libraries that it would "
                 "load: nothing of the program is started.",
    .notes     = "Exit status: 0 it can be traced, may be, or its files do not tell; 1 it cannot; 2 it is not there "
                 "or may not be read.",
    .operand   = COMMAND_OPERAND_PROGRAM,
    .passes_on = true,
    .main      = check_main,
};
