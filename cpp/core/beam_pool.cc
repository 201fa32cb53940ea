#include "beam_pool.h"

#include <algorithm>
#include <iterator>

#include "error.h"

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
