// What every table of options has: --help, and the names that an option chooses from as text.

#include "tool/option-spec.h"

#include <stdlib.h>

const struct option_spec option_help = { 'h', "help", OPTION_ON, 0, .help = "show this" };

char * options_choices(const struct option_choice * choices) {
    char * text = memory_text("%s", choices[0].name);
    for (size_t i = 1; choices[i].name != NULL; i++) {
        text = memory_append(text, memory_text("%s%s", choices[i + 1].name == NULL ? " or " : ", ", choices[i].name));
    }
    return text;
}
