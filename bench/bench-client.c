// Evaluates prompts and generates tokens with llama.cpp, traced in one way or another, and tells how long each took.
//
// It uses libllama and libggml through their public functions only, and the tracer where it is preloaded. One process
// takes all ways in turn, so that they can be compared: commands come on stdin, one a line, and each is answered on
// stdout with one line of JSON.
//
//   run WAY N_PROMPT N_GENERATE     empties the memory, evaluates a prompt in one call, then token after token
//   attach LIBRARY FOLDER           loads the tracer as `llama-expert-tracer attach` does, which shows itself there

#include <ggml-backend.h>
#include <llama.h>

#include <dlfcn.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../include/llama-expert-tracer.h"

#define LAYERS_MAX 512

struct options {
    const char * model;
    const char * rpc;
    const char * output;
    const char * routing;
    int32_t      n_threads;
    int32_t      n_ctx;
    int32_t      n_batch;
    int32_t      n_ubatch;
    int32_t      n_gpu_layers;
    int32_t      n_cpu_moe;
    int32_t      n_distinct;
    bool         repack;
    bool         toggle;   // a context can be traced from the beginning, whatever is done with it first
};

// Contexts are made when they are first needed. An eval callback is there from the beginning, so it has its own.
enum context_kind { CONTEXT_MAIN, CONTEXT_CALLBACK, CONTEXT_KINDS };

// With ways that record there are no statistics.
enum recording { RECORD_NOTHING, RECORD_ROUTING, RECORD_ALL };

struct way {
    const char      * name;
    enum context_kind context;
    bool              traced;
    bool              per_layer;
    bool              names;
    bool              json;
    enum recording    recording;
};

static const struct way ways[] = {
    { "untraced",    CONTEXT_MAIN,     false, false, false, false, RECORD_NOTHING },
    // the same again: what the machine differs by from itself
    { "control",     CONTEXT_MAIN,     false, false, false, false, RECORD_NOTHING },
    { "stats",       CONTEXT_MAIN,     true,  false, false, false, RECORD_NOTHING },
    { "per-layer",   CONTEXT_MAIN,     true,  true,  false, false, RECORD_NOTHING },
    { "names",       CONTEXT_MAIN,     true,  false, true,  false, RECORD_NOTHING },
    { "json",        CONTEXT_MAIN,     true,  true,  false, true,  RECORD_NOTHING },
    { "routing",     CONTEXT_MAIN,     true,  false, false, false, RECORD_ROUTING },
    { "routing-all", CONTEXT_MAIN,     true,  false, false, false, RECORD_ALL     },
    { "callback",    CONTEXT_CALLBACK, false, false, false, false, RECORD_NOTHING },
};

// The tracer's functions, NULL where it is not preloaded.
struct tracer_api {
    struct expert_tracer          * (*make)(const struct expert_tracer_config * config);
    void                            (*free)(struct expert_tracer * tracer);
    struct expert_tracer_snapshot * (*take)(struct expert_tracer * tracer, size_t index);
    void                            (*drop)(struct expert_tracer_snapshot * snapshot);
};

// What an eval callback has read.
struct reader {
    int32_t * ids;
    size_t    size;
    int64_t   n_read;
};

struct bench {
    struct options         options;
    struct tracer_api      api;
    struct llama_model   * model;
    struct llama_context * contexts[CONTEXT_KINDS];
    struct reader          reader;
    llama_token          * tokens;   // [n_ctx]
    double               * token_us; // [n_ctx]
};

static void fail(const char * what, const char * which) {
    fprintf(stderr, "bench-client: %s%s%s\n", what, which ? ": " : "", which ? which : "");
    exit(1);
}

//
// setting up
//

static int32_t number(const char * text, const char * option) {
    char     * end;
    const long value = strtol(text, &end, 10);
    if (end == text || *end || value < 0 || value > 1 << 24) {
        fail("not a number", option);
    }
    return (int32_t) value;
}

