// What needs logits and generates nothing: score() and logits(). Both work on sequence ids of their own, beside the
// live ones.
#include <algorithm>
#include <cmath>

#include "engine.h"
#include "error.h"
#include "log.h"

namespace personaplug {

// A place for `cells` cells, or more, that scratch sequences take; freed whatever happens.
class Scratch {
  public:
    // Where running sequences have claimed the cells, a context for this alone: nobody's success depends on company.
    Scratch(Engine &engine, int count, int64_t least, int64_t wanted) : engine_(engine), count_(count) {
        if (engine.shared_ && engine.free_cells() < least) {
            engine.side_ = engine.make_context(std::max(wanted, kLeastCells), engine.scratch_count_, true);
        }
    }
    ~Scratch() {
        if (engine_.shared_ && engine_.side_) {
            engine_.side_.reset();
            return;
        }
        if (!engine_.shared_ && !engine_.side_) {
            return; // wiped
        }
        for (int i = 0; i < count_; ++i) {
            llama_memory_seq_rm(llama_get_memory(engine_.side()), engine_.first_scratch() + i, -1, -1);
        }
    }

  private:
    static constexpr int64_t kLeastCells = 256; // llama.cpp makes no fewer

    Engine &engine_;
    int count_;
};

// Continuations of one prompt whose cache lies in the first scratch sequence.
class Scorer {
  public:
    Scorer(Engine &engine, int prompt_size, const std::vector<std::vector<int32_t>> &continuations,
           std::vector<std::vector<float>> &scores)
        : engine_(engine), prompt_size_(prompt_size), continuations_(continuations), scores_(scores) {}

    // Scores the continuations from `begin` on, as many as there are ids and cells for; returns where it stopped.
    size_t group(size_t begin) {
        const int ids = engine_.scratch_count_ - 1;
        int cells = engine_.free_cells() - prompt_size_;
        size_t end = begin;
        int id = engine_.first_scratch();
        for (; end < continuations_.size() && static_cast<int>(end - begin) < ids; ++end) {
            cells -= static_cast<int>(continuations_[end].size()) - 1;
            if (cells < 0 && end > begin) {
                break;
            }
            share(++id);
            feed(continuations_[end], scores_[end], id);
        }
        flush();
        for (; id > engine_.first_scratch(); --id) {
            llama_memory_seq_rm(llama_get_memory(engine_.side()), id, -1, -1);
        }
        return end;
    }

  private:
    struct Wanted {
        std::vector<float> *scores;
        int32_t token; // the one after the entry
    };

    void share(int id) { llama_memory_seq_cp(llama_get_memory(engine_.side()), engine_.first_scratch(), id, -1, -1); }

    void feed(const std::vector<int32_t> &tokens, std::vector<float> &scores, int id) {
        for (size_t i = 0; i + 1 < tokens.size(); ++i) {
            if (wanted_.empty()) {
                engine_.batch_->begin(Kind::tokens);
            }
            engine_.batch_->add_token(tokens[i], prompt_size_ + static_cast<int>(i), id, true);
            wanted_.push_back({&scores, tokens[i + 1]});
            if (static_cast<int>(wanted_.size()) == std::min(engine_.outputs_, engine_.most_at_once())) {
                flush();
            }
        }
    }

    void flush() {
        if (wanted_.empty()) {
            return;
        }
        if (const int code = engine_.batch_->decode(engine_.side()); code != 0) {
            throw EngineError("llama.cpp could not score (" + logged_errors("code " + std::to_string(code)) +
                              "); the engine can go on");
        }
        const int vocabulary = engine_.model_->tokenizer().size();
        for (size_t i = 0; i < wanted_.size(); ++i) {
            const float *logits = llama_get_logits_ith(engine_.side(), static_cast<int>(i));
            wanted_[i].scores->push_back(
                static_cast<float>(logits[wanted_[i].token] - log_sum_exp(logits, vocabulary)));
        }
        wanted_.clear();
        if (engine_.interruption) {
            engine_.interruption();
        }
    }

