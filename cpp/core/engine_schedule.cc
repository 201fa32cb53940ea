// Who runs next, in which slot, and how prompts share a batch.
#include <algorithm>
#include <climits>

#include "engine.h"

namespace personaplug {
namespace {

// A request that finds too few cells lets this many others pass; then all wait for it.
constexpr int kMostOvertaken = 16;

} // namespace

void Engine::end_overdue(std::vector<Event> &events) {
    const auto now = Clock::now();
    std::vector<Sequence *> overdue;
    for (const auto &sequence : queue_) {
        if (sequence->overdue(now)) {
            overdue.push_back(sequence.get());
        }
    }
    for (const auto &sequence : live_) {
        if (sequence->overdue(now)) {
            overdue.push_back(sequence.get());
        }
    }
    for (Sequence *sequence : overdue) {
        events.push_back(sequence->end("deadline"));
        keep_answer(*sequence);
        retire(*sequence);
    }
}

void Engine::admit(std::vector<Event> &events) {
    while (!free_slots_.empty()) {
        const auto chosen = choose();
        if (chosen == queue_.end()) {
            break;
        }
        live_.push_back(std::move(*chosen));
        queue_.erase(chosen);
        begin(*live_.back(), events);
    }
    close_gaps();
}

// Of the owners with the fewest running requests the first to arrive, of those that fit.
Engine::Queue::iterator Engine::choose() {
    auto best = queue_.end();
    int least = INT_MAX;
    std::vector<Sequence *> too_large;
    for (auto it = queue_.begin(); it != queue_.end() && least > 0; ++it) {
        const auto found = running_.find((*it)->options.owner);
        const int running = found != running_.end() ? found->second : 0;
        if (running >= least || waits_for_another(**it)) {
            continue;
        }
        if (fits(**it)) {
            best = it;
            least = running;
        } else if ((*it)->overtaken >= kMostOvertaken) {
            return queue_.end();
        } else {
            too_large.push_back(it->get());
        }
    }
    if (best != queue_.end()) {
        for (Sequence *sequence : too_large) {
            ++sequence->overtaken;
        }
    }
    return best;
}

bool Engine::fits(const Sequence &sequence) const {
    return pool_ == 0 || claimed_cells() + sequence.most_positions(context_size_) <= pool_;
}

int64_t Engine::claimed_cells() const {
    int64_t claimed = 0;
    for (const auto &sequence : live_) {
        claimed += sequence->most_positions(context_size_);
    }
    return claimed;
}

// Whether a running sequence is about to have computed what this one would compute too.
bool Engine::waits_for_another(const Sequence &sequence) const {
    if (sequence.samples && sequence.samples->leader != 0 && sequence.samples->state.empty()) {
        return true;
    }
    if (sequence.marks.empty() || !keeps_fit_) {
        return false;
    }
    for (const auto &other : live_) {
        for (const Mark &coming : other->marks) {
            for (const Mark &wanted : sequence.marks) {
                if (coming.hash == wanted.hash) {
                    return true;
                }
            }
        }
    }
    return false;
}

void Engine::begin(Sequence &sequence, std::vector<Event> &events) {
    sequence.slot = *free_slots_.begin();
    free_slots_.erase(free_slots_.begin());
    by_slot_[sequence.slot] = &sequence;
    ++running_[sequence.options.owner];
    {
        std::lock_guard<std::mutex> lock(door_);
        --waiting_;
    }
    sequence.started();
    sequence.served = tick_;
    if (sequence.samples) {
        --sequence.samples->waiting;
    }
    if (sequence.adapter) {
        try {
            sequence.weights = adapters_.hold(sequence.adapter);
        } catch (const std::exception &) {
            failed_ = failed_ ? failed_ : std::current_exception(); // the others go on
            retire(sequence);
            return;
        }
    }
    if (sequence.samples) {
        if (take_sample(sequence, events)) {
            return;
        }
        sequence.samples->leader = sequence.id;
    }
    reuse(sequence);
}

// Sequences with cells of their own share a graph only where their ids follow each other (llama.cpp's split_equal):
// every gap is a pass over the weights more. Moves the last ones into the gaps.
void Engine::close_gaps() {
    if (shared_) {
        return;
    }
    while (!free_slots_.empty() && !live_.empty()) {
        const int gap = *free_slots_.begin();
        int last = sequence_count_ - 1;
        while (by_slot_[last] == nullptr) {
            --last;
        }
        if (gap > last || !move(*by_slot_[last], gap)) {
            return;
        }
    }
}

bool Engine::move(Sequence &sequence, int slot) {
    if (sequence.position > 0 && !restore(slot, state_of(sequence.slot), sequence.position)) {
        return false;
    }
    llama_memory_seq_rm(llama_get_memory(context_.get()), sequence.slot, -1, -1);
    by_slot_[sequence.slot] = nullptr;
    free_slots_.insert(sequence.slot);
    sequence.slot = slot;
    by_slot_[slot] = &sequence;
    free_slots_.erase(slot);
    return true;
}

// How many of the next positions of its prompt a pass takes when there is `room` for so many. llama.cpp's flash
// attention computes kTile rows of a sequence and more otherwise than fewer (ops.cpp, use_tiled), with a tenth of a
// logit between them: which of both a position meets must not depend on the company. So a stretch of prompt shorter
// than that may be cut anywhere, and a longer one only into pieces that are none of them shorter, each in a decode of
// its own.
int Engine::piece(const Sequence &sequence, int room, bool forced) const {
    const int left = sequence.until_mark();
    const int longest = std::min(batch_size_, static_cast<int>(params_.n_ubatch));
    if (longest < 2 * kTile) {
        return std::min({left, room, kTile - 1});
    }
    if (left < kTile) {
        return std::min(left, room);
    }
    const int least = left < 2 * kTile ? left : kTile;
    int size = std::min({left, longest, forced ? std::max(room, least) : room});
    if (size < left && left - size < kTile) {
        size = left - kTile;
    }
    return size >= least ? size : 0;
}

// Half of the room for prompts goes to the one that has waited longest, the rest to those with the least left: short
// prompts pass a long one, and a long one still goes on.
void Engine::share_room(int room) {
    std::vector<Sequence *> prefilling;
    for (const auto &sequence : live_) {
        sequence->share = 0;
        if (sequence->prefilling() && has_turn(*sequence)) {
            prefilling.push_back(sequence.get());
        }
    }
    if (prefilling.empty()) {
        return;
    }
    Sequence *oldest = prefilling.front();
    oldest->share = piece(*oldest, (room + 1) / 2, true);
    room -= oldest->share;
    std::stable_sort(prefilling.begin(), prefilling.end(),
                     [](const Sequence *a, const Sequence *b) { return a->cursor.left() < b->cursor.left(); });
    for (Sequence *sequence : prefilling) {
        if (sequence != oldest && room > 0) {
            sequence->share = piece(*sequence, room, false);
            room -= sequence->share;
        }
    }
    if (room > 0) {
        oldest->share = piece(*oldest, oldest->share + room, true);
    }
}

} // namespace personaplug