static struct options parse_options(int argc, char ** argv) {
    enum { MODEL, RPC, OUTPUT, ROUTING, THREADS, CTX, BATCH, UBATCH, GPU_LAYERS, CPU_MOE, DISTINCT, NO_REPACK, TOGGLE };
    static const struct option known[] = {
        { "model",      required_argument, NULL, MODEL      },
        { "rpc",        required_argument, NULL, RPC        },
        { "output",     required_argument, NULL, OUTPUT     },
        { "routing",    required_argument, NULL, ROUTING    },
        { "threads",    required_argument, NULL, THREADS    },
        { "ctx",        required_argument, NULL, CTX        },
        { "batch",      required_argument, NULL, BATCH      },
        { "ubatch",     required_argument, NULL, UBATCH     },
        { "gpu-layers", required_argument, NULL, GPU_LAYERS },
        { "n-cpu-moe",  required_argument, NULL, CPU_MOE    },
        { "distinct",   required_argument, NULL, DISTINCT   },
        { "no-repack",  no_argument,       NULL, NO_REPACK  },
        { "toggle",     no_argument,       NULL, TOGGLE     },
        { NULL,         0,                 NULL, 0          },
    };
    struct options options = { .n_threads = 1, .n_ctx = 1024, .n_batch = 2048, .n_ubatch = 512,
                               .n_distinct = 95, .repack = true };
    for (int option, at = 0; (option = getopt_long(argc, argv, "", known, &at)) != -1; ) {
        switch (option) {
            case MODEL:      options.model        = optarg;                          break;
            case RPC:        options.rpc          = optarg;                          break;
            case OUTPUT:     options.output       = optarg;                          break;
            case ROUTING:    options.routing      = optarg;                          break;
            case THREADS:    options.n_threads    = number(optarg, known[at].name);  break;
            case CTX:        options.n_ctx        = number(optarg, known[at].name);  break;
            case BATCH:      options.n_batch      = number(optarg, known[at].name);  break;
            case UBATCH:     options.n_ubatch     = number(optarg, known[at].name);  break;
            case GPU_LAYERS: options.n_gpu_layers = number(optarg, known[at].name);  break;
            case CPU_MOE:    options.n_cpu_moe    = number(optarg, known[at].name);  break;
            case DISTINCT:   options.n_distinct   = number(optarg, known[at].name);  break;
            case NO_REPACK:  options.repack       = false;                           break;
            case TOGGLE:     options.toggle       = true;                            break;
            default:         exit(2);
        }
    }
    if (options.model == NULL || optind != argc || options.n_distinct < 1 || options.n_distinct > 95) {
        fail("usage: bench-client --model MODEL.gguf [--threads N] [--ctx N] [--batch N] [--ubatch N] [--no-repack]\n"
             "                    [--rpc HOST:PORT] [--gpu-layers N] [--n-cpu-moe N] [--distinct 1…95] [--toggle]\n"
             "                    [--output FILE] [--routing FILE]", NULL);
    }
    return options;
}

// Functions come as data pointers from dlsym(); ISO C has no cast between the two.
static void find_function(void * function, void * library, const char * name) {
    void * const address = dlsym(library, name);
    memcpy(function, &address, sizeof(address));
}

static struct tracer_api find_tracer(void) {
    struct tracer_api api;
    find_function(&api.make, RTLD_DEFAULT, "expert_tracer_new");
    find_function(&api.free, RTLD_DEFAULT, "expert_tracer_free");
    find_function(&api.take, RTLD_DEFAULT, "expert_tracer_snapshot_take");
    find_function(&api.drop, RTLD_DEFAULT, "expert_tracer_snapshot_free");
    return api;
}

