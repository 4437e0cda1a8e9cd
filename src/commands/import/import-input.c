// Reads the file that `import` is given line by line. Numbers are read strictly: no blanks, no plus sign, nothing
// behind.

#include "commands/import/import-input.h"

#include "tool/input/input-kind.h"
#include "tool/input/trace-input.h"
#include "tool/output-file.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool import_input_open(struct import_input * input, const char * path, struct error * error) {
    const bool      is_stdin = strcmp(path, "-") == 0;
    enum input_kind kind;
    struct stat     status;
    *input = (struct import_input) { .path = path, .name = trace_input_name(path) };
    if (is_stdin && !input_kind_of(path, &kind, error)) {
        return false;
    }
    output_file_protect(path);
    input->file = is_stdin ? stdin : fopen(path, "rbe");
    if (input->file == NULL) {
        return error_set(error, "%s: %s", input->name, strerror(errno));
    }
    if (fstat(fileno(input->file), &status) != 0 || !S_ISREG(status.st_mode)) {
        error_set(error, "%s: is no regular file: name one, or - for the standard input", input->name);
        import_input_close(input);
        return false;
    }
    input->progress = progress_begin("importing", (uint64_t) status.st_size);
    return true;
}

void import_input_close(struct import_input * input) {
    progress_end(&input->progress);
    if (input->file != NULL && input->file != stdin) {
        fclose(input->file);
    }
    free(input->line);
    free(input->cells);
    *input = (struct import_input) { 0 };
}

size_t import_input_head(const struct import_input * input, char * head, size_t size) {
    rewind(input->file);
    const size_t n = fread(head, 1, size, input->file);
    rewind(input->file);
    return n;
}

bool import_input_has(const struct import_input * input, const char * text) {
    char * line  = NULL;
    size_t room  = 0;
    bool   found = false;
    rewind(input->file);
    while (!found && getline(&line, &room, input->file) >= 0) {
        found = strstr(line, text) != NULL;
    }
    free(line);
    rewind(input->file);
    return found;
}

//
// lines
//

enum import_line import_input_line(struct import_input * input, struct error * error) {
    const ssize_t length = getline(&input->line, &input->room, input->file);
    input->n_cells = 0;
    if (length < 0 && ferror(input->file) != 0) {
        error_set(error, "%s: %s", input->name, strerror(errno));
        return IMPORT_FAILED;
    }
    if (length < 0) {
        return IMPORT_END;
    }
    size_t n = (size_t) length;
    input->number++;
    input->offset += n;
    progress_tell(&input->progress, input->offset);
    n -= n > 0 && input->line[n - 1] == '\n';
    n -= n > 0 && input->line[n - 1] == '\r';
    input->line[n] = '\0';
    if (strlen(input->line) < n) {
        import_input_fail(input, 0, error, "a zero byte: this is no text");
        return IMPORT_FAILED;
    }
    return IMPORT_LINE;
}

static void add_cell(struct import_input * input, char * cell) {
    if (input->n_cells == input->room_cells) {
        input->room_cells = 2 * input->room_cells + 16;
        input->cells      = memory_resize(input->cells, input->room_cells, sizeof(*input->cells));
    }
    input->cells[input->n_cells++] = cell;
}

void import_input_split(struct import_input * input) {
    char * cell = input->line;
    input->n_cells = 0;
    for (char * comma; (comma = strchr(cell, ',')) != NULL; cell = comma + 1) {
        *comma = '\0';
        add_cell(input, cell);
    }
    add_cell(input, cell);
}

static size_t find_cell(const struct import_input * input, const char * name) {
    for (size_t i = 0; i < input->n_cells; i++) {
        if (strcmp(input->cells[i], name) == 0) {
            return i + 1;
        }
    }
    return 0;
}

bool import_input_columns(struct import_input * input, const char * const * names, size_t n, unsigned required,
                          size_t * columns, struct error * error) {
    import_input_split(input);
    for (size_t i = 0; i < n; i++) {
        columns[i] = find_cell(input, names[i]);
        if (columns[i] == 0 && (required >> i & 1) != 0) {
            return import_input_fail(input, 0, error, "no column %s: the names of the columns are to be here",
                                     names[i]);
        }
    }
    return true;
}

bool import_input_fail(const struct import_input * input, size_t cell, struct error * error, const char * format, ...) {
    struct error what;
    va_list      args;
    va_start(args, format);
    vsnprintf(what.text, sizeof(what.text), format, args);
    va_end(args);
    char       * where = cell == 0 ? memory_text("line %llu", (unsigned long long) input->number)
                                   : memory_text("line %llu, column %zu", (unsigned long long) input->number, cell);
    error_set(error, "%s: %s: %.1500s", input->name, where, what.text);
    free(where);
    return false;
}

//
// cells
//

static const char * text_of(const struct import_input * input, size_t cell) {
    return cell >= 1 && cell <= input->n_cells ? input->cells[cell - 1] : "";
}

// In lines of a hundred cells this is what an import spends its time in.
static bool parse_number(const char * text, int64_t * number) {
    const bool negative = *text == '-';
    int64_t    value    = 0;
    int        n        = 0;
    for (text += negative; *text >= '0' && *text <= '9' && n < 18; text++, n++) {
        value = 10 * value + (*text - '0');
    }
    *number = negative ? -value : value;
    return n > 0 && *text == '\0';
}

bool import_input_number(const struct import_input * input, size_t cell, const char * what, int64_t least, int64_t most,
                         int64_t * number, struct error * error) {
    const char * text = text_of(input, cell);
    if (cell > input->n_cells) {
        return import_input_fail(input, 0, error, "no %s: the line ends after column %zu. Is the file whole?", what,
                                 input->n_cells);
    }
    if (!parse_number(text, number)) {
        return import_input_fail(input, cell, error, "the %s is '%.40s', which is no whole number", what, text);
    }
    if (*number < least || *number > most) {
        return import_input_fail(input, cell, error, "the %s is %lld, and can be %lld to %lld", what,
                                 (long long) *number, (long long) least, (long long) most);
    }
    return true;
}

bool import_input_real(const struct import_input * input, size_t cell, const char * what, float * number,
                       struct error * error) {
    const char * text = text_of(input, cell);
    char       * end;
    *number = strtof(text, &end);
    if (end == text || *end != '\0' || isinf(*number)) {
        return import_input_fail(input, cell, error, "the %s is '%.40s', which is no number", what, text);
    }
    return true;
}
