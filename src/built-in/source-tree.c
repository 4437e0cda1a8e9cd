// Reads, changes and writes the files of a llama.cpp tree that building in concerns.

#include "built-in/source-tree.h"

#include "built-in/source-text.h"
#include "built-in/tree-interface.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BEGIN "# llama-expert-tracer: begin"
#define BLOCK_END   "# llama-expert-tracer: end"
#define FILE_MARK   "llama-expert-tracer"
#define LISTS       "CMakeLists.txt"

// The two files that are put into src/.
static const char * const file_names[] = { "llama-expert-tracer.h", "llama-expert-tracer.c" };

enum { N_FILES = sizeof(file_names) / sizeof(file_names[0]), N_CHANGES = N_FILES + 1 };

// A file of the tree.
struct file {
    char * path;
    char * text; // NULL: it is not there
    mode_t mode; // its rights, or those of a new one
};

struct source_tree {
    char      * path;
    struct file lists;              // src/CMakeLists.txt
    struct file files[N_FILES];
    char      * lists_without;      // what the lists are without our block
    char      * lists_with;         // and with the block of this version, NULL: it is not known
    char      * new_files[N_FILES]; // what the files are to be, NULL: not known
};

//
// files
//

static mode_t mode_of_new_files(void) {
    const mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

// Takes the path.
static bool file_open(struct file * file, char * path, struct error * error) {
    struct stat status;
    file->path = path;
    if (stat(path, &status) == 0) {
        file->mode = status.st_mode & 07777;
        file->text = source_text_read(path, error);
        return file->text != NULL;
    }
    file->mode = mode_of_new_files();
    return errno == ENOENT || error_set(error, "%s: %s", path, strerror(errno));
}

static void file_close(struct file * file) {
    free(file->path);
    free(file->text);
}

// The text, beside the file that it will replace and with that one's rights. NULL where it cannot be written.
static char * write_aside(const struct file * file, const char * text, struct error * error) {
    char    * aside = memory_text("%s.XXXXXX", file->path);
    const int fd    = mkstemp(aside);
    FILE    * out   = fd < 0 ? NULL : fdopen(fd, "wb");
    bool      ok    = out != NULL && fchmod(fd, file->mode) == 0 && fputs(text, out) >= 0;
    if (out != NULL) {
        ok = fclose(out) == 0 && ok;
    }
    if (ok) {
        return aside;
    }
    error_set(error, "cannot write %s: %s", file->path, strerror(errno));
    if (fd >= 0) {
        unlink(aside);
    }
    free(aside);
    return NULL;
}

// Puts what is aside into the file's place; where there is nothing, takes the file away.
static bool put(const struct file * file, const char * aside, struct error * error) {
    const bool ok = aside == NULL ? unlink(file->path) == 0 || errno == ENOENT : rename(aside, file->path) == 0;
    return ok || error_set(error, "cannot %s %s: %s", aside == NULL ? "remove" : "write", file->path, strerror(errno));
}

static void drop_aside(char * aside) {
    if (aside != NULL) {
        unlink(aside);
    }
    free(aside);
}

//
// changes
//

struct change {
    const struct file * file;
    const char        * text;  // what it is to be, NULL: no file
    char              * aside; // the text, before it is in its place
};

static bool is_same_text(const char * a, const char * b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void add_change(struct change * changes, int * n, const struct file * file, const char * text) {
    if (!is_same_text(file->text, text)) {
        changes[(*n)++] = (struct change) { file, text, NULL };
    }
}

static bool write_asides(struct change * changes, int n, struct error * error) {
    for (int i = 0; i < n; i++) {
        if (changes[i].text != NULL) {
            changes[i].aside = write_aside(changes[i].file, changes[i].text, error);
            if (changes[i].aside == NULL) {
                return false;
            }
        }
    }
    return true;
}

static void undo(const struct change * change) {
    const struct file * file  = change->file;
    struct error        error;
    char              * aside = file->text == NULL ? NULL : write_aside(file, file->text, &error);
    if ((file->text != NULL && aside == NULL) || !put(file, aside, &error)) {
        error_warning("%s is not what it was: %s", file->path, error.text);
        drop_aside(aside);
    } else {
        free(aside);
    }
}

// In this order. Everything is written before the first file is replaced; what was done is undone where the rest
// fails.
static bool apply(struct change * changes, int n, struct error * error) {
    int  n_done = 0;
    bool ok     = write_asides(changes, n, error);
    while (ok && n_done < n) {
        ok      = put(changes[n_done].file, changes[n_done].aside, error);
        n_done += ok;
    }
    for (int i = 0; i < n; i++) {
        if (i < n_done) {
            free(changes[i].aside);
        } else {
            drop_aside(changes[i].aside);
        }
    }
    while (!ok && n_done > 0) {
        undo(&changes[--n_done]);
    }
    return ok;
}

//
// reading code
//

static bool is_word(char c) {
    return isalnum((unsigned char) c) || c == '_';
}

// Whether a function of that name is called or defined in the code, or the quoted word stands in it.
static bool mentions(const char * code, const char * what) {
    for (const char * at = strstr(code, what); at != NULL; at = strstr(at + 1, what)) {
        const char * behind = at + strlen(what);
        if (what[0] == '"' || ((at == code || !is_word(at[-1])) && behind[strspn(behind, " \t\n")] == '(')) {
            return true;
        }
    }
    return false;
}

// What the tracer stands between, and what is lost without it.
static const struct known_place {
    const char * what;
    const char * why;
} places[] = {
    { "\"ffn_moe_topk\"",                        "the experts that build_moe_ffn() selects are found by this name" },
    { "ggml_mul_mat_id",                         "it is where a layer's expert tensors are seen" },
    { "ggml_backend_sched_new",                  "it is where the creation of a context is seen" },
    { "ggml_backend_sched_set_eval_callback",    "the routing is read through it" },
    { "ggml_backend_sched_graph_compute_async",  "it is where a batch is computed" },
    { "llama_free",                              "it is where the end of a context is seen" },
    { "llama_decode",                            "it is where prompt and generation are told apart" },
};

enum { N_PLACES = sizeof(places) / sizeof(places[0]) };

static bool check_places(const char * path, struct error * error) {
    bool   found[N_PLACES] = { false };
    char * pattern         = memory_text("%s/src/*.cpp", path);
    glob_t sources;
    const int status = glob(pattern, 0, NULL, &sources);
    for (size_t i = 0; status == 0 && i < sources.gl_pathc; i++) {
        const char * name = sources.gl_pathv[i];
        char       * code = strstr(name, FILE_MARK) == NULL ? source_text_read(name, error) : NULL;
        if (code != NULL) {
            source_text_blank_comments(code, "//");
            for (int p = 0; p < N_PLACES; p++) {
                found[p] = found[p] || mentions(code, places[p].what);
            }
            free(code);
        }
    }
    if (status == 0) {
        globfree(&sources);
    }
    free(pattern);
    for (int p = 0; p < N_PLACES; p++) {
        if (!found[p]) {
            return error_set(error, "%s: nothing was changed: %s is nowhere in src/*.cpp, and %s. This release is "
                "older or newer than the tracer knows: update one of them", path, places[p].what, places[p].why);
        }
    }
    return true;
}

// The end of the line with which the call of add_library() ends that makes libllama. Returns 0 where there is none.
static size_t end_of_library_call(const char * lists) {
    char * code = memory_text("%s", lists);
    source_text_blank_comments(code, "#");
    size_t end = 0;
    for (const char * at = strstr(code, "add_library"); at != NULL && end == 0; at = strstr(at + 1, "add_library")) {
        const char * name = at + strlen("add_library");
        name += strspn(name, " \t\n");
        if (*name != '(') {
            continue;
        }
        name += 1 + strspn(name + 1, " \t\n");
        if (strncmp(name, "llama", 5) != 0 || !isspace((unsigned char) name[5])) {
            continue;
        }
        int depth = 1;
        for (; *name != '\0' && depth > 0; name++) {
            depth += (*name == '(') - (*name == ')');
        }
        end = depth == 0 ? (size_t) (name - code) + strcspn(name, "\n") : 0;
    }
    free(code);
    return end;
}

// The line that begins so, from the start of a line on.
static char * find_line(char * text, const char * prefix) {
    while (strncmp(text, prefix, strlen(prefix)) != 0) {
        text = strchr(text, '\n');
        if (text == NULL) {
            return NULL;
        }
        text++;
    }
    return text;
}

// Takes the newline before the block with it, and an empty line before that; the newline behind it stays.
static void cut_block(const char * text, char * begin, const char * end) {
    for (int i = 0; i < 2 && begin > text && begin[-1] == '\n'; i++) {
        begin--;
    }
    end += strcspn(end, "\n");
    memmove(begin, end, strlen(end) + 1);
}

// Takes our block out of the text, however old it is.
static bool take_block_out(char * text, const char * path, struct error * error) {
    for (;;) {
        char       * begin = find_line(text, BLOCK_BEGIN);
        const char * end   = find_line(text, BLOCK_END);
        if (begin == NULL && end == NULL) {
            return true;
        }
        const char * other = begin == NULL ? NULL : find_line(begin + 1, BLOCK_BEGIN);
        if (begin == NULL || end == NULL || end < begin || (other != NULL && other < end)) {
            return error_set(error, "%s: nothing was changed: the tracer's block is damaged, of its lines "
                "\"" BLOCK_BEGIN "\" and \"" BLOCK_END "\" one is missing or not where it was: put it back, or delete "
                "the block", path);
        }
        cut_block(text, begin, end);
    }
}

//
// the tree
//

static bool read_tree(struct source_tree * tree, struct error * error) {
    char     * header  = memory_text("%s/include/llama.h", tree->path);
    const bool is_tree = access(header, R_OK) == 0;
    free(header);
    if (!is_tree) {
        return error_set(error, "%s: not a source tree of llama.cpp: it has no include/llama.h. Give the folder that "
            "has llama.cpp's CMakeLists.txt", tree->path);
    }
    char * lists = memory_text("%s/src/" LISTS, tree->path);
    char * real  = realpath(lists, NULL); // where it is a link, it stays one
    bool   ok    = real != NULL || error_set(error, "%s: %s", lists, strerror(errno));
    free(lists);
    ok = ok && file_open(&tree->lists, real, error);
    for (int i = 0; i < N_FILES && ok; i++) {
        ok = file_open(&tree->files[i], memory_text("%s/src/%s", tree->path, file_names[i]), error);
    }
    if (ok) {
        tree->lists_without = memory_text("%s", tree->lists.text);
        ok = take_block_out(tree->lists_without, tree->lists.path, error);
    }
    return ok;
}

static bool place_block(struct source_tree * tree, const char * block, struct error * error) {
    const char * lists = tree->lists_without;
    const size_t at    = end_of_library_call(lists);
    if (at == 0) {
        return error_set(error, "%s: nothing was changed: there is no call of add_library() that makes llama, behind "
            "which the tracer's source file would be added to it", tree->lists.path);
    }
    tree->lists_with = memory_text("%.*s\n\n" BLOCK_BEGIN "\n%s" BLOCK_END "%s", (int) at, lists, block, lists + at);
    return true;
}

static bool read_parts(struct source_tree * tree, const char * parts, struct error * error) {
    char * path  = memory_text("%s/llama-expert-tracer-block.cmake", parts);
    char * block = source_text_read(path, error);
    bool   ok    = block != NULL && place_block(tree, block, error);
    free(block);
    free(path);
    for (int i = 0; i < N_FILES && ok; i++) {
        path = memory_text("%s/%s", parts, file_names[i]);
        tree->new_files[i] = source_text_read(path, error);
        ok = tree->new_files[i] != NULL;
        free(path);
    }
    return ok;
}

struct source_tree * source_tree_open(const char * path, const char * parts, struct error * error) {
    struct source_tree * tree = memory_new(1, sizeof(*tree));
    tree->path = memory_text("%s", path);
    const bool ok = read_tree(tree, error) &&
                    (parts == NULL || (check_places(path, error) && tree_interface_is_known(path, error) &&
                                       read_parts(tree, parts, error)));
    if (!ok) {
        source_tree_free(tree);
        return NULL;
    }
    return tree;
}

void source_tree_free(struct source_tree * tree) {
    if (tree == NULL) {
        return;
    }
    for (int i = 0; i < N_FILES; i++) {
        file_close(&tree->files[i]);
        free(tree->new_files[i]);
    }
    file_close(&tree->lists);
    free(tree->lists_without);
    free(tree->lists_with);
    free(tree->path);
    free(tree);
}

enum source_tree_state source_tree_state(const struct source_tree * tree) {
    bool any  = !is_same_text(tree->lists.text, tree->lists_without);
    bool same = is_same_text(tree->lists.text, tree->lists_with);
    for (int i = 0; i < N_FILES; i++) {
        any  = any  || tree->files[i].text != NULL;
        same = same && is_same_text(tree->files[i].text, tree->new_files[i]);
    }
    return same ? SOURCE_TREE_WITH : any ? SOURCE_TREE_OTHER : SOURCE_TREE_WITHOUT;
}

bool source_tree_integrate(struct source_tree * tree, struct error * error) {
    struct change changes[N_CHANGES];
    int           n = 0;
    for (int i = 0; i < N_FILES; i++) {
        add_change(changes, &n, &tree->files[i], tree->new_files[i]);
    }
    add_change(changes, &n, &tree->lists, tree->lists_with); // last: nothing is built before
    return apply(changes, n, error);
}

bool source_tree_remove(struct source_tree * tree, struct error * error) {
    struct change changes[N_CHANGES];
    int           n = 0;
    add_change(changes, &n, &tree->lists, tree->lists_without);
    for (int i = 0; i < N_FILES; i++) {
        add_change(changes, &n, &tree->files[i], NULL);
    }
    return apply(changes, n, error);
}

//
// the difference
//

// The last line counts without a newline too.
static int count_lines(const char * text, const char * end) {
    int n = 0;
    for (const char * at = text; at < end; at++) {
        n += *at == '\n' || at + 1 == end;
    }
    return n;
}

// Prints lines with a sign before each.
static void print_lines(char sign, const char * text, const char * end) {
    while (text < end) {
        const size_t n = strcspn(text, "\n");
        printf("%c%.*s\n%s", sign, (int) n, text, text[n] == '\0' ? "\\ No newline at end of file\n" : "");
        text += n + 1;
    }
}

static bool is_line_start(const char * text, const char * at) {
    return at == text || at[-1] == '\n';
}

// The start of the line that is `n` lines before the one that starts at `at`.
static const char * lines_before(const char * text, const char * at, int n) {
    while (at > text && n-- > 0) {
        for (at--; !is_line_start(text, at); at--) {
        }
    }
    return at;
}

static const char * lines_behind(const char * at, int n) {
    for (; n > 0 && *at != '\0'; n--) {
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    return at;
}

// From the first line that differs to the last, with three lines around them.
static void print_difference(const char * old, const char * new) {
    const char * old_from = old;
    const char * new_from = new;
    for (const char * a = old, * b = new; *a != '\0' && *a == *b; a++, b++) {
        if (*a == '\n') {
            old_from = a + 1;
            new_from = b + 1;
        }
    }
    const char * old_to = old + strlen(old);
    const char * new_to = new + strlen(new);
    for (const char * a = old_to, * b = new_to; a > old_from && b > new_from && a[-1] == b[-1];) {
        a--;
        b--;
        if (is_line_start(old, a) && is_line_start(new, b)) {
            old_to = a;
            new_to = b;
        }
    }
    const char * before  = lines_before(old, old_from, 3);
    const char * behind  = lines_behind(old_to, 3);
    const int    context = count_lines(before, old_from) + count_lines(old_to, behind);
    const int    n_old   = context + count_lines(old_from, old_to);
    const int    n_new   = context + count_lines(new_from, new_to);
    const int    first   = count_lines(old, before) + 1;
    printf("@@ -%d,%d +%d,%d @@\n", n_old == 0 ? 0 : first, n_old, first, n_new);
    print_lines(' ', before, old_from);
    print_lines('-', old_from, old_to);
    print_lines('+', new_from, new_to);
    print_lines(' ', old_to, behind);
}

static void print_change(const char * name, const char * old, const char * new) {
    if (is_same_text(old, new)) {
        return;
    }
    printf("--- %s%s\n+++ b/src/%s\n", old == NULL ? "/dev/null" : "a/src/", old == NULL ? "" : name, name);
    print_difference(old == NULL ? "" : old, new);
}

void source_tree_print_diff(const struct source_tree * tree) {
    print_change(LISTS, tree->lists.text, tree->lists_with);
    for (int i = 0; i < N_FILES; i++) {
        print_change(file_names[i], tree->files[i].text, tree->new_files[i]);
    }
}
