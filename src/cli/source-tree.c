#include "source-tree.h"

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
#define LISTS       "src/CMakeLists.txt"

// The two files that are put into src/.
static const char * const file_names[] = { "llama-expert-tracer.h", "llama-expert-tracer.c" };

enum { N_FILES = sizeof(file_names) / sizeof(file_names[0]) };

struct source_tree {
    char * path;
    char * lists;          // src/CMakeLists.txt as it is
    char * lists_without;  // the same without our block
    char * lists_with;     // the same with the block of this version
    size_t block_at;       // where it stands in lists_with
    char * block;
    char * files[N_FILES]; // what they are to be
};

//
// files
//

static char * read_file(const char * path, struct error * error) {
    FILE * file = fopen(path, "rb");
    if (file == NULL) {
        error_set(error, "%s: %s", path, strerror(errno));
        return NULL;
    }
    char * text = NULL;
    size_t size = 0;
    size_t room = 0;
    for (size_t n = 1; n > 0; size += n) {
        if (size + 65536 > room) {
            room = 2 * room + 131072;
            text = memory_resize(text, room, 1);
        }
        n = fread(text + size, 1, 65536 - 1, file);
    }
    text[size] = '\0';
    const bool failed = ferror(file);
    fclose(file);
    if (failed || strlen(text) != size) {
        error_set(error, "%s: %s", path, failed ? "cannot be read" : "not a text file");
        free(text);
        return NULL;
    }
    return text;
}

// Whole or not at all, with the rights of the file that it replaces.
static bool write_file(const char * path, const char * text, struct error * error) {
    char      * aside  = memory_text("%s.new", path);
    FILE      * file   = fopen(aside, "wb");
    struct stat before;
    bool        ok     = file != NULL && fputs(text, file) >= 0;
    if (ok && stat(path, &before) == 0) {
        ok = fchmod(fileno(file), before.st_mode & 07777) == 0;
    }
    if (file != NULL) {
        ok = fclose(file) == 0 && ok;
    }
    ok = ok && rename(aside, path) == 0;
    if (!ok) {
        error_set(error, "cannot write %s: %s", path, strerror(errno));
        unlink(aside);
    }
    free(aside);
    return ok;
}

static char * file_path(const struct source_tree * tree, int i) {
    return memory_text("%s/src/%s", tree->path, file_names[i]);
}

static bool is_same_text(const char * path, const char * text) {
    struct error error;
    char       * there = read_file(path, &error);
    const bool   same  = there != NULL && strcmp(there, text) == 0;
    free(there);
    return same;
}

//
// reading code
//

// Blanks out comments, and keeps every other byte where it is. `line_comment` is "//" or "#".
static void blank_comments(char * code, const char * line_comment) {
    const bool is_c  = line_comment[0] == '/';
    char       quote = '\0';
    for (char * at = code; *at != '\0'; at++) {
        if (quote != '\0') {
            if (*at == '\\' && at[1] != '\0') {
                at++;
            } else if (*at == quote) {
                quote = '\0';
            }
        } else if (*at == '"' || (is_c && *at == '\'' && (at == code || !isalnum((unsigned char) at[-1])))) {
            quote = *at;
        } else if (strncmp(at, line_comment, strlen(line_comment)) == 0) {
            const size_t n = strcspn(at, "\n");
            memset(at, ' ', n);
            at += n - 1;
        } else if (is_c && strncmp(at, "/*", 2) == 0) {
            const char * end = strstr(at + 2, "*/");
            const size_t n   = end == NULL ? strlen(at) : (size_t) (end + 2 - at);
            memset(at, ' ', n);
            at += n - 1;
        }
    }
}

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
static const struct place {
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
        char * code = strstr(sources.gl_pathv[i], FILE_MARK) == NULL ? read_file(sources.gl_pathv[i], error) : NULL;
        if (code != NULL) {
            blank_comments(code, "//");
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
            return error_set(error, "%s: nothing was changed: %s is nowhere in src/*.cpp, and %s. This release is older or newer than the tracer "
                                    "knows: update one of them", path, places[p].what, places[p].why);
        }
    }
    return true;
}

// Behind the call of add_library() that makes libllama. Returns 0 where there is none.
static size_t end_of_library_call(const char * lists) {
    char * code = memory_text("%s", lists);
    blank_comments(code, "#");
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
        end = depth == 0 ? (size_t) (name - code) : 0;
    }
    free(code);
    return end;
}

// The text without our block and the empty line before it, however old.
static char * without_block(const char * lists) {
    char * text  = memory_text("%s", lists);
    char * begin = strstr(text, "\n\n" BLOCK_BEGIN);
    char * end   = begin == NULL ? NULL : strstr(begin, BLOCK_END);
    if (end != NULL) {
        end += strlen(BLOCK_END);
        memmove(begin, end, strlen(end) + 1);
    }
    return text;
}

//
// the tree
//

static bool read_tree(struct source_tree * tree, struct error * error) {
    char * header = memory_text("%s/include/llama.h", tree->path);
    char * lists  = memory_text("%s/" LISTS, tree->path);
    bool   ok     = access(header, R_OK) == 0;
    if (!ok) {
        error_set(error, "%s: not a source tree of llama.cpp: it has no include/llama.h. Give the folder that has llama.cpp's CMakeLists.txt", tree->path);
    } else {
        tree->lists = read_file(lists, error);
        ok          = tree->lists != NULL && check_places(tree->path, error);
    }
    free(header);
    free(lists);
    return ok;
}

