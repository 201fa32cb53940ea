// The life of a sequence: submit, step, cancel.
#include "engine.h"

#include <algorithm>

#include "engine_pass.h"
#include "error.h"
#include "log.h"

namespace personaplug {
namespace {

constexpr size_t kRemembered = 256; // finished sequences whose timings can still be asked for

} // namespace

int64_t Engine::submit(Prompt prompt, const SamplingOptions &options) {
    prompt.check(*model_);
    check_fits(prompt, 0);
    // The last token is sampled and not decoded: a full context still gives one.
    const int limit = std::min(options.max_tokens, context_size_ - prompt.size() + 1);
    std::lock_guard<std::mutex> lock(mutex_);
    auto sequence = std::make_unique<Sequence>(next_id_, std::move(prompt), options, model_->tokenizer(), limit);
    queue_.push_back(std::move(sequence));
    return next_id_++;
}

std::vector<Event> Engine::step() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Event> events;
    events.swap(pending_);
    admit();
    stepping_ = true;
    try {
        int room = batch_size_;
        Pass pass;
        for (bool first = true; plan(pass, first, room); first = false) {
            room -= batch_->size();
            run(pass, events);
            if (breaking_off_ > 0) {
                break; // let the thread that cancels have the lock
            }
        }
    } catch (...) {
        stepping_ = false;
        pending_ = std::move(events);
        throw;
    }
    stepping_ = false;
    return events;
}

void Engine::admit() {
    while (!queue_.empty() && !free_slots_.empty()) {
        auto sequence = std::move(queue_.front());
        queue_.pop_front();
        sequence->slot = free_slots_.back();
        free_slots_.pop_back();
        live_.push_back(std::move(sequence));
    }
}

// Fills the batch: one token of each sequence that generates (in a step's first pass only), then prompts in order of
// admission.
bool Engine::plan(Pass &pass, bool first, int room) {
    pass.parts.clear();
    bool generating = false;
    bool rows = false;
    const Sequence *oldest = nullptr;
    for (const auto &sequence : live_) {
        generating |= first && !sequence->prefilling();
        if (sequence->prefilling()) {
            rows |= sequence->cursor.rows_ahead(room);
            oldest = oldest != nullptr ? oldest : sequence.get();
        }
    }
    if (room <= 0 || (!generating && oldest == nullptr)) {
        return false;
    }
    // With one pass for all, one row makes all entries rows; else each kind has its turn, those that generate first.
    const bool mixed = single_pass_ && rows;
    const bool by_rows = mixed || (!generating && oldest->cursor.next_kind() == Kind::rows);
    const TokenTable *table = mixed ? model_->table() : nullptr;
    batch_->begin(by_rows ? Kind::rows : Kind::tokens);
    for (const auto &sequence : live_) {
        if (first && !sequence->prefilling()) {
            pass.add(*sequence, batch_->size(), true);
            if (by_rows) {
                table->read(sequence->next, batch_->add_row(sequence->position, sequence->slot, true));
            } else {
                batch_->add_token(sequence->next, sequence->position, sequence->slot, true);
            }
            ++sequence->position;
        }
    }
    for (const auto &sequence : live_) {
        if (!sequence->prefilling()) {
            continue;
        }
        const PromptCursor before = sequence->cursor;
        const int begin = batch_->size();
        const int fed = sequence->cursor.feed(*batch_, room - begin, sequence->position, sequence->slot,
                                              PromptCursor::Outputs::last, table);
        if (fed > 0) {
            sequence->started();
            pass.add(*sequence, batch_->size() - 1, !sequence->prefilling(), before);
            sequence->position += fed;
        }
    }
    return batch_->size() > 0;
}

void Engine::run(Pass &pass, std::vector<Event> &events) {
    const int code = decode(context_.get());
    if (code != 0) {
        recover(pass, code);
        return;
    }
    std::exception_ptr failure;
    for (const Pass::Part &part : pass.parts) {
        if (!part.output) {
            continue;
        }
        try {
            events.push_back(part.sequence->sample(llama_get_logits_ith(context_.get(), part.index), scratch_));
            if (*events.back().finish != '\0') {
                retire(*part.sequence);
            }
        } catch (const NotFiniteError &) {
            drop_all(true);
            throw;
        } catch (const std::exception &) {
            // This sequence cannot go on; the others of the batch can, and their events must not be lost.
            retire(*part.sequence);
            failure = failure ? failure : std::current_exception();
        }
    }
    if (failure) {
        std::rethrow_exception(failure);
    }
}

