// Compares what the headers of a tree declare with what the tracer was written for (real.h).

#include "built-in/tree-interface.h"

#include "built-in/source-text.h"

#include "engine/upstream/real.h"

#include <ctype.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// A function as src/engine/upstream/real.h has it. Calls of those that are passed on may have more parameters.
struct prototype {
    const char * name;
    const char * parameters; // "(void *, int)"
    bool         is_passed_on;
};

#define PASSED_ON(type, name, parameters) { #name, #parameters, true  },
#define CALLED(type, name, parameters)    { #name, #parameters, false },

static const struct prototype prototypes[] = {
    REAL_GGML_HOOKED(PASSED_ON) REAL_LLAMA_HOOKED(PASSED_ON) REAL_GGML_CALLED(CALLED) REAL_LLAMA_CALLED(CALLED)
};

enum { N_PROTOTYPES = sizeof(prototypes) / sizeof(prototypes[0]) };

// The members that are read, and no others may follow: where a release or a fork has more, what they mean decides what
// a batch is.
static const char batch_members[] =
    "int32_t n_tokens;llama_token*token;float*embd;llama_pos*pos;int32_t*n_seq_id;llama_seq_id**seq_id;int8_t*logits;";

// Ends with what to do instead.
static bool differs(struct error * error, const char * path, const char * what, bool is_ik) {
    return error_set(error, "%s: nothing was changed: %s. %s: preload the tracer instead: llama-expert-tracer run "
        "PROGRAM", path, what,
        is_ik ? "This is ik_llama.cpp, or made of it, whose programs can be traced, but not have the tracer built in"
              : "This is a fork, or a release that is older or newer than the tracer knows");
}

// The list of parameters behind `at`, at its parenthesis. Returns their number, -1 where it does not end.
static int count_parameters(const char * at) {
    int  depth   = 0;
    int  n       = 1;
    bool is_void = true;
    for (const char * c = at; *c != '\0'; c++) {
        depth += (*c == '(') - (*c == ')');
        if (depth == 0) {
            const char * first = at + 1 + strspn(at + 1, " \t\n");
            is_void = first == c || (strncmp(first, "void", 4) == 0 && first + 4 + strspn(first + 4, " \t\n") == c);
            return is_void ? 0 : n;
        }
        n += *c == ',' && depth == 1;
    }
    return -1;
}

// Where the code declares a function of that name, or calls it: at the parenthesis behind it. NULL: nowhere.
static const char * find_function(const char * code, const char * name) {
    for (const char * at = strstr(code, name); at != NULL; at = strstr(at + 1, name)) {
        const char * behind = at + strlen(name);
        behind += strspn(behind, " \t\n");
        if (*behind == '(' && at > code && (isspace((unsigned char) at[-1]) || at[-1] == '*')) {
            return behind;
        }
    }
    return NULL;
}

static bool is_as_known(const struct prototype * known, int n) {
    const int  want     = count_parameters(known->parameters);
    const bool is_older = strcmp(known->name, "ggml_backend_sched_new") == 0 && n == want - 1; // without op_offload
    return n == want || is_older || (known->is_passed_on && n > want);
}

static bool check_functions(const char * code, const char * path, bool is_ik, struct error * error) {
    for (int i = 0; i < N_PROTOTYPES; i++) {
        const struct prototype * known = &prototypes[i];
        for (const char * at = code; (at = find_function(at, known->name)) != NULL;) {
            const int n = count_parameters(at);
            if (!is_as_known(known, n)) {
                char what[256];
                snprintf(what, sizeof(what), "its %s() has %d parameters, where the tracer knows %d", known->name, n,
                    count_parameters(known->parameters));
                return differs(error, path, what, is_ik);
            }
        }
    }
    return true;
}

// The members of a struct without what is between words, "int32_t n_tokens;llama_token*token;". NULL: it is not
// defined.
static char * members_of(const char * code, const char * name) {
    const char * at = code;
    while ((at = strstr(at, name)) != NULL) {
        at += strlen(name);
        at += strspn(at, " \t\n");
        if (*at == '{') {
            break;
        }
    }
    const char * end = at == NULL ? NULL : strchr(at, '}');
    if (end == NULL) {
        return NULL;
    }
    char * members = memory_new((size_t) (end - at) + 1, 1);
    char * to      = members;
    for (const char * from = at + 1; from < end; from++) {
        const bool is_between_words = isspace((unsigned char) *from) && to > members &&
                                      isalnum((unsigned char) to[-1]) &&
                                          (isalnum((unsigned char) from[1]) || from[1] == '_');
        if (!isspace((unsigned char) *from) || is_between_words) {
            *to++ = isspace((unsigned char) *from) ? ' ' : *from;
        }
    }
    *to = '\0';
    return members;
}

static bool check_batch(const char * code, const char * path, bool is_ik, struct error * error) {
    char     * members  = members_of(code, "struct llama_batch");
    const bool is_known = members == NULL || strcmp(members, batch_members) == 0;
    free(members);
    return is_known || differs(error, path, "its struct llama_batch has other members than the tracer knows", is_ik);
}

// Its result says whether the device is waited for.
static bool check_callback(const char * code, const char * path, bool is_ik, struct error * error) {
    const char * at = strstr(code, "ggml_backend_sched_eval_callback)");
    if (at == NULL) {
        return true;
    }
    while (at > code && at[-1] != '(') {
        at--;
    }
    const char * end = at - 1;
    while (end > code && isspace((unsigned char) end[-1])) {
        end--;
    }
    const bool is_known = end - code >= 4 && strncmp(end - 4, "bool", 4) == 0;
    return is_known || differs(error, path, "its ggml_backend_sched_eval_callback does not return a bool", is_ik);
}

static bool check_header(const char * code, const char * path, bool is_ik, struct error * error) {
    return check_batch(code, path, is_ik, error) && check_callback(code, path, is_ik, error) &&
           check_functions(code, path, is_ik, error);
}

// All headers of the tree that declare what is exported, one behind the other, without comments. Allocated.
static char * read_headers(const char * path) {
    static const char * const folders[] = { "include", "ggml/include" };
    char * code = memory_text("%s", "");
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        char * pattern = memory_text("%s/%s/*.h", path, folders[i]);
        glob_t headers;
        const int status = glob(pattern, 0, NULL, &headers);
        for (size_t k = 0; status == 0 && k < headers.gl_pathc; k++) {
            struct error ignored;
            char * text = source_text_read(headers.gl_pathv[k], &ignored);
            if (text != NULL) {
                source_text_blank_comments(text, "//");
                char * longer = memory_text("%s\n%s", code, text);
                free(code);
                code = longer;
            }
            free(text);
        }
        if (status == 0) {
            globfree(&headers);
        }
        free(pattern);
    }
    return code;
}

bool tree_interface_is_known(const char * path, struct error * error) {
    char     * code  = read_headers(path);
    const bool is_ik = find_function(code, "ggml_moe_up_gate") != NULL;
    const bool known = check_header(code, path, is_ik, error);
    free(code);
    return known;
}
