// The bare loop: llama.h, nothing between it and the clock. What peers and the engine are compared with.
// Usage: personaplug_c_loop MODEL [threads 2] [prompt tokens 64] [generated tokens 128] [context 512] [rounds 1]
// Prints one JSON object; the best of the rounds. Greedy, end tokens ignored, one sequence.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "llama.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static llama_token argmax(const float *logits, int size) {
    float best = logits[0];
    for (int i = 1; i < size; ++i) {
        best = logits[i] > best ? logits[i] : best;
    }
    for (int i = 0; i < size; ++i) {
        if (logits[i] == best) {
            return i;
        }
    }
    return 0;
}

static int number(int argc, char **argv, int i, int otherwise) { return argc > i ? atoi(argv[i]) : otherwise; }

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [threads] [prompt tokens] [generated tokens] [context] [rounds]\n", argv[0]);
        return 2;
    }
    const int threads = number(argc, argv, 2, 2), prompt = number(argc, argv, 3, 64),
              wanted = number(argc, argv, 4, 128);
    const int context_size = number(argc, argv, 5, 512), rounds = number(argc, argv, 6, 1);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (model == NULL) {
        return 1;
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)context_size;
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = threads;
    params.no_perf = true;
    struct llama_context *context = llama_init_from_model(model, params);
    if (context == NULL || prompt + wanted > context_size) {
        fprintf(stderr, "no context, or prompt and answer do not fit it\n");
        return 1;
    }
    const int vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_token *ids = malloc(sizeof(llama_token) * (size_t)prompt);
    double prompt_seconds = 1e9, decode_seconds = 1e9;
    llama_token last = 0;
    for (int round = 0; round < rounds + 1; ++round) { // the first one warms up
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
        for (int i = 1; i < wanted; ++i) {
            if (llama_decode(context, llama_batch_get_one(&id, 1)) != 0) {
                return 1;
            }
            id = argmax(llama_get_logits_ith(context, -1), vocabulary);
        }
        const double end = now();
        if (round > 0) {
            prompt_seconds = first - start < prompt_seconds ? first - start : prompt_seconds;
            decode_seconds = end - first < decode_seconds ? end - first : decode_seconds;
        }
        last = id;
    }
    printf("{\"threads\": %d, \"prompt_tokens\": %d, \"generated_tokens\": %d, \"prompt_seconds\": %.6f, "
           "\"decode_seconds\": %.6f, \"decode_tokens_per_second\": %.1f, \"last_token\": %d}\n",
           threads, prompt, wanted, prompt_seconds, decode_seconds, (wanted - 1) / decode_seconds, last);
    free(ids);
    llama_free(context);
    llama_model_free(model);
    return 0;
}