// After a decode that failed: either everything is as before the pass, or the sequences of the pass are gone.
void Engine::recover(Pass &pass, int code) {
    if (code < -1) {
        const std::string reason = logged_errors("code " + std::to_string(code));
        drop_all();
        throw EngineError("llama.cpp failed while decoding (" + reason +
                          "); all sequences were dropped, the engine can go on");
    }
    bool restored = code == 2;
    llama_memory_t memory = llama_get_memory(context_.get());
    for (const Pass::Part &part : pass.parts) {
        part.sequence->position = part.position;
        part.sequence->cursor = part.cursor;
        restored = llama_memory_seq_rm(memory, part.sequence->slot, part.position, -1) && restored;
    }
    if (restored) {
        return;
    }
    for (const Pass::Part &part : pass.parts) {
        retire(*part.sequence);
    }
    throw EngineError("llama.cpp could not decode a batch of " + std::to_string(batch_->size()) + " (" +
                      logged_errors("code " + std::to_string(code)) +
                      "); its sequences were dropped, the engine can go on");
}

// Frees the sequence's cells and slot, and keeps its times. The sequence is destroyed.
void Engine::retire(Sequence &sequence) {
    if (sequence.slot >= 0) {
        llama_memory_seq_rm(llama_get_memory(context_.get()), sequence.slot, -1, -1);
        free_slots_.push_back(sequence.slot);
    }
    remember(sequence);
    const auto same = [&](const auto &other) { return other.get() == &sequence; };
    const auto live = std::find_if(live_.begin(), live_.end(), same);
    if (live != live_.end()) {
        live_.erase(live);
        return;
    }
    queue_.erase(std::find_if(queue_.begin(), queue_.end(), same));
}

// Keeps the times of the sequences that ended last.
void Engine::remember(const Sequence &sequence) {
    finished_[sequence.id] = sequence.timings();
    ended_.push_back(sequence.id);
    if (ended_.size() > kRemembered) {
        finished_.erase(ended_.front());
        ended_.pop_front();
    }
}

void Engine::cancel(int64_t id) {
    const auto lock = lock_breaking_off();
    if (Sequence *sequence = find(id)) {
        pending_.push_back(sequence->end("cancelled"));
        retire(*sequence);
    }
}

Sequence *Engine::find(int64_t id) const {
    for (const auto &sequence : live_) {
        if (sequence->id == id) {
            return sequence.get();
        }
    }
    for (const auto &sequence : queue_) {
        if (sequence->id == id) {
            return sequence.get();
        }
    }
    return nullptr;
}

void Engine::reset() {
    const auto lock = lock_breaking_off();
    drop_all();
    pending_.clear();
}

void Engine::drop_all(bool wipe) {
    for (const auto &sequence : live_) {
        free_slots_.push_back(sequence->slot);
        remember(*sequence);
    }
    live_.clear();
    queue_.clear();
    llama_memory_clear(llama_get_memory(context_.get()), wipe);
}

Timings Engine::timings(int64_t id) const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Sequence *sequence = find(id)) {
        return sequence->timings();
    }
    const auto found = finished_.find(id);
    if (found == finished_.end()) {
        throw PromptError("no timings of sequence " + std::to_string(id) + ": it never was, or it ended long ago");
    }
    return found->second;
}

int Engine::live() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int>(live_.size() + queue_.size());
}

bool Engine::is_live(int64_t id) const {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto of_it = [&](const Event &event) { return event.sequence == id; };
    return find(id) != nullptr || std::any_of(pending_.begin(), pending_.end(), of_it);
}

std::unique_lock<std::mutex> Engine::lock_breaking_off() {
    ++breaking_off_;
    std::unique_lock<std::mutex> lock(mutex_);
    --breaking_off_;
    return lock;
}

bool Engine::wants_abort(void *data) {
    const auto *engine = static_cast<Engine *>(data);
    // A recurrent state cannot be taken back to before the batch.
    return !engine->model_->is_recurrent() && engine->breaking_off_.load(std::memory_order_relaxed) > 0 &&
           engine->stepping_.load(std::memory_order_relaxed);
}

} // namespace personaplug
