#include "beam_pool.h"

#include <algorithm>
#include <iterator>

#include "error.h"
#include "log.h"

namespace personaplug {
namespace {

constexpr int kIds = 32; // beams at once; an id costs vocabulary * 4 bytes of logits

} // namespace

BeamPool::BeamPool(const Model &model, MakeContext make, Hold hold, Retired retired, int64_t least_cells)
    : model_(model), make_(std::move(make)), hold_(std::move(hold)), retired_(std::move(retired)),
      least_cells_(least_cells) {}

void BeamPool::submit(std::unique_ptr<BeamGroup> group, int most) {
    std::lock_guard<std::mutex> lock(door_);
    if (waiting_ >= most) {
        throw QueueFullError(std::to_string(waiting_) + " beam searches wait, as many as the queue holds; try again " +
                             "when some have ended, or make the engine with a longer queue");
    }
    ++waiting_;
    arrived_.push_back(std::move(group));
}

void BeamPool::receive() {
    std::lock_guard<std::mutex> lock(door_);
    std::move(arrived_.begin(), arrived_.end(), std::back_inserter(queue_));
    arrived_.clear();
}

void BeamPool::reserve(int64_t cells) {
    if (context_ && cells <= cells_) {
        return;
    }
    context_.reset(); // its memory first
    cells_ = free_cells_ = 0;
    free_ids_.clear();
    cells = std::max(cells, least_cells_);
    context_ = make_(cells, kIds);
    cells_ = free_cells_ = cells;
    for (int id = kIds; id-- > 0;) {
        free_ids_.push_back(id);
    }
}

void BeamPool::shrink() {
    if (queue_.empty() && live_.empty() && cells_ > least_cells_) {
        context_.reset();
        cells_ = free_cells_ = 0;
    }
}

void BeamPool::step(Batch &batch, bool single_pass, std::vector<Event> &events) {
    receive();
    if (queue_.empty() && live_.empty()) {
        shrink(); // after a failure
        return;
    }
    try {
        expire(events);
        admit();
        if (!live_.empty()) {
            use_adapter(context_.get(), live_.front()->weights.get());
        }
        generate(batch, events);
        prefill(batch, single_pass, events);
        shrink();
    } catch (const NotFiniteError &) {
        drop_all(); // attention multiplies even the values of masked cells
        throw;
    }
}

// In order of submission: a wide group is not overtaken. Groups run together that have the same adapter.
void BeamPool::admit() {
    while (!queue_.empty()) {
        BeamGroup &group = *queue_.front();
        const int64_t cells = group.most_cells();
        if (live_.empty()) {
            try {
                reserve(cells);
                group.weights = group.adapter ? hold_(group.adapter) : nullptr;
            } catch (const std::exception &) {
                retire(group);
                throw;
            }
        }
        const auto key = [](const AdapterRef &adapter) { return adapter ? adapter->key() : std::string(); };
        if (!live_.empty() && key(group.adapter) != key(live_.front()->adapter)) {
            return;
        }
        if (!live_.empty()) {
            group.weights = live_.front()->weights;
        }
        if (cells > free_cells_ || static_cast<size_t>(group.width) > free_ids_.size()) {
            return;
        }
        free_cells_ -= cells;
        group.spare.assign(free_ids_.end() - group.width, free_ids_.end());
        free_ids_.resize(free_ids_.size() - group.width);
        group.slots.assign(1, group.spare.back());
        group.spare.pop_back();
        live_.push_back(std::move(queue_.front()));
        queue_.pop_front();
        std::lock_guard<std::mutex> lock(door_);
        --waiting_;
    }
}

void BeamPool::expire(std::vector<Event> &events) {
    const auto now = Clock::now();
    round_.clear();
    const auto look = [&](const std::unique_ptr<BeamGroup> &group) {
        if (group->overdue(now)) {
            round_.push_back(group.get());
        }
    };
    std::for_each(live_.begin(), live_.end(), look);
    std::for_each(queue_.begin(), queue_.end(), look);
    for (BeamGroup *group : round_) {
        group->search.end("deadline");
        events.push_back(group->end("deadline"));
        retire(*group);
    }
}

// The beams' last tokens, all groups in one decode.
void BeamPool::generate(Batch &batch, std::vector<Event> &events) {
    round_.clear();
    for (const auto &group : live_) {
        if (!group->prefilling()) {
            round_.push_back(group.get());
        }
    }
    if (round_.empty()) {
        return;
    }
    int code = 0;
    entries_.clear();
    batch.begin(Kind::tokens);
    const int most = std::min<int>(batch.room(), llama_n_batch(context_.get()));
    for (BeamGroup *group : round_) {
        group->search.begin();
        for (size_t i = 0; i < group->slots.size() && code == 0; ++i) {
            if (static_cast<int>(entries_.size()) == most) {
                code = flush(batch);
            }
            batch.add_token(group->search.beams()[i].token, group->position, group->slots[i], true);
            entries_.push_back({group, static_cast<int>(i)});
        }
    }
    code = code == 0 ? flush(batch) : code;
    if (code != 0) {
        recover(round_, code);
        return;
    }
    for (BeamGroup *group : round_) {
        ++group->position;
        advance(*group, events);
    }
}

int BeamPool::flush(Batch &batch) {
    const int code = batch.decode(context_.get());
    if (code == 0) {
        for (size_t i = 0; i < entries_.size(); ++i) {
            const float *logits = llama_get_logits_ith(context_.get(), static_cast<int>(i));
            entries_[i].group->search.consider(entries_[i].beam, logits);
        }
    }
    entries_.clear();
    batch.begin(Kind::tokens);
    return code;
}

// A batch of the prompt that came first.
void BeamPool::prefill(Batch &batch, bool single_pass, std::vector<Event> &events) {
    const auto waits = [](const auto &group) { return group->prefilling(); };
    const auto found = std::find_if(live_.begin(), live_.end(), waits);
    if (found == live_.end()) {
        return;
    }
    BeamGroup &group = **found;
    group.started();
    const PromptCursor before = group.cursor;
    batch.begin(group.cursor.next_kind());
    const int most = std::min<int>(batch.room(), llama_n_batch(context_.get()));
    const bool mixed = single_pass && group.cursor.rows_ahead(most);
    if (mixed) {
        batch.begin(Kind::rows);
    }
    const int fed = group.cursor.feed(batch, most, group.position, group.slots[0], PromptCursor::Outputs::last,
                                      mixed ? model_.table() : nullptr);
    if (const int code = batch.decode(context_.get()); code != 0) {
        group.cursor = before;
        round_.assign(1, &group);
        recover(round_, code);
        return;
    }
    group.position += fed;
    if (!group.prefilling()) {
        group.search.begin();
        group.search.consider(0, llama_get_logits_ith(context_.get(), fed - 1));
        advance(group, events);
    }
}

void BeamPool::advance(BeamGroup &group, std::vector<Event> &events) {
    group.search.advance();
    group.note_round();
    if (group.search.done()) {
        events.push_back(group.end(""));
        retire(group);
        return;
    }
    reorder(group);
}

// Gives every beam a sequence id that sees the cells of the beam it continues: the first child takes its parent's id,
// the others take ids of beams that nothing continues.
void BeamPool::reorder(BeamGroup &group) {
    const auto &beams = group.search.beams();
    slots_.swap(group.slots);
    group.slots.assign(beams.size(), -1);
    for (size_t parent = 0; parent < slots_.size(); ++parent) {
        const auto continues = [&](const auto &beam) { return beam.parent == static_cast<int>(parent); };
        const auto child = std::find_if(beams.begin(), beams.end(), continues);
        if (child != beams.end()) {
            group.slots[child - beams.begin()] = slots_[parent];
        } else {
            llama_memory_seq_rm(memory(), slots_[parent], -1, -1);
            group.spare.push_back(slots_[parent]);
        }
    }
    for (size_t i = 0; i < beams.size(); ++i) {
        if (group.slots[i] < 0) {
            group.slots[i] = group.spare.back();
            group.spare.pop_back();
            llama_memory_seq_cp(memory(), slots_[beams[i].parent], group.slots[i], -1, -1);
        }
    }
}

// After a decode that failed: either the groups are as before it, or they are gone.
void BeamPool::recover(const std::vector<BeamGroup *> &groups, int code) {
    const std::string reason = logged_errors("code " + std::to_string(code));
    if (code < -1) {
        drop_all();
        throw EngineError("llama.cpp failed in a beam search (" + reason +
                          "); all beam searches were dropped, the engine can go on");
    }
    bool restored = code == 2;
    for (const BeamGroup *group : groups) {
        for (const int slot : group->slots) {
            restored = llama_memory_seq_rm(memory(), slot, group->position, -1) && restored;
        }
    }
    if (restored) {
        return;
    }
    for (BeamGroup *group : groups) {
        retire(*group);
    }
    throw EngineError("llama.cpp could not go on with " + std::to_string(groups.size()) + " beam searches (" + reason +
                      "); they were dropped, the engine can go on");
}

bool BeamPool::cancel(int64_t id, std::vector<Event> &events) {
    receive();
    auto *group = const_cast<BeamGroup *>(find(id));
    if (group == nullptr) {
        return false;
    }
    events.push_back(group->end("cancelled"));
    retire(*group);
    shrink();
    return true;
}

void BeamPool::let_adapter_go() {
    if (context_) {
        use_adapter(context_.get(), nullptr);
    }
}

void BeamPool::drop_all() {
    receive();
    for (const auto &group : live_) {
        retired_(*group);
    }
    for (const auto &group : queue_) {
        retired_(*group);
    }
    {
        std::lock_guard<std::mutex> lock(door_);
        waiting_ -= static_cast<int>(queue_.size()); // others may have arrived
    }
    live_.clear();
    queue_.clear();
    context_.reset();
    cells_ = free_cells_ = 0;
}

// Frees the group's cells and ids; the group is destroyed.
void BeamPool::retire(BeamGroup &group) {
    const auto same = [&](const auto &other) { return other.get() == &group; };
    retired_(group);
    const auto live = std::find_if(live_.begin(), live_.end(), same);
    if (live == live_.end()) {
        queue_.erase(std::find_if(queue_.begin(), queue_.end(), same));
        std::lock_guard<std::mutex> lock(door_);
        --waiting_;
        return;
    }
    for (const int slot : group.slots) {
        llama_memory_seq_rm(memory(), slot, -1, -1);
    }
    free_ids_.insert(free_ids_.end(), group.slots.begin(), group.slots.end());
    free_ids_.insert(free_ids_.end(), group.spare.begin(), group.spare.end());
    free_cells_ += group.most_cells();
    live_.erase(live);
}

const BeamGroup *BeamPool::find(int64_t id) const {
    const auto same = [&](const auto &group) { return group->id == id; };
    const auto live = std::find_if(live_.begin(), live_.end(), same);
    if (live != live_.end()) {
        return live->get();
    }
    const auto queued = std::find_if(queue_.begin(), queue_.end(), same);
    if (queued != queue_.end()) {
        return queued->get();
    }
    std::lock_guard<std::mutex> lock(door_);
    const auto arrived = std::find_if(arrived_.begin(), arrived_.end(), same);
    return arrived != arrived_.end() ? arrived->get() : nullptr; // stays there until the next receive()
}

} // namespace personaplug