static void log_warnings(enum ggml_log_level level, const char * text, void * user_data) {
    (void) user_data;
    if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static void load_backends(void) {
#ifdef BENCH_BACKENDS
    ggml_backend_load_all_from_path(BENCH_BACKENDS);
#else
    ggml_backend_load_all();
#endif
}

static void add_rpc_server(const char * endpoint) {
    typedef ggml_backend_reg_t (*add_server_fn)(const char * endpoint);
    const ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    if (rpc == NULL) {
        fail("this llama.cpp has no RPC backend", NULL);
    }
    void * const  address = ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server");
    add_server_fn add_server;
    memcpy(&add_server, &address, sizeof(address));
    const ggml_backend_reg_t server = add_server ? add_server(endpoint) : NULL;
    if (server == NULL) {
        fail("no RPC server answers", endpoint);
    }
    ggml_backend_register(server);
}

// What --n-cpu-moe of the stock programs does: the experts of the first layers stay in host memory.
static const struct llama_model_tensor_buft_override * overrides(int32_t n_cpu_moe) {
    static struct llama_model_tensor_buft_override list[LAYERS_MAX + 1];
    static char                                    patterns[LAYERS_MAX][64];
    if (n_cpu_moe > LAYERS_MAX || (size_t) n_cpu_moe >= llama_max_tensor_buft_overrides()) {
        fail("too many layers", "--n-cpu-moe");
    }
    for (int32_t i = 0; i < n_cpu_moe; i++) {
        snprintf(patterns[i], sizeof(patterns[i]), "blk\\.%d\\.ffn_(up|down|gate|gate_up)_(ch|)exps", i);
        list[i].pattern = patterns[i];
        list[i].buft    = ggml_backend_dev_buffer_type(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    }
    return n_cpu_moe > 0 ? list : NULL;
}

static struct llama_model * load_model(const struct options * options) {
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers          = options->n_gpu_layers;
    params.use_extra_bufts       = options->repack;
    params.tensor_buft_overrides = overrides(options->n_cpu_moe);
    struct llama_model * model = llama_model_load_from_file(options->model, params);
    if (model == NULL) {
        fail("cannot load the model", options->model);
    }
    return model;
}

// What everybody does who wants to see the routing: ask for the tensor, be called when it is there, and read it.
static bool read_topk(struct ggml_tensor * node, bool ask, void * user_data) {
    if (strncmp(ggml_get_name(node), "ffn_moe_topk-", strlen("ffn_moe_topk-")) != 0) {
        return !ask;
    }
    if (!ask && ggml_nelements(node) > 0) {
        struct reader * reader = user_data;
        const size_t    nbytes = ggml_nbytes(node);
        if (nbytes > reader->size) {
            free(reader->ids);
            reader->ids  = malloc(nbytes);
            reader->size = nbytes;
            if (reader->ids == NULL) {
                fail("out of memory", NULL);
            }
        }
        ggml_backend_tensor_get(node, reader->ids, 0, nbytes);
        reader->n_read += ggml_nelements(node);
    }
    return true;
}

static struct llama_context * new_context(struct bench * bench, enum context_kind kind) {
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx           = (uint32_t) bench->options.n_ctx;
    params.n_batch         = (uint32_t) bench->options.n_batch;
    params.n_ubatch        = (uint32_t) bench->options.n_ubatch;
    params.n_threads       = bench->options.n_threads;
    params.n_threads_batch = bench->options.n_threads;
    params.swa_full        = false;
    if (kind == CONTEXT_CALLBACK) {
        params.cb_eval           = read_topk;
        params.cb_eval_user_data = &bench->reader;
    }
    struct llama_context * context = llama_init_from_model(bench->model, params);
    if (context == NULL) {
        fail("llama.cpp makes no context of this model", bench->options.model);
    }
    return context;
}

//
// running
//

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double) now.tv_sec + 1e-3 * (double) now.tv_nsec;
}

