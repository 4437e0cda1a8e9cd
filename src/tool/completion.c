// Scripts with which shells complete a command line, made of the commands' tables of options.

#include "tool/completion.h"

#include "tool/options.h"

#include <stdbool.h>
#include <string.h>

#define HELP_MAX 70 // bytes of a text that shells show beside an option

// The options of a command that have a name, and --help behind them. NULL: no more.
static const struct option_spec * next_option(const struct command * command, const struct option_spec * last) {
    if (last == &option_help) {
        return NULL;
    }
    const struct option_spec * spec = last == NULL ? command->options : last + 1;
    while (spec != NULL && spec->kind == OPTION_GROUP) {
        spec++;
    }
    return spec == NULL || spec->kind == OPTION_END ? &option_help : spec;
}

// How much of a text is shown: no more than its first part, whole words.
static size_t shown(const char * text) {
    static const char * const ends[] = { ". ", "; ", ": ", " (" };
    size_t n = strlen(text);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const char * end = strstr(text, ends[i]);
        n = end != NULL && (size_t) (end - text) < n ? (size_t) (end - text) : n;
    }
    while (n > HELP_MAX) {
        do {
            n--;
        } while (text[n] != ' ');
    }
    return n;
}

// Within single quotes, with a backslash before each of `special`.
static void put_quoted(FILE * out, const char * text, size_t length, const char * special) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\'') {
            fputs("'\\''", out);
        } else {
            fprintf(out, "%s%c", strchr(special, text[i]) != NULL ? "\\" : "", text[i]);
        }
    }
}

static void put_choices(FILE * out, const struct option_choice * choices) {
    for (size_t i = 0; choices[i].name != NULL; i++) {
        fprintf(out, "%s%s", i == 0 ? "" : " ", choices[i].name);
    }
}

static void put_words(FILE * out, const char * const * words) {
    for (size_t i = 0; words[i] != NULL; i++) {
        fprintf(out, "%s%s", i == 0 ? "" : " ", words[i]);
    }
}

static void put_commands(FILE * out, const struct command * const * all) {
    for (size_t i = 0; all[i] != NULL; i++) {
        fprintf(out, "%s%s", i == 0 ? "" : " ", all[i]->name);
    }
}

//
// bash
//

static void bash_pattern(FILE * out, const struct option_spec * spec) {
    if (spec->letter != '\0') {
        fprintf(out, "-%c|", spec->letter);
    }
    fprintf(out, "--%s", spec->name);
}

static void bash_value(FILE * out, const struct option_spec * spec) {
    fputs("                ", out);
    bash_pattern(out, spec);
    if (spec->choices != NULL) {
        fputs(") takes='word' words='", out);
        put_choices(out, spec->choices);
        fputs("' ;;\n", out);
    } else {
        fprintf(out, ") takes='%s' ;;\n", spec->kind == OPTION_FILE ? "file" : "other");
    }
}

static void bash_operand(FILE * out, const struct command * command, const struct command * const * all) {
    switch (command->operand) {
        case COMMAND_OPERAND_FILE:    fputs("            operand='file'\n",    out); return;
        case COMMAND_OPERAND_PROGRAM: fputs("            operand='program'\n", out); return;
        case COMMAND_OPERAND_FOLDER:  fputs("            operand='folder'\n",  out); return;
        default:                      break;
    }
    fputs("            operand='", out);
    if (command->operand == COMMAND_OPERAND_COMMAND) {
        put_commands(out, all);
    } else {
        put_words(out, command->words);
    }
    fputs("'\n", out);
}

static void bash_command(FILE * out, const struct command * command, const struct command * const * all) {
    fprintf(out, "        %s)\n            case $before in\n", command->name);
    for (const struct option_spec * spec = NULL; (spec = next_option(command, spec)) != NULL;) {
        if (spec->value != NULL) {
            bash_value(out, spec);
        }
    }
    fputs("                *) ;;\n            esac\n            options='", out);
    for (const struct option_spec * spec = NULL; (spec = next_option(command, spec)) != NULL;) {
        fprintf(out, "--%s%s", spec->name, spec == &option_help ? "'\n            valued=' " : " ");
    }
    for (const struct option_spec * spec = NULL; (spec = next_option(command, spec)) != NULL;) {
        if (spec->value != NULL) {
            fprintf(out, "--%s ", spec->name);
        }
        if (spec->value != NULL && spec->letter != '\0') {
            fprintf(out, "-%c ", spec->letter);
        }
    }
    fputs("'\n", out);
    bash_operand(out, command, all);
    fprintf(out, "            passes_on=%d\n            ;;\n", command->passes_on);
}