static bool read_parts(struct source_tree * tree, const char * parts, struct error * error) {
    char * block = memory_text("%s/llama-expert-tracer-block.cmake", parts);
    tree->block = read_file(block, error);
    free(block);
    bool ok = tree->block != NULL;
    for (int i = 0; i < N_FILES && ok; i++) {
        char * path = memory_text("%s/%s", parts, file_names[i]);
        tree->files[i] = read_file(path, error);
        ok = tree->files[i] != NULL;
        free(path);
    }
    return ok;
}

static bool place_block(struct source_tree * tree, struct error * error) {
    tree->lists_without = without_block(tree->lists);
    tree->block_at      = end_of_library_call(tree->lists_without);
    if (tree->block_at == 0) {
        return error_set(error, "%s/" LISTS ": nothing was changed: there is no call of add_library() that makes llama, behind which the tracer's "
                                "source file would be added to it", tree->path);
    }
    tree->lists_with = memory_text("%.*s\n\n" BLOCK_BEGIN "\n%s" BLOCK_END "%s", (int) tree->block_at, tree->lists_without, tree->block,
                                   tree->lists_without + tree->block_at);
    return true;
}

struct source_tree * source_tree_open(const char * path, const char * parts, struct error * error) {
    struct source_tree * tree = memory_new(1, sizeof(*tree));
    tree->path = memory_text("%s", path);
    if (!read_tree(tree, error) || !read_parts(tree, parts, error) || !place_block(tree, error)) {
        source_tree_free(tree);
        return NULL;
    }
    return tree;
}

void source_tree_free(struct source_tree * tree) {
    for (int i = 0; i < N_FILES; i++) {
        free(tree->files[i]);
    }
    free(tree->block);
    free(tree->lists);
    free(tree->lists_without);
    free(tree->lists_with);
    free(tree->path);
    free(tree);
}

enum source_tree_state source_tree_state(const struct source_tree * tree) {
    bool any  = strcmp(tree->lists, tree->lists_without) != 0;
    bool same = strcmp(tree->lists, tree->lists_with) == 0;
    for (int i = 0; i < N_FILES; i++) {
        char * path = file_path(tree, i);
        any  = any  || access(path, F_OK) == 0;
        same = same && is_same_text(path, tree->files[i]);
        free(path);
    }
    return same ? SOURCE_TREE_WITH : any ? SOURCE_TREE_OTHER : SOURCE_TREE_WITHOUT;
}

static bool write_lists(const struct source_tree * tree, const char * text, struct error * error) {
    char     * path = memory_text("%s/" LISTS, tree->path);
    const bool ok   = strcmp(tree->lists, text) == 0 || write_file(path, text, error);
    free(path);
    return ok;
}

static void remove_files(const struct source_tree * tree) {
    for (int i = 0; i < N_FILES; i++) {
        char * path = file_path(tree, i);
        unlink(path);
        free(path);
    }
}

bool source_tree_integrate(struct source_tree * tree, struct error * error) {
    const bool was_there = source_tree_state(tree) != SOURCE_TREE_WITHOUT;
    bool       ok        = true;
    for (int i = 0; i < N_FILES && ok; i++) {
        char * path = file_path(tree, i);
        ok = write_file(path, tree->files[i], error);
        free(path);
    }
    ok = ok && write_lists(tree, tree->lists_with, error); // last: nothing is built before
    if (!ok && !was_there) {
        remove_files(tree);
    }
    return ok;
}

bool source_tree_remove(struct source_tree * tree, struct error * error) {
    if (!write_lists(tree, tree->lists_without, error)) {
        return false;
    }
    remove_files(tree);
    return true;
}

//
// the difference
//

static int count_lines(const char * text, size_t size) {
    int n = 0;
    for (size_t i = 0; i < size; i++) {
        n += text[i] == '\n';
    }
    return n;
}

// Prints the lines of a text with a sign before each.
static void print_lines(char sign, const char * text, size_t size) {
    for (const char * end = text + size; text < end;) {
        const char * newline = memchr(text, '\n', (size_t) (end - text));
        const size_t n       = newline == NULL ? (size_t) (end - text) : (size_t) (newline - text);
        printf("%c%.*s\n", sign, (int) n, text);
        text += n + 1;
    }
}

static void print_new_file(const char * name, const char * text) {
    const size_t size = strlen(text);
    printf("--- /dev/null\n+++ b/src/%s\n@@ -0,0 +1,%d @@\n", name, count_lines(text, size));
    print_lines('+', text, size);
}

// The start of the line that is `n` lines before `at`.
static const char * lines_before(const char * text, const char * at, int n) {
    while (at > text && (at[-1] != '\n' || n-- > 0)) {
        at--;
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

// One insertion, with three lines around it. It begins behind a line's end.
static void print_block(const struct source_tree * tree) {
    const char * text    = tree->lists_without;
    const char * at      = lines_behind(text + tree->block_at, 1);
    const char * before  = lines_before(text, at, 3);
    const char * behind  = lines_behind(at, 3);
    char       * added   = memory_text("\n" BLOCK_BEGIN "\n%s" BLOCK_END "\n", tree->block);
    const int    first   = count_lines(text, (size_t) (before - text)) + 1;
    const int    context = count_lines(before, (size_t) (behind - before));
    printf("--- a/" LISTS "\n+++ b/" LISTS "\n@@ -%d,%d +%d,%d @@\n", first, context, first, context + count_lines(added, strlen(added)));
    print_lines(' ', before, (size_t) (at - before));
    print_lines('+', added, strlen(added));
    print_lines(' ', at, (size_t) (behind - at));
    free(added);
}

void source_tree_print_diff(const struct source_tree * tree) {
    print_block(tree);
    for (int i = 0; i < N_FILES; i++) {
        print_new_file(file_names[i], tree->files[i]);
    }
}
