// Beam search in the engine: requests in, one event each out.
#include <algorithm>

#include "engine.h"
#include "error.h"

namespace personaplug {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30; // of cache for one beam search, or
constexpr int64_t kMostTimes = 4;                // so many times what the engine itself has, if that is more

} // namespace

int64_t Engine::submit_beams(Prompt prompt, const BeamOptions &beams, const RequestOptions &options) {
    prompt.check(*model_);
    check_fits(prompt, 0);
    options.check(prompt, context_size_);
    // The last token is chosen and not decoded: a full context still gives one.
    const int limit = std::min(beams.max_tokens, context_size_ - prompt.size() + 1);
    const AdapterRef adapter = adapter_of(options);
    const int64_t id = next_id_++;
    auto group =
        std::make_unique<BeamGroup>(id, std::move(prompt), beams, model_->tokenizer(), limit, options.deadline);
    check_beams(*group, beams);
    group->adapter = adapter;
    ++alive_;
    try {
        beams_->submit(std::move(group), queue_size_);
    } catch (...) {
        --alive_;
        throw;
    }
    return id;
}

// The memory of a beam search is its caller's to choose, and everybody's to go without.
void Engine::check_beams(const BeamGroup &group, const BeamOptions &beams) const {
    const int64_t own = cache_bytes(pool_ > 0 ? pool_ : static_cast<int64_t>(context_size_) * sequence_count_);
    const int64_t most = std::max(kMostBytes, kMostTimes * own);
    const int64_t asked = cache_bytes(group.most_cells());
    if (asked > most) {
        throw ContextFullError("a beam search with " + std::to_string(beams.beams) + " beams and max_tokens " +
                               std::to_string(beams.max_tokens) + " would take " + std::to_string(asked >> 20) +
                               " MiB of cache after this prompt, this engine gives " + std::to_string(most >> 20) +
                               "; lower beams or max_tokens");
    }
}

void Engine::make_beam_pool() {
    const auto make = [this](int64_t cells, int ids) { return make_context(cells, ids, true); };
    const auto hold = [this](const AdapterRef &file) { return adapters_.hold(file); };
    const auto retired = [this](const BeamGroup &group) {
        --alive_;
        remember(group.id, group.timings());
    };
    beams_ = std::make_unique<BeamPool>(*model_, make, hold, retired, context_size_);
}

} // namespace personaplug
