// From outside into the queue. Never waits for a decode.
#include <algorithm>
#include <limits>

#include "digest.h"
#include "engine.h"
#include "error.h"

namespace personaplug {
namespace {

constexpr int kSlidWindow = 4; // contexts that penalties look back on at most where a request may go on for ever

} // namespace

int64_t Engine::submit(Prompt prompt, const SamplingOptions &sampling, const RequestOptions &options) {
    return submit_samples(std::move(prompt), sampling, 1, options).front();
}

std::vector<int64_t> Engine::submit_samples(Prompt prompt, const SamplingOptions &sampling, int count,
                                            const RequestOptions &options) {
    prompt.check(*model_);
    check_fits(prompt, 0);
    options.check(prompt, context_size_);
    check_slide(options);
    if (count < 1) {
        throw SamplingError("the number of samples must be at least 1, got " + std::to_string(count));
    }
    if (count > queue_size_) { // before so many are made; whether as many have room is seen below
        throw QueueFullError("the queue holds " + std::to_string(queue_size_) + " requests, and " +
                             std::to_string(count) +
                             " came together; ask for fewer at a time, or make the engine "
                             "with a longer queue");
    }
    if (sampling.seed && static_cast<uint64_t>(*sampling.seed) + (count - 1) >= LLAMA_DEFAULT_SEED) {
        throw SamplingError("the seeds of " + std::to_string(count) + " samples must be at most 4294967294, got " +
                            std::to_string(*sampling.seed) + " for the first");
    }
    // The last token is sampled and not decoded: a full context still gives one.
    const int limit =
        options.slide ? sampling.max_tokens : std::min(sampling.max_tokens, context_size_ - prompt.size() + 1);
    const uint64_t epoch = prefixes_.epoch();
    const AdapterRef adapter = adapter_of(options);
    const auto marks = marks_of(prompt, options, adapter);
    const auto shared = std::make_shared<const Prompt>(std::move(prompt));
    const auto samples = count > 1 ? std::make_shared<Samples>() : nullptr;
    {
        std::lock_guard<std::mutex> lock(door_);
        check_room(count); // before the work; again below, where it counts
    }
    Queue made;
    std::vector<int64_t> ids;
    for (int i = 0; i < count; ++i) {
        SamplingOptions own = sampling;
        own.penalty_window = window_of(*shared, sampling.penalty_window, limit, options.slide);
        if (own.seed) {
            *own.seed += i;
        }
        made.push_back(std::make_unique<Sequence>(next_id_++, shared, own, options, model_->tokenizer(), limit));
        made.back()->adapter = adapter;
        made.back()->epoch = epoch;
        made.back()->marks = marks;
        made.back()->samples = samples;
        ids.push_back(made.back()->id);
    }
    std::lock_guard<std::mutex> lock(door_);
    check_room(count);
    if (samples) {
        samples->waiting = count;
    }
    waiting_ += count;
    alive_ += count;
    std::move(made.begin(), made.end(), std::back_inserter(arrived_));
    return ids;
}

// Under door_.
void Engine::check_room(int count) const {
    if (waiting_ + count > queue_size_) {
        throw QueueFullError("the queue holds " + std::to_string(queue_size_) + " requests, " +
                             std::to_string(waiting_) + " wait and " + std::to_string(count) +
                             " more came; try again when some have ended, or make the engine with a longer queue");
    }
}

// llama.cpp takes memory for the whole window at once: it need be no longer than what there will be to look back on.
int Engine::window_of(const Prompt &prompt, int asked, int limit, bool slide) const {
    if (asked < -1 || asked > kMostWindow) {
        return asked; // SamplingOptions::check refuses it
    }
    const int64_t most = slide ? static_cast<int64_t>(kSlidWindow) * context_size_ : kMostWindow;
    const int64_t there = std::min(most, static_cast<int64_t>(prompt.size()) + limit);
    return static_cast<int>(std::min<int64_t>(asked < 0 ? kMostWindow : asked, there));
}

void Engine::check_slide(const RequestOptions &options) const {
    if (options.slide && !slides_) {
        throw ContextFullError("slide must be off: the positions of architecture " + model_->architecture() +
                               " cannot be shifted (a recurrent state, or positions of several dimensions)");
    }
}

std::vector<Mark> Engine::marks_of(const Prompt &prompt, const RequestOptions &options,
                                   const AdapterRef &adapter) const {
    std::vector<Mark> marks;
    if (options.keep.empty() || !prefixes_.enabled()) {
        return marks;
    }
    const std::string bytes = prompt.bytes();
    for (const int length : options.keep) {
        const std::string owner = length <= options.common ? "" : options.owner;
        Digest digest;
        digest.add(owner);
        digest.add("\n");
        digest.add(adapter ? adapter->key() : "");
        digest.add(bytes.data(), prompt.bytes_until(length));
        marks.push_back({length, owner, digest.number()});
    }
    return marks;
}

// Brings what arrived since the last step into the queue.
void Engine::receive() {
    std::lock_guard<std::mutex> lock(door_);
    std::move(arrived_.begin(), arrived_.end(), std::back_inserter(queue_));
    arrived_.clear();
}

} // namespace personaplug
