// A step, and the end of sequences.
#include "engine.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "engine_pass.h"
#include "error.h"

namespace personaplug {
namespace {

constexpr size_t kRemembered = 256; // finished sequences whose timings can still be asked for
// Positions of prompts in a step where others generate: they wait for it. On a CPU a chunk of 128 is as quick a token
// as one of 512.
constexpr int kChunk = 128;
// From so many prompts on, and while they are half of those that generate, they fill the whole batch: many who begin
// together then go on together, and nobody waits for more batches than hold the prompts.
constexpr int kBurst = 4;

} // namespace

std::vector<Event> Engine::step() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<Event> events;
    events.swap(pending_);
    try {
        receive();
        end_overdue(events);
        admit(events);
        decode_all(events);
        if (breaking_off_ == 0) {
            beams_->step(*batch_, single_pass_, events);
        }
        if (failed_) {
            std::rethrow_exception(std::exchange(failed_, nullptr));
        }
    } catch (...) {
        breakable_ = false;
        pending_ = std::move(events);
        throw;
    }
    breakable_ = false;
    return events;
}

// One token of every sequence that generates, and of the prompts what the batch has room for.
void Engine::decode_all(std::vector<Event> &events) {
    choose_turn();
    const auto generates = [&](const auto &sequence) { return !sequence->prefilling() && has_turn(*sequence); };
    const int generating = static_cast<int>(std::count_if(live_.begin(), live_.end(), generates));
    int room = batch_size_ - generating;
    const auto reads = [&](const auto &sequence) { return sequence->prefilling() && has_turn(*sequence); };
    const int reading = static_cast<int>(std::count_if(live_.begin(), live_.end(), reads));
    if (generating > 0 && (reading < kBurst || 2 * reading < generating)) {
        room = std::min(room, kChunk);
    }
    breakable_ = true;
    Pass pass;
    for (bool first = true; plan(pass, first, room); first = false) {
        room -= pass.prompt_positions;
        run(pass, events);
        breakable_ = true;
        if (breaking_off_ > 0) {
            break; // let the thread that cancels have the lock
        }
    }
}

// Frees the sequence's cells and slot, and keeps its times. The sequence is destroyed.
void Engine::retire(Sequence &sequence) {
    if (sequence.slot >= 0) {
        llama_memory_seq_rm(llama_get_memory(context_.get()), sequence.slot, -1, -1);
    }
    leave(sequence);
    const auto same = [&](const auto &other) { return other.get() == &sequence; };
    if (sequence.slot >= 0) {
        live_.erase(std::find_if(live_.begin(), live_.end(), same));
        return;
    }
    receive(); // it may not have reached the queue yet
    queue_.erase(std::find_if(queue_.begin(), queue_.end(), same));
}

// Takes a sequence out of all counts.
void Engine::leave(const Sequence &sequence) {
    --alive_;
    remember(sequence.id, sequence.timings());
    if (sequence.slot >= 0) {
        free_slots_.insert(sequence.slot);
        by_slot_[sequence.slot] = nullptr;
        const auto running = running_.find(sequence.options.owner);
        if (--running->second == 0) {
            running_.erase(running);
        }
    } else {
        std::lock_guard<std::mutex> lock(door_);
        --waiting_;
    }
    if (sequence.samples) {
        sequence.samples->waiting -= sequence.slot < 0 ? 1 : 0;
        if (sequence.samples->leader == sequence.id) {
            sequence.samples->leader = 0;
        }
    }
}

// Keeps the times of the sequences that ended last.
void Engine::remember(int64_t id, const Timings &timings) {
    finished_[id] = timings;
    ended_.push_back(id);
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
    } else {
        beams_->cancel(id, pending_);
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
    std::lock_guard<std::mutex> lock(door_);
    for (const auto &sequence : arrived_) {
        if (sequence->id == id) {
            return sequence.get(); // stays where it is as long as mutex_ is held
        }
    }
    return nullptr;
}

void Engine::reset() {
    const auto lock = lock_breaking_off();
    drop_all();
    beams_->drop_all();
    failed_ = nullptr;
    pending_.clear();
}

void Engine::drop_all(bool wipe) {
    receive();
    for (const auto &sequence : live_) {
        leave(*sequence);
    }
    for (const auto &sequence : queue_) {
        leave(*sequence);
    }
    live_.clear();
    queue_.clear();
    llama_memory_clear(llama_get_memory(context_.get()), wipe);
    if (wipe) {
        prefixes_.clear();
    }
}

Timings Engine::timings(int64_t id) const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const Sequence *sequence = find(id)) {
        return sequence->timings();
    }
    if (const BeamGroup *group = beams_->find(id)) {
        return group->timings();
    }
    const auto found = finished_.find(id);
    if (found == finished_.end()) {
        throw PromptError("no timings of sequence " + std::to_string(id) + ": it never was, or it ended long ago");
    }
    return found->second;
}

bool Engine::is_live(int64_t id) const {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto of_it = [&](const Event &event) { return event.sequence == id; };
    return find(id) != nullptr || beams_->find(id) != nullptr || std::any_of(pending_.begin(), pending_.end(), of_it);
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
    return engine->breaking_off_.load(std::memory_order_relaxed) > 0 &&
           engine->breakable_.load(std::memory_order_relaxed) && !engine->model_->is_recurrent();
}

} // namespace personaplug
