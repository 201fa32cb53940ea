#include "sampler.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "error.h"
#include "log.h"
#include "threads.h"

namespace personaplug {
namespace {

// A grammar in which one text can be read in very many ways costs seconds, or forever, for a token, and the engine can
// serve nobody meanwhile. Usual ones take milliseconds for a whole vocabulary. Seconds of this thread's computing: a
// grammar is not to blame for a process that is stopped, or has to wait for a core.
constexpr double kPatience = 2.0;
constexpr double kSlow = 0.005;       // for one token
constexpr double kEnoughToTell = 0.1; // of a probe
constexpr int kProbed = 256;          // tokens
constexpr float kGreedyBelow = 1e-6f; // differences of logits divided by less are no numbers any more

[[noreturn]] void too_ambiguous() {
    throw GrammarError("the grammar can read one text in too many ways: looking for the next token takes longer than " +
                       std::to_string(static_cast<int>(kPatience)) +
                       " seconds; write it without equal or empty alternatives and without nested repetitions");
}

uint32_t random_seed() {
    std::random_device source;
    return source() & 0x7FFFFFFFu;
}

int argmax(const float *logits, int size) {
    // Two loops that compilers vectorize, instead of one that they do not.
    float best = logits[0];
    for (int i = 1; i < size; ++i) {
        best = logits[i] > best ? logits[i] : best;
    }
    for (int i = 0; i < size; ++i) {
        if (logits[i] == best) {
            return std::isfinite(best) ? i : -1;
        }
    }
    return -1;
}

} // namespace

void not_finite() {
    throw NotFiniteError(
        "the model's logits are not finite numbers: the rows of the prompt are far too large, or the model "
        "file is damaged; what was running with it is dropped, the engine can go on");
}

double log_sum_exp(const float *logits, int size) {
    const int best = argmax(logits, size);
    if (best < 0) {
        not_finite();
    }
    const float most = logits[best];
    double sum = 0.0;
    for (int i = 0; i < size; ++i) {
        sum += std::exp(logits[i] - most);
    }
    if (!std::isfinite(sum)) {
        not_finite();
    }
    return most + std::log(sum);
}

Likelihood likelihood(const float *logits, int size, int32_t chosen, int top) {
    const double total = log_sum_exp(logits, size);
    Likelihood result;
    result.chosen = static_cast<float>(logits[chosen] - total);
    std::vector<std::pair<int32_t, float>> heap; // the smallest of the `top` largest in front
    const auto larger = [](const auto &a, const auto &b) {
        return a.second > b.second || (a.second == b.second && a.first < b.first);
    };
    heap.reserve(top + 1);
    for (int i = 0; i < size; ++i) {
        if (static_cast<int>(heap.size()) < top || logits[i] > heap.front().second) {
            heap.emplace_back(i, logits[i]);
            std::push_heap(heap.begin(), heap.end(), larger);
            if (static_cast<int>(heap.size()) > top) {
                std::pop_heap(heap.begin(), heap.end(), larger);
                heap.pop_back();
            }
        }
    }
    std::sort(heap.begin(), heap.end(), larger);
    for (auto &[id, value] : heap) {
        value = static_cast<float>(value - total);
    }
    result.top = std::move(heap);
    return result;
}

Sampler::Sampler(const SamplingOptions &options, const Tokenizer &tokenizer) : tokenizer_(&tokenizer) {
    options.check(tokenizer);
    const bool penalties =
        options.penalty_window != 0 &&
        (options.repetition_penalty != 1.0f || options.presence_penalty != 0.0f || options.frequency_penalty != 0.0f);
    greedy_ = options.temperature < kGreedyBelow;
    ignore_end_ = options.ignore_end;
    plain_ = greedy_ && !penalties && options.logit_bias.empty() && options.grammar.empty();
    if (!options.grammar.empty()) {
        clear_log();
        try {
            grammar_.reset(llama_sampler_init_grammar(tokenizer.vocab(), options.grammar.c_str(), "root"));
        } catch (const std::exception &failure) {
            throw GrammarError(std::string("the grammar does not parse: ") + failure.what());
        }
        if (!grammar_) {
            throw GrammarError("the grammar does not parse: " + logged_errors("expected GBNF with a rule named root"));
        }
        probe_grammar();
    }
    if (plain_) {
        return;
    }
    llama_sampler_chain_params params = llama_sampler_chain_default_params();
    params.no_perf = true;
    chain_.reset(llama_sampler_chain_init(params));
    const auto add = [&](llama_sampler *sampler) { llama_sampler_chain_add(chain_.get(), sampler); };
    if (!options.logit_bias.empty()) {
        std::vector<llama_logit_bias> bias;
        for (const auto &[token, value] : options.logit_bias) {
            bias.push_back({token, value});
        }
        add(llama_sampler_init_logit_bias(tokenizer.size(), static_cast<int32_t>(bias.size()), bias.data()));
    }
    if (penalties) {
        const int window = options.penalty_window < 0 ? kMostWindow : options.penalty_window;
        add(llama_sampler_init_penalties(tokenizer.size(), window, options.repetition_penalty,
                                         options.frequency_penalty, options.presence_penalty));
    }
    if (greedy_) {
        return;
    }
    if (options.top_k > 0) {
        add(llama_sampler_init_top_k(options.top_k));
    }
    if (options.top_p < 1.0f) {
        add(llama_sampler_init_top_p(options.top_p, 1));
    }
    if (options.min_p > 0.0f) {
        add(llama_sampler_init_min_p(options.min_p, 1));
    }
    add(llama_sampler_init_temp(options.temperature));
    add(llama_sampler_init_dist(options.seed.value_or(random_seed())));
}

std::optional<int32_t> Sampler::sample(const float *logits, std::vector<llama_token_data> &scratch) {
    if (plain_) {
        return greedy(logits);
    }
    if (!grammar_) {
        return choose(logits, scratch, false);
    }
    // A grammar looks at every candidate's text: ask it first of the one token that would be chosen anyway, and only
    // when it refuses that one of all of them. Without top_k, top_p and min_p the distribution is the same as if it had
    // been asked of all at once. These then see what the grammar has refused as well: of what it allows, they cut off
    // at most as much (llama.cpp's own programs do it the same way).
    auto token = choose(logits, scratch, false);
    const double begun = thread_seconds();
    const bool allowed = token && grammar_allows(*token);
    if (!allowed && thread_seconds() - begun > kSlow) {
        probe_grammar(); // now it would be asked of all
    }
    if (!allowed) {
        token = choose(logits, scratch, true);
    }
    if (thread_seconds() - begun > kPatience) {
        too_ambiguous();
    }
    return token;
}

// Asks of more and more tokens until it is known how long a whole vocabulary takes: before the request is queued, where
// its caller alone waits, and again where one token has become slow.
void Sampler::probe_grammar() {
    const int size = tokenizer_->size();
    std::vector<llama_token_data> some;
    for (int count = 1; count <= std::min(kProbed, size); count *= 4) {
        some.clear();
        for (int i = 0; i < count; ++i) {
            some.push_back({static_cast<int32_t>(static_cast<int64_t>(i) * size / count), 0.0f, 0.0f});
        }
        llama_token_data_array candidates{some.data(), some.size(), -1, false};
        const double begun = thread_seconds();
        llama_sampler_apply(grammar_.get(), &candidates);
        const double took = thread_seconds() - begun;
        if (took * (size / count) > kPatience && took > kEnoughToTell) {
            too_ambiguous();
        }
    }
}

std::optional<int32_t> Sampler::greedy(const float *logits) const {
    const int size = tokenizer_->size();
    int best = argmax(logits, size);
    if (best < 0) {
        not_finite();
    }
    if (!ignore_end_ || !tokenizer_->is_end(best)) {
        return best;
    }
    best = -1;
    for (int i = 0; i < size; ++i) {
        if ((best < 0 || logits[i] > logits[best]) && !tokenizer_->is_end(i)) {
            best = i;
        }
    }
    return best < 0 ? std::nullopt : std::optional<int32_t>(best);
}

std::optional<int32_t> Sampler::choose(const float *logits, std::vector<llama_token_data> &scratch, bool constrained) {
    const int size = tokenizer_->size();
    if (argmax(logits, size) < 0) {
        not_finite();
    }
    scratch.resize(size);
    bool complete = !constrained && !ignore_end_;
    for (int i = 0; i < size; ++i) {
        // A NaN among numbers would take any sampler out of its bounds.
        const float logit = std::isnan(logits[i]) ? -INFINITY : logits[i];
        complete &= logit != -INFINITY;
        scratch[i] = {i, logit, 0.0f};
    }
    if (ignore_end_) {
        for (const int32_t end : tokenizer_->ends()) {
            scratch[end].logit = -INFINITY;
        }
    }
    llama_token_data_array candidates{scratch.data(), scratch.size(), -1, false};
    if (constrained) {
        llama_sampler_apply(grammar_.get(), &candidates);
    }
    // What cannot be chosen goes before the samplers see it, so that none has to divide by a sum of nothing.
    const auto gone = [](const llama_token_data &entry) { return entry.logit == -INFINITY; };
    if (!complete) {
        candidates.size = std::remove_if(candidates.data, candidates.data + candidates.size, gone) - candidates.data;
    }
    if (candidates.size == 0) {
        return std::nullopt;
    }
    llama_sampler_apply(chain_.get(), &candidates);
    if (greedy_) {
        const auto smaller = [](const llama_token_data &a, const llama_token_data &b) { return a.logit < b.logit; };
        const auto *best = std::max_element(candidates.data, candidates.data + candidates.size, smaller);
        return best->logit == -INFINITY ? std::nullopt : std::optional<int32_t>(best->id);
    }
    if (candidates.selected < 0 || candidates.selected >= static_cast<int64_t>(candidates.size) ||
        candidates.data[candidates.selected].logit == -INFINITY) {
        return std::nullopt;
    }
    return candidates.data[candidates.selected].id;
}

bool Sampler::grammar_allows(int32_t token) {
    llama_token_data one{token, 1.0f, 0.0f};
    llama_token_data_array candidates{&one, 1, -1, false};
    llama_sampler_apply(grammar_.get(), &candidates);
    return one.logit != -INFINITY;
}

void Sampler::accept(int32_t token, bool generated) {
    if (chain_) {
        llama_sampler_accept(chain_.get(), token);
    }
    if (grammar_ && generated) {
        const double begun = thread_seconds();
        try {
            llama_sampler_accept(grammar_.get(), token);
        } catch (const std::exception &failure) {
            throw GrammarError(std::string("the grammar cannot go on: ") + failure.what());
        }
        if (thread_seconds() - begun > kPatience) {
            too_ambiguous();
        }
    }
}

} // namespace personaplug
