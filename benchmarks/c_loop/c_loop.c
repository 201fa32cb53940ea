// The bare loop: llama.h, nothing between it and the clock. What peers and the engine are compared with.
// Usage: personaplug_c_loop MODEL [threads 2] [prompt tokens 64] [generated tokens 128] [context 512] [rounds 1]
// Prints a line at the first token, then one JSON object: the best of the rounds after one that warms up (0: that one).
// Greedy, end tokens ignored.
#include "shared.h"

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [threads] [prompt tokens] [generated tokens] [context] [rounds]\n", argv[0]);
        return 2;
    }
    const int threads = number(argc, argv, 2, 2), prompt = number(argc, argv, 3, 64),
              wanted = number(argc, argv, 4, 128);
    const int context_size = number(argc, argv, 5, 512), rounds = number(argc, argv, 6, 1);
    struct llama_context *context = make_context(argv[1], context_size, 1, 0, threads);
    if (prompt + wanted > context_size) {
        fprintf(stderr, "prompt and answer do not fit the context\n");
        return 1;
    }
    const struct llama_model *model = llama_get_model(context);
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_token *ids = malloc(sizeof(llama_token) * (size_t)prompt);
    double prompt_seconds = 1e9, decode_seconds = 1e9;
    llama_token last = 0;
    for (int round = 0; round < rounds + 1; ++round) {
        llama_memory_clear(llama_get_memory(context), true);
        for (int i = 0; i < prompt; ++i) {
            ids[i] = (llama_token)((i * 7919 + 13) % vocabulary);
        }
        const double start = now();
        if (llama_decode(context, llama_batch_get_one(ids, prompt)) != 0) {
            return 1;
        }
        llama_token id = argmax(llama_get_logits_ith(context, -1), vocabulary);
        const double first = now();
        if (round == 0) {
            puts("{\"first\": true}"); // for whoever times the start of the process
            fflush(stdout);
        }
        for (int i = 1; i < wanted; ++i) {
            if (llama_decode(context, llama_batch_get_one(&id, 1)) != 0) {
                return 1;
            }
            id = argmax(llama_get_logits_ith(context, -1), vocabulary);
        }
        const double end = now();
        if (round > 0 || rounds == 0) {
            prompt_seconds = first - start < prompt_seconds ? first - start : prompt_seconds;
            decode_seconds = end - first < decode_seconds ? end - first : decode_seconds;
        }
        last = id;
    }
    printf("{\"threads\": %d, \"prompt_tokens\": %d, \"generated_tokens\": %d, \"prompt_seconds\": %.6f, "
           "\"decode_seconds\": %.6f, \"decode_tokens_per_second\": %.1f, \"last_token\": %d, "
           "\"steady_bytes\": %ld, \"peak_bytes\": %ld, \"private_bytes\": %ld}\n",
           threads, prompt, wanted, prompt_seconds, decode_seconds, (wanted - 1) / decode_seconds, last,
           resident("VmRSS"), resident("VmHWM"), resident("RssAnon"));
    free(ids);
    llama_free(context);
    llama_model_free((struct llama_model *)model);
    return 0;
}
