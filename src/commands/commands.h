// All commands of llama-expert-tracer, in the order in which they are listed.

#pragma once

#include "tool/command.h"

#include <stddef.h>

extern const struct command command_run;
extern const struct command command_check;
extern const struct command command_ps;
extern const struct command command_attach;
extern const struct command command_detach;
extern const struct command command_top;
extern const struct command command_ctl;
extern const struct command command_serve;
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
extern const struct command command_import;
extern const struct command command_pack;
extern const struct command command_integrate;
extern const struct command command_completion;
extern const struct command command_help;

// NULL behind the last.
extern const struct command * const commands[];

// NULL where there is none of that name.
const struct command * commands_find(const char * name);

// To stderr, with the command whose name is like it where there is one. Returns STATUS_USAGE.
int commands_unknown(const char * name);