    Engine &engine_;
    int prompt_size_;
    const std::vector<std::vector<int32_t>> &continuations_;
    std::vector<std::vector<float>> &scores_;
    std::vector<Wanted> wanted_;
};

std::vector<std::vector<float>> Engine::score(const Prompt &prompt,
                                              const std::vector<std::vector<int32_t>> &continuations,
                                              const RequestOptions &options) {
    prompt.check(*model_);
    const AdapterRef adapter = adapter_of(options);
    size_t longest = 0;
    for (const auto &tokens : continuations) {
        longest = std::max(longest, tokens.size());
        if (tokens.empty()) {
            throw PromptError("a continuation is empty; expected at least one token");
        }
        for (const int32_t token : tokens) {
            model_->tokenizer().check(token);
        }
    }
    check_fits(prompt, static_cast<int>(std::min<size_t>(longest, 1 << 30)) - 1);
    std::vector<std::vector<float>> scores(continuations.size());
    std::lock_guard<std::mutex> lock(mutex_);
    const int64_t more = std::max<int64_t>(longest, 1) - 1; // the last token is not decoded
    const AdapterHold weights = adapter ? adapters_.hold(adapter) : nullptr;
    const Scratch scratch(*this, scratch_count_, prompt.size() + more,
                          std::min<int64_t>(context_size_, prompt.size() + scratch_count_ * more));
    use_adapter(side(), weights.get());
    try {
        score_locked(prompt, continuations, scores);
    } catch (const NotFiniteError &) {
        wipe_side();
        throw;
    }
    return scores;
}

void Engine::score_locked(const Prompt &prompt, const std::vector<std::vector<int32_t>> &continuations,
                          std::vector<std::vector<float>> &scores) {
    prefill(prompt, first_scratch(), PromptCursor::Outputs::last, [&](int, const float *logits) {
        const double total = log_sum_exp(logits, model_->tokenizer().size());
        for (size_t i = 0; i < continuations.size(); ++i) {
            scores[i].push_back(static_cast<float>(logits[continuations[i][0]] - total));
        }
    });
    Scorer scorer(*this, prompt.size(), continuations, scores);
    for (size_t begin = 0; begin < continuations.size();) {
        begin = scorer.group(begin);
    }
}

std::vector<float> Engine::logits(const Prompt &prompt, const RequestOptions &options) {
    prompt.check(*model_);
    const AdapterRef adapter = adapter_of(options);
    check_fits(prompt, 0);
    const size_t vocabulary = model_->tokenizer().size();
    std::vector<float> all(vocabulary * prompt.size());
    std::lock_guard<std::mutex> lock(mutex_);
    const AdapterHold weights = adapter ? adapters_.hold(adapter) : nullptr;
    const Scratch scratch(*this, 1, prompt.size(), prompt.size());
    use_adapter(side(), weights.get());
    prefill(prompt, first_scratch(), PromptCursor::Outputs::all, [&](int position, const float *logits) {
        std::copy_n(logits, vocabulary, all.data() + vocabulary * position);
    });
    if (std::any_of(all.begin(), all.end(), [](float value) { return std::isnan(value); })) {
        wipe_side();
        not_finite();
    }
    return all;
}

// Decodes a prompt batch by batch and gives the logits that were asked for to `sink`.
void Engine::prefill(const Prompt &prompt, int slot, PromptCursor::Outputs outputs,
                     const std::function<void(int, const float *)> &sink) {
    PromptCursor cursor(prompt);
    const bool mixed = single_pass_ && prompt.has_rows();
    const int most = std::min(outputs == PromptCursor::Outputs::all ? outputs_ : batch_size_, most_at_once());
    for (int position = 0; !cursor.done();) {
        batch_->begin(mixed ? Kind::rows : cursor.next_kind());
        const int fed = cursor.feed(*batch_, most, position, slot, outputs, mixed ? model_->table() : nullptr);
        if (const int code = batch_->decode(side()); code != 0) {
            throw EngineError("llama.cpp could not decode the prompt (" +
                              logged_errors("code " + std::to_string(code)) + "); the engine can go on");
        }
        for (int i = 0; i < fed; ++i) {
            if (outputs == PromptCursor::Outputs::all || (cursor.done() && i == fed - 1)) {
                sink(position + i, llama_get_logits_ith(side(), i));
            }
        }
        position += fed;
        if (interruption) {
            interruption();
        }
    }
}

void Engine::check_fits(const Prompt &prompt, int more) const {
    if (static_cast<int64_t>(prompt.size()) + more > context_size_) {
        const std::string answer = more > 0 ? " and " + std::to_string(more) + " more positions do" : " does";
        throw ContextFullError("the prompt of " + std::to_string(prompt.size()) + " positions" + answer +
                               " not fit the context of " + std::to_string(context_size_) +
                               "; shorten the prompt or make the engine with a larger context");
    }
}

// Cells that score() and logits() may use: in a shared context those that no live sequence has claimed.
int Engine::free_cells() {
    return static_cast<int>(llama_n_ctx(side()) - (side() == context_.get() ? claimed_cells() : 0));
}

// Entries of one decode: a side context may take fewer than a batch holds.
int Engine::most_at_once() { return static_cast<int>(llama_n_batch(side())); }

void Engine::wipe_side() {
    if (shared_ && !side_) {
        drop_all(true);
    } else {
        side_.reset();
    }
}

} // namespace personaplug
