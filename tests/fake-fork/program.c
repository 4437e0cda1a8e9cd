// A program of that fork: passes all that the fork's functions take, and writes down what comes back.
//
// usage: fake-fork-program [callback]     with an eval callback of its own, which returns 2: do not wait

#include "fork.h"

#include <stdio.h>
#include <string.h>

static int on_node(struct tensor * node, int ask, void * data) {
    printf("callback %s %d %d\n", ggml_get_name(node), ask, *(int *) data);
    return ask ? 2 * (strcmp(ggml_get_name(node), "ffn_moe_logits-0") == 0) : 1;
}

int main(int argc, char ** argv) {
    (void) argv;
    int           number = 42;
    int32_t       tokens[] = { 0, 1, 2, 5, 6 };
    uint8_t       state[3] = { 1, 2, 3 };
    struct params params;
    for (size_t i = 0; i < sizeof(params.bytes); i++) {
        params.bytes[i] = (unsigned char) (i * 7 + 1);
    }
    struct model   * model   = llama_model_load_from_file("some.gguf", params);
    struct context * context = context_new(model, argc > 1 ? on_node : NULL, &number);

    struct llama_batch batch = { .n_tokens = 5, .token = tokens, .all_pos_0 = 1000001,
                                 .all_pos_1 = 7, .all_seq_id = 77 };
    for (int i = 0; i < 3; i++) {
        printf("decoded %d\n", llama_decode(context, batch));
        batch.n_tokens  = 1;
        batch.all_pos_0 += 5;
    }
    printf("set %zu\n", llama_state_seq_set_data(context, state, sizeof(state), 77, 0xabcdef01u));
    const struct pair pair = llama_memory_seq_rm(&number, INT64_C(-5000000000), INT64_C(6000000000),
                                                 INT64_C(7000000000), 4, 5, 6, 7, 8,
                                                 0.5, 1.5f, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5,
                                                 INT64_C(-9000000000));
    printf("removed %llx %llx\n", (unsigned long long) pair.low, (unsigned long long) pair.high);

    struct tensor * named = ggml_format_name((struct tensor *) (void *) (char[4096]) { 0 }, "%s-%d",
                                             "a name that is longer than llama.cpp has room for, "
                                             "which forks with more of it keep to its end", 12);
    printf("named %s\n", ggml_get_name(named));
    llama_free(context);
    llama_model_free(model);
    return 0;
}
