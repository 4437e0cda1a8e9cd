// The command `serve` where it was built without a library for HTTP.

#include "commands/commands.h"
#include "tool/options.h"

static const struct option_spec options_known[] = { { 0 } };

static int serve_main(int argc, char ** argv) {
    char no_options;
    int  status;
    if (!options_parse(&command_serve, &no_options, &argc, &argv, &status)) {
        return status;
    }
    error_say("this program was built without libmicrohttpd: install it (Debian: libmicrohttpd-dev), and build again");
    return STATUS_FAILED;
}

const struct command command_serve = {
    .name    = "serve",
    .summary = "shows running programs to Prometheus (not built here)",
    .usage   = "",
    .about   = "Serves what traced programs have counted so far, by HTTP. This program was built without it: "
               "libmicrohttpd was not there.",
    .options = options_known,
    .main    = serve_main,
};