// The same tokens every time: printable ASCII, which every model's vocabulary has room for. With few distinct ones few
// experts are used, which fit in memory where the model does not.
static void choose_tokens(struct bench * bench) {
    const size_t n = (size_t) bench->options.n_ctx;
    bench->tokens   = malloc(n * sizeof(*bench->tokens));
    bench->token_us = malloc(n * sizeof(*bench->token_us));
    if (bench->tokens == NULL || bench->token_us == NULL) {
        fail("out of memory", NULL);
    }
    for (int32_t i = 0; i < bench->options.n_ctx; i++) {
        bench->tokens[i] = 32 + (7 * i + i / 5) % bench->options.n_distinct;
    }
}

static void evaluate(struct llama_context * context, llama_token * tokens, int32_t n) {
    if (llama_decode(context, llama_batch_get_one(tokens, n)) != 0) {
        fail("llama_decode() failed", NULL);
    }
    llama_synchronize(context);
}

// Returns how long the prompt took. token_us[] is filled with what each generated token took.
static double run(struct llama_context * context, llama_token * tokens, int32_t n_prompt,
                  int32_t n_generate, double * token_us) {
    llama_memory_clear(llama_get_memory(context), true);
    const double begin = now_us();
    evaluate(context, tokens, n_prompt);
    const double prompt_end = now_us();

    double last = prompt_end;
    for (int32_t i = 0; i < n_generate; i++) {
        evaluate(context, tokens + n_prompt + i, 1);
        const double now = now_us();
        token_us[i] = now - last;
        last = now;
    }
    return prompt_end - begin;
}

static int compare(const void * a, const void * b) {
    const double x = *(const double *) a;
    const double y = *(const double *) b;
    return (x > y) - (x < y);
}

// What all of them took, and the one in the middle, which what else the machine does leaves alone.
static void print_token_times(double * token_us, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += token_us[i];
    }
    qsort(token_us, (size_t) n, sizeof(*token_us), compare);
    const double middle = n > 0 ? (token_us[(n - 1) / 2] + token_us[n / 2]) / 2 : 0;
    printf(", \"generate_us\": %.1f, \"token_us\": %.2f", sum, middle);
}

static struct expert_tracer * new_tracer(const struct bench * bench, const struct way * way) {
    if (bench->api.make == NULL || bench->api.free == NULL || bench->api.take == NULL || bench->api.drop == NULL) {
        fail("the tracer is not preloaded, it is needed for", way->name);
    }
    if (way->json && bench->options.output == NULL) {
        fail("--output is needed for", way->name);
    }
    if (way->recording != RECORD_NOTHING && bench->options.routing == NULL) {
        fail("--routing is needed for", way->name);
    }
    if (way->recording != RECORD_NOTHING) {
        remove(bench->options.routing); // a tracer leaves the trace of another one alone, and writes beside it
    }
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.per_layer = way->per_layer;
    config.names     = way->names;
    config.output    = way->json ? bench->options.output : NULL;
    config.stats     = way->recording == RECORD_NOTHING;
    config.routing   = way->recording == RECORD_NOTHING ? NULL : bench->options.routing;
    config.weights   = way->recording == RECORD_ALL;
    config.tokens    = way->recording == RECORD_ALL;
    config.interval  = 0.1; // so that it is written while it is measured; a hundred times as often as by default
    struct expert_tracer * tracer = bench->api.make(&config);
    if (tracer == NULL) {
        fail("no tracer can be made", way->name);
    }
    return tracer;
}

static const struct way * find_way(const char * name) {
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (strcmp(ways[i].name, name) == 0) {
            return &ways[i];
        }
    }
    fail("no such way", name);
    return NULL;
}

// A context can be traced where a tracer is there when it is made.
static void make_context(struct bench * bench, const struct way * way) {
    if (bench->contexts[way->context]) {
        return;
    }
    const bool             traced = way->traced || (bench->options.toggle && way->context == CONTEXT_MAIN);
    struct expert_tracer * tracer = traced ? new_tracer(bench, find_way("stats")) : NULL;
    bench->contexts[way->context] = new_context(bench, way->context);
    if (tracer) {
        bench->api.free(tracer);
    }
}

