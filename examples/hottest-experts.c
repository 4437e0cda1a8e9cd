// Prints the hottest experts of a Mixture-of-Experts model after each token that it generates: those that were chosen
// for the most tokens so far, of the prompt and of what followed.
//
//     $ ./hottest-experts Qwen3-30B-A3B-Q4_K_M.gguf "Once upon a time" 32
//
// To build it you need llama.cpp with its headers, and llama-expert-tracer, which has to come before libllama:
//
//     cc -o hottest-experts hottest-experts.c -lllama-expert-tracer -lllama -lggml -lggml-base
//
// or, with CMake, -DEXPERT_TRACER_EXAMPLES=ON (see CMakeLists.txt beside this file). llama.cpp's own messages go to
// stderr: add 2>/dev/null to be rid of them.

#include <llama-expert-tracer.h>
#include <llama.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_HOTTEST 4

// An expert is one layer's: expert 5 of layer 12 has nothing to do with expert 5 of layer 13.
struct hot_expert {
    int32_t  layer;
    int32_t  expert;
    uint64_t n;
};

static int32_t find_hottest(const struct expert_tracer_snapshot * snapshot, struct hot_expert * hottest) {
    int32_t n_found = 0;
    for (size_t i = 0; i < snapshot->n_layers; i++) {
        const struct expert_tracer_layer * layer = &snapshot->layers[i];
        for (int32_t expert = 0; expert < layer->n_expert; expert++) {
            const uint64_t n = layer->activations[expert];
            int32_t at = n_found;
            while (at > 0 && n > hottest[at - 1].n) {
                at--;
            }
            if (at < N_HOTTEST) {
                n_found += n_found < N_HOTTEST;
                memmove(&hottest[at + 1], &hottest[at], (size_t) (n_found - at - 1) * sizeof(*hottest));
                hottest[at] = (struct hot_expert) { layer->layer, expert, n };
            }
        }
    }
    return n_found;
}

static void print_hottest(struct expert_tracer * tracer) {
    struct hot_expert               hottest[N_HOTTEST];
    struct expert_tracer_snapshot * snapshot = expert_tracer_snapshot_take(tracer, 0);
    const int32_t                   n        = snapshot ? find_hottest(snapshot, hottest) : 0;
    for (int32_t i = 0; i < n; i++) {
        printf("  layer %" PRId32 " expert %" PRId32 ": %" PRIu64, hottest[i].layer, hottest[i].expert, hottest[i].n);
    }
    printf(n ? "\n" : "  no experts\n");
    expert_tracer_snapshot_free(snapshot);
}

// Returns the number of tokens, to be freed by the caller, or -1.
static int32_t tokenize(const struct llama_vocab * vocab, const char * text, llama_token ** tokens) {
    const int32_t length = (int32_t) strlen(text);
    const int32_t n      = -llama_tokenize(vocab, text, length, NULL, 0, true, true);
    *tokens = n > 0 ? malloc((size_t) n * sizeof(**tokens)) : NULL;
    return *tokens ? llama_tokenize(vocab, text, length, *tokens, n, true, true) : -1;
}

static int generate(struct llama_context * ctx, const struct llama_vocab * vocab, struct expert_tracer * tracer,
        llama_token * prompt, int32_t n_prompt, int n_generate) {
    struct llama_sampler * sampler = llama_sampler_init_greedy();
    struct llama_batch     batch   = llama_batch_get_one(prompt, n_prompt);
    llama_token            token;
    int                    status  = 0;
    while (n_generate-- > 0) {
        if (llama_decode(ctx, batch) != 0) {
            fprintf(stderr, "cannot evaluate the next token\n");
            status = 1;
            break;
        }
        token = llama_sampler_sample(sampler, ctx, -1);
        if (llama_vocab_is_eog(vocab, token)) {
            break;
        }
        char          piece[64];
        const int32_t length = llama_token_to_piece(vocab, token, piece, sizeof(piece), 0, true);
        printf("%-16.*s", length > 0 ? (int) length : 0, piece);
        print_hottest(tracer);
        batch = llama_batch_get_one(&token, 1);
    }
    llama_sampler_free(sampler);
    return status;
}

int main(int argc, char ** argv) {
    const int n_generate = argc >= 4 ? atoi(argv[3]) : 0;
    const int n_threads  = argc >= 5 ? atoi(argv[4]) : 4;
    if (n_generate < 1 || n_threads < 1 || argc > 5) {
        fprintf(stderr, "usage: %s MODEL.gguf PROMPT N_TOKENS [N_THREADS]\n", argv[0]);
        return 2;
    }

    ggml_backend_load_all();
    struct llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == NULL) {
        fprintf(stderr, "cannot load %s\n", argv[1]);
        return 1;
    }
    const struct llama_vocab * vocab    = llama_model_get_vocab(model);
    llama_token              * prompt   = NULL;
    const int32_t              n_prompt = tokenize(vocab, argv[2], &prompt);

    // Quiet: it counts, and neither prints nor writes. It has to be there before the context that it shall see.
    struct expert_tracer_config config = EXPERT_TRACER_CONFIG_INIT;
    config.stats = false;
    struct expert_tracer * tracer = expert_tracer_new(&config);

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx           = (uint32_t) (n_prompt + n_generate);
    params.n_batch         = (uint32_t) n_prompt;
    params.n_threads       = n_threads;
    params.n_threads_batch = n_threads;
    struct llama_context * ctx = n_prompt > 0 && tracer ? llama_init_from_model(model, params) : NULL;

    int status = 1;
    if (ctx) {
        status = generate(ctx, vocab, tracer, prompt, n_prompt, n_generate);
        llama_free(ctx);
    } else {
        fprintf(stderr, "cannot evaluate the prompt \"%s\"\n", argv[2]);
    }
    expert_tracer_free(tracer);
    free(prompt);
    llama_model_free(model);
    llama_backend_free();
    return status;
}
