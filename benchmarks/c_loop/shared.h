// What both bare loops need: a clock, a greedy choice, a model and a context.
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "llama.h"

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void quiet(enum ggml_log_level level, const char *text, void *data) {
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static inline llama_token argmax(const float *logits, int size) {
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

// "VmRSS", "VmHWM" or "RssAnon" of this process in bytes; 0 where the system does not tell.
static inline long resident(const char *which) {
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, which, strlen(which)) == 0) {
            kilobytes = atol(line + strlen(which) + 1);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return kilobytes * 1024;
}

static inline int number(int argc, char **argv, int i, int otherwise) { return argc > i ? atoi(argv[i]) : otherwise; }

// cells: of all sequences together. Exits where there is no model or no context.
static inline struct llama_context *make_context(const char *path, int cells, int sequences, int unified, int threads) {
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(path, llama_model_default_params());
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)cells;
    params.n_seq_max = (uint32_t)sequences;
    params.kv_unified = unified != 0;
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = threads;
    params.no_perf = true;
    struct llama_context *context = model == NULL ? NULL : llama_init_from_model(model, params);
    if (context == NULL) {
        fprintf(stderr, "%s: no model or no context\n", path);
        exit(1);
    }
    return context;
}