void completion_print_bash(FILE * out, const struct command * const * all) {
    fputs("# What bash completes of a command line of llama-expert-tracer: `llama-expert-tracer completion bash`\n"
          "\n"
          "# Where the program begins that a command passes on to, or nothing.\n"
          "_llama_expert_tracer_program() {\n"
          "    local valued=$1 i\n"
          "    for ((i = 2; i < COMP_CWORD; i++)); do\n"
          "        case ${COMP_WORDS[i]} in\n"
          "            --) echo $((i + 1)); return ;;\n"
          "            =)  i=$((i + 1)) ;;\n"
          "            -*) [[ $valued == *\" ${COMP_WORDS[i]} \"* && ${COMP_WORDS[i + 1]} != = ]] && i=$((i + 1)) ;;\n"
          "            *)  echo \"$i\"; return ;;\n"
          "        esac\n"
          "    done\n"
          "}\n"
          "\n"
          "_llama_expert_tracer() {\n"
          "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
          "    local takes='' words='' options='' valued='' operand='' passes_on=0 program=''\n"
          "    COMPREPLY=()\n"
          "    if ((COMP_CWORD == 1)); then\n"
          "        mapfile -t COMPREPLY < <(compgen -W '", out);
    put_commands(out, all);
    fputs(" --help --version' -- \"$current\")\n"
          "        return\n"
          "    fi\n"
          "    # --color=never is three words here\n"
          "    if [[ $current == = ]]; then\n"
          "        current=''\n"
          "    elif [[ $before == = ]]; then\n"
          "        before=${COMP_WORDS[COMP_CWORD - 2]}\n"
          "    fi\n"
          "    case ${COMP_WORDS[1]} in\n", out);
    for (size_t i = 0; all[i] != NULL; i++) {
        bash_command(out, all[i], all);
    }
    fputs("        *) return ;;\n"
          "    esac\n"
          "    ((passes_on)) && program=$(_llama_expert_tracer_program \"$valued\")\n"
          "    if [[ -n $program ]] && ((program < COMP_CWORD)); then\n"
          "        if declare -F _comp_command_offset > /dev/null; then\n"
          "            _comp_command_offset \"$program\"\n"
          "        elif declare -F _command_offset > /dev/null; then\n"
          "            _command_offset \"$program\"\n"
          "        else\n"
          "            takes='file'\n"
          "        fi\n"
          "        [[ -n $takes ]] || return\n"
          "    elif [[ -z $takes && $current == -* ]]; then\n"
          "        takes='word' words=$options\n"
          "    elif [[ -z $takes ]]; then\n"
          "        takes=$operand\n"
          "    fi\n"
          "    case $takes in\n"
          "        word) mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\") ;;\n"
          "        file)\n"
          "            compopt -o filenames 2> /dev/null\n"
          "            mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
          "            ;;\n"
          "        folder)\n"
          "            compopt -o filenames 2> /dev/null\n"
          "            mapfile -t COMPREPLY < <(compgen -d -- \"$current\")\n"
          "            ;;\n"
          "        program)\n"
          "            compopt -o filenames 2> /dev/null\n"
          "            mapfile -t COMPREPLY < <({ compgen -c -- \"$current\"; compgen -f -- \"$current\"; } | sort "
          "-u)\n"
          "            ;;\n"
          "        other) ;;\n"
          "        *) mapfile -t COMPREPLY < <(compgen -W \"$takes\" -- \"$current\") ;;\n"
          "    esac\n"
          "}\n"
          "\n"
          "complete -F _llama_expert_tracer llama-expert-tracer\n", out);
}

//
// zsh
//

static void zsh_value(FILE * out, const struct option_spec * spec) {
    fprintf(out, ":%s:", spec->value);
    if (spec->choices != NULL) {
        fputc('(', out);
        put_choices(out, spec->choices);
        fputc(')', out);
    } else if (spec->kind == OPTION_FILE) {
        fputs("_files", out);
    }
}

static void zsh_option(FILE * out, const struct option_spec * spec) {
    const bool valued = spec->value != NULL;
    fputs("                ", out);
    if (spec->letter != '\0') {
        fprintf(out, "'(-%c --%s)'{-%c%s,--%s%s}'", spec->letter, spec->name, spec->letter, valued ? "+" : "",
                spec->name,
                valued ? "=" : "");
    } else {
        fprintf(out, "'--%s%s", spec->name, valued ? "=" : "");
    }
    fputc('[', out);
    put_quoted(out, spec->help, shown(spec->help), "[]:\\");
    fputc(']', out);
    if (valued) {
        zsh_value(out, spec);
    }
    fputs("' \\\n", out);
}

static void zsh_operand(FILE * out, const struct command * command, const struct command * const * all) {
    fputs("                ", out);
    if (command->operand == COMMAND_OPERAND_PROGRAM && command->passes_on) {
        fputs("'(-)1:program:_command_names -e' '*::argument:_normal'", out);
    } else if (command->operand == COMMAND_OPERAND_PROGRAM) {
        fputs("'1:program:_command_names -e'", out);
    } else if (command->operand == COMMAND_OPERAND_FOLDER) {
        fputs("'1:folder:_files -/'", out);
    } else if (command->operand == COMMAND_OPERAND_FILE) {
        fputs("'*:file:_files'", out);
    } else {
        fputs("'1:word:(", out);
        if (command->operand == COMMAND_OPERAND_COMMAND) {
            put_commands(out, all);
        } else {
            put_words(out, command->words);
        }
        fputs(")'", out);
    }
    fputs("\n            ;;\n", out);
}

