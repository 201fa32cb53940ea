#include <cmath>

#include "error.h"
#include "grammar_cost.h"
#include "require.h"
#include "sampler.h"
#include "utf8.h"

namespace personaplug {
namespace {

constexpr float kMostBias = 1e6f; // sums of much more are infinite, and a softmax over infinities is no number
constexpr size_t kGrammarBytes = 1 << 18;
constexpr double kGrammarCost = 1e10; // comparisons; what is below and slow is found by Sampler::probe_grammar

void check_grammar(const std::string &grammar) {
    if (grammar.size() > kGrammarBytes) {
        throw GrammarError("grammar has " + std::to_string(grammar.size()) + " bytes; expected at most " +
                           std::to_string(kGrammarBytes));
    }
    if (!is_utf8(grammar) || grammar.find('\0') != std::string::npos) {
        throw GrammarError("grammar must be valid UTF-8 without NUL");
    }
    if (grammar.empty()) {
        return;
    }
    if (grammar_cost(parse_grammar(grammar)) > kGrammarCost) {
        throw GrammarError("the grammar can read one text in too many ways; write it without equal or empty "
                           "alternatives and without repetitions of what may be empty");
    }
}

} // namespace

void SamplingOptions::check(const Tokenizer &tokenizer) const {
    require<SamplingError>(max_tokens >= 1, "max_tokens", "at least 1", max_tokens);
    require<SamplingError>(std::isfinite(temperature) && temperature >= 0.0f, "temperature",
                           "a finite number, 0 or more", temperature);
    require<SamplingError>(top_k >= 0, "top_k", "0 (off) or more", top_k);
    require<SamplingError>(top_p > 0.0f && top_p <= 1.0f, "top_p", "more than 0 and at most 1", top_p);
    require<SamplingError>(min_p >= 0.0f && min_p < 1.0f, "min_p", "0 (off) or more and less than 1", min_p);
    require<SamplingError>(repetition_penalty >= 1 / kMostBias && repetition_penalty <= kMostBias, "repetition_penalty",
                           "1e-6 to 1e6", repetition_penalty);
    require<SamplingError>(std::fabs(presence_penalty) <= kMostBias, "presence_penalty", "-1e6 to 1e6",
                           presence_penalty);
    require<SamplingError>(std::fabs(frequency_penalty) <= kMostBias, "frequency_penalty", "-1e6 to 1e6",
                           frequency_penalty);
    require<SamplingError>(penalty_window >= -1 && penalty_window <= kMostWindow, "penalty_window",
                           "-1 (all) to 1048576", penalty_window);
    require<SamplingError>(logprobs >= 0 && logprobs <= tokenizer.size(), "logprobs", "0 to the size of the vocabulary",
                           logprobs);
    require<SamplingError>(!seed || *seed != LLAMA_DEFAULT_SEED, "seed", "0 to 4294967294", seed.value_or(0));
    for (const auto &[token, bias] : logit_bias) {
        require<SamplingError>(tokenizer.has(token), "a token id of logit_bias",
                               "0 to " + std::to_string(tokenizer.size() - 1), token);
        require<SamplingError>(std::fabs(bias) <= kMostBias || bias == -INFINITY, "a value of logit_bias",
                               "-1e6 to 1e6, or -inf", bias);
    }
    for (const auto &text : stop) {
        if (text.empty() || !is_utf8(text)) {
            throw SamplingError("a stop string must be valid text and not empty");
        }
    }
    check_grammar(grammar);
}

} // namespace personaplug