static void run_way(struct bench * bench, const struct way * way, int32_t n_prompt, int32_t n_generate) {
    make_context(bench, way);
    struct expert_tracer * tracer  = way->traced ? new_tracer(bench, way) : NULL;
    struct llama_context * context = bench->contexts[way->context];
    bench->reader.n_read = 0;

    printf("{\"prompt_us\": %.1f", run(context, bench->tokens, n_prompt, n_generate, bench->token_us));
    print_token_times(bench->token_us, n_generate);
    if (way->context == CONTEXT_CALLBACK) {
        printf(", \"activations\": %lld, \"capture\": \"bare eval callback\"", (long long) bench->reader.n_read);
    }
    struct expert_tracer_snapshot * snapshot = tracer && way->recording == RECORD_NOTHING
                                               ? bench->api.take(tracer, 0) : NULL;
    if (snapshot) {
        printf(", \"activations\": %llu, \"capture\": \"%s\"",
               (unsigned long long) snapshot->total_activations, snapshot->capture);
        bench->api.drop(snapshot);
    }
    if (tracer) {
        bench->api.free(tracer);
    }
    printf("}\n"); // by now the trace is whole
    fflush(stdout);
}

static void attach(const char * library, const char * folder) {
    char         words[PATH_MAX + 8];
    const int    size   = snprintf(words, sizeof(words), "LIVE=%s", folder);
    void * const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        fail("cannot be loaded", dlerror());
    }
    int       (* function)(const char * words, size_t size);
    find_function(&function, handle, "expert_tracer_attach");
    printf("{\"result\": %d}\n", function ? function(words, (size_t) size + 1) : -1);
    fflush(stdout);
}

static void follow_commands(struct bench * bench) {
    char line[2 * PATH_MAX];
    while (fgets(line, sizeof(line), stdin)) {
        char name[32];
        char library[PATH_MAX];
        char folder[PATH_MAX];
        int  n_prompt;
        int  n_generate;
        if (sscanf(line, "attach %4095s %4095s", library, folder) == 2) {
            attach(library, folder);
            continue;
        }
        if (sscanf(line, "run %31s %d %d", name, &n_prompt, &n_generate) != 3) {
            fail("not a command", line);
        }
        if (n_prompt < 1 || n_generate < 0 || n_prompt > bench->options.n_batch
            || n_prompt + n_generate > bench->options.n_ctx) {
            fail("more tokens than there is room for, or fewer than one", line);
        }
        run_way(bench, find_way(name), n_prompt, n_generate);
    }
}

static void print_quoted(const char * text) {
    putchar('"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putchar('\\');
        }
        putchar((unsigned char) *text < ' ' ? ' ' : *text);
    }
    putchar('"');
}

static void tell_devices(void) {
    printf("{\"devices\": [");
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        printf("%s", i ? ", " : "");
        print_quoted(ggml_backend_dev_description(ggml_backend_dev_get(i)));
    }
    printf("]}\n");
    fflush(stdout);
}

int main(int argc, char ** argv) {
    struct bench bench = { .options = parse_options(argc, argv), .api = find_tracer() };
    llama_log_set(log_warnings, NULL);
    load_backends();
    if (bench.options.rpc) {
        add_rpc_server(bench.options.rpc);
    }
    bench.model = load_model(&bench.options);
    choose_tokens(&bench);
    tell_devices();
    follow_commands(&bench);

    for (int i = 0; i < CONTEXT_KINDS; i++) {
        llama_free(bench.contexts[i]); // NULL is ignored
    }
    llama_model_free(bench.model);
    llama_backend_free();
    free(bench.reader.ids);
    free(bench.tokens);
    free(bench.token_us);
    return 0;
}