void completion_print_zsh(FILE * out, const struct command * const * all) {
    fputs("#compdef llama-expert-tracer\n"
          "# What zsh completes of a command line of llama-expert-tracer: `llama-expert-tracer completion zsh`\n"
          "\n"
          "_llama-expert-tracer() {\n"
          "    local context state state_descr line curcontext=$curcontext\n"
          "    local -a commands\n"
          "    typeset -A opt_args\n"
          "    commands=(\n", out);
    for (size_t i = 0; all[i] != NULL; i++) {
        fprintf(out, "        '%s:", all[i]->name);
        put_quoted(out, all[i]->summary, strlen(all[i]->summary), ":\\");
        fputs("'\n", out);
    }
    fputs("    )\n"
          "    _arguments -C '(- *)'{-h,--help}'[list the commands]' '(- *)'{-V,--version}'[print the version]' \\\n"
          "        '1:command:->command' '*::argument:->argument' && return\n"
          "    if [[ $state == command ]]; then\n"
          "        _describe -t commands command commands\n"
          "        return\n"
          "    fi\n"
          "    case $words[1] in\n", out);
    for (size_t i = 0; all[i] != NULL; i++) {
        fprintf(out, "        %s)\n            _arguments -s -S \\\n", all[i]->name);
        for (const struct option_spec * spec = NULL; (spec = next_option(all[i], spec)) != NULL;) {
            zsh_option(out, spec);
        }
        zsh_operand(out, all[i], all);
    }
    fputs("    esac\n"
          "}\n"
          "\n"
          "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
          "    _llama-expert-tracer \"$@\"\n"
          "else\n"
          "    compdef _llama-expert-tracer llama-expert-tracer\n"
          "fi\n", out);
}

//
// fish
//

#define FISH_COMMAND "complete -c llama-expert-tracer"

static void fish_option(FILE * out, const struct command * command, const struct option_spec * spec) {
    fprintf(out, FISH_COMMAND " -n '__fish_seen_subcommand_from %s' -l %s", command->name, spec->name);
    if (spec->letter != '\0') {
        fprintf(out, " -s %c", spec->letter);
    }
    if (spec->choices != NULL) {
        fputs(" -x -a '", out);
        put_choices(out, spec->choices);
        fputc('\'', out);
    } else if (spec->value != NULL) {
        fputs(spec->kind == OPTION_FILE ? " -r -F" : " -x", out);
    }
    fputs(" -d '", out);
    for (size_t i = 0, n = shown(spec->help); i < n; i++) {
        fprintf(out, "%s%c", spec->help[i] == '\'' || spec->help[i] == '\\' ? "\\" : "", spec->help[i]);
    }
    fputs("'\n", out);
}

static void fish_operand(FILE * out, const struct command * command, const struct command * const * all) {
    fprintf(out, FISH_COMMAND " -n '__fish_seen_subcommand_from %s' ", command->name);
    switch (command->operand) {
        case COMMAND_OPERAND_FILE:    fputs("-F\n", out);                                      return;
        case COMMAND_OPERAND_PROGRAM: fputs("-F -a '(__fish_complete_command)'\n", out);       return;
        case COMMAND_OPERAND_FOLDER:  fputs("-a '(__fish_complete_directories)'\n", out);      return;
        default:                      break;
    }
    fputs("-a '", out);
    if (command->operand == COMMAND_OPERAND_COMMAND) {
        put_commands(out, all);
    } else {
        put_words(out, command->words);
    }
    fputs("'\n", out);
}

void completion_print_fish(FILE * out, const struct command * const * all) {
    fputs("# What fish completes of a command line of llama-expert-tracer: `llama-expert-tracer completion fish`\n"
          "\n"
          FISH_COMMAND " -f\n"
          FISH_COMMAND " -n __fish_use_subcommand -l help -s h -d 'list the commands'\n"
          FISH_COMMAND " -n __fish_use_subcommand -l version -s V -d 'print the version'\n", out);
    for (size_t i = 0; all[i] != NULL; i++) {
        fprintf(out, FISH_COMMAND " -n __fish_use_subcommand -a %s -d '%s'\n", all[i]->name, all[i]->summary);
    }
    for (size_t i = 0; all[i] != NULL; i++) {
        fputc('\n', out);
        for (const struct option_spec * spec = NULL; (spec = next_option(all[i], spec)) != NULL;) {
            fish_option(out, all[i], spec);
        }
        fish_operand(out, all[i], all);
    }
}
