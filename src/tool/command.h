#pragma once

struct command {
    const char * name;
    const char * summary;
    const char * help;
    int       (* main)(int argc, char ** argv); // argv[0] is the command's name
};

extern const struct command command_run;
extern const struct command command_check;
extern const struct command command_report;
extern const struct command command_cache;
extern const struct command command_compare;
extern const struct command command_predict;
extern const struct command command_show;
extern const struct command command_merge;
extern const struct command command_info;
extern const struct command command_dump;
extern const struct command command_cat;
extern const struct command command_export;
extern const struct command command_pack;
extern const struct command command_integrate;

int command_help        (const struct command * command);                         // to stdout
int command_usage_error (const struct command * command, const char * format, ...) // to stderr
    __attribute__((format(printf, 2, 3)));
// For the '?' and ':' of getopt_long.
int command_option_error(const struct command * command, char ** argv, int option);
