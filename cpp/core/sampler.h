// Choosing the next token: options, the chain of llama.cpp samplers they ask for, and log-probabilities.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "llama-cpp.h"
#include "tokenizer.h"

namespace personaplug {

constexpr int kMostWindow = 1 << 20; // tokens that penalties may look back on

struct SamplingOptions {
    int max_tokens = 128;
    float temperature = 0.0f; // 0 (below 1e-6): greedy; top_k, top_p and min_p then change nothing
    int top_k = 0;            // 0: off
    float top_p = 1.0f;       // 1: off
    float min_p = 0.0f;       // 0: off
    float repetition_penalty = 1.0f;
    float presence_penalty = 0.0f;
    float frequency_penalty = 0.0f;
    int penalty_window = 64; // tokens of prompt and answer that penalties look back on; -1: all
    std::optional<uint32_t> seed;
    std::vector<std::pair<int32_t, float>> logit_bias;
    std::string grammar; // GBNF with a rule "root"; "": none
    std::vector<std::string> stop;
    int logprobs = 0; // n > 0: the chosen token's log-probability and the n likeliest tokens
    bool ignore_end = false;

    // Throws SamplingError or GrammarError naming the option, what was expected and what came.
    void check(const Tokenizer &tokenizer) const;
};

// Log-probabilities under the model itself: before bias, penalties, temperature and grammar.
struct Likelihood {
    float chosen = 0.0f;
    std::vector<std::pair<int32_t, float>> top; // the n likeliest tokens, likeliest first
};
Likelihood likelihood(const float *logits, int size, int32_t chosen, int top);
// Throws NotFiniteError.
[[noreturn]] void not_finite();
// log sum exp of `size` logits: log p of token i is logits[i] - log_sum_exp.
double log_sum_exp(const float *logits, int size);

class Sampler {
  public:
    // Throws as SamplingOptions::check. The tokenizer must outlive the sampler.
    Sampler(const SamplingOptions &options, const Tokenizer &tokenizer);

    // The next token, or nothing when a grammar (or bias) allows none. `scratch` is reused from call to call. Throws
    // NotFiniteError.
    std::optional<int32_t> sample(const float *logits, std::vector<llama_token_data> &scratch);
    // Tells penalties and grammar of a token: each of the prompt (`generated` false) and each that was sampled. Throws
    // GrammarError when the grammar cannot go on.
    void accept(int32_t token, bool generated);

  private:
    std::optional<int32_t> greedy(const float *logits) const;
    std::optional<int32_t> choose(const float *logits, std::vector<llama_token_data> &scratch, bool constrained);
    bool grammar_allows(int32_t token);
    void probe_grammar();

    const Tokenizer *tokenizer_;
    bool plain_; // argmax over the logits is all there is to do
    bool greedy_;
    bool ignore_end_;
    llama_sampler_ptr chain_;
    llama_sampler_ptr grammar_;
};

} // namespace personaplug
