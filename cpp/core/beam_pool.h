// The beam searches that run, in a llama.cpp context of their own: nothing that score(), logits() or ordinary sequences
// do can touch their ids or cells.
//
// The beams of one request share the cells of the prompt and of the tokens that they have in common: a beam is a
// sequence id, and llama_memory_seq_cp lets one more id see a cell. A round frees the cells that no beam sees any more.
// Used by the engine alone, under its lock; submit() needs none.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "beam_group.h"

namespace personaplug {

class BeamPool {
  public:
    // Makes a context in which sequences share cells; throws EngineError.
    using MakeContext = std::function<llama_context_ptr(int64_t cells, int ids)>;
    using Hold = std::function<AdapterHold(const AdapterRef &)>; // loads an adapter; throws AdapterError
    using Retired = std::function<void(const BeamGroup &)>;      // told of every group that ends

    // `least_cells`: of the context, which is made at the first request. For one that needs more a larger one is made,
    // and freed when nothing is left to run.
    BeamPool(const Model &model, MakeContext make, Hold hold, Retired retired, int64_t least_cells);

    // Queues a group; waits for no decode. Throws QueueFullError when `most` wait.
    void submit(std::unique_ptr<BeamGroup> group, int most);
    // One token of all beams of all groups in one decode (more when the batch is smaller), and a batch of the prompt
    // that came first. `single_pass`: rows may stand for tokens. Throws EngineError: the groups that its message tells
    // of are gone.
    void step(Batch &batch, bool single_pass, std::vector<Event> &events);
    // False when it is unknown or has ended. Its last event goes to `events`.
    bool cancel(int64_t id, std::vector<Event> &events);
    void drop_all(); // without events; the context is freed
    void let_adapter_go();

    const BeamGroup *find(int64_t id) const;

  private:
    struct Entry {
        BeamGroup *group;
        int beam;
    };

    void receive();
    void reserve(int64_t cells); // while nothing runs
    void shrink();               // when nothing is left to run
    void admit();
    void expire(std::vector<Event> &events);
    void generate(Batch &batch, std::vector<Event> &events);
    int flush(Batch &batch);
    void prefill(Batch &batch, bool single_pass, std::vector<Event> &events);
    void advance(BeamGroup &group, std::vector<Event> &events);
    void reorder(BeamGroup &group);
    void recover(const std::vector<BeamGroup *> &groups, int code);
    void retire(BeamGroup &group);
    llama_memory_t memory() const { return llama_get_memory(context_.get()); }

    const Model &model_;
    MakeContext make_;
    Hold hold_;
    Retired retired_;
    int64_t least_cells_;
    int64_t cells_ = 0; // of context_
    int64_t free_cells_ = 0;
    std::vector<int> free_ids_;
    llama_context_ptr context_;
    mutable std::mutex door_;                        // held for moments only
    std::deque<std::unique_ptr<BeamGroup>> arrived_; // since the last step
    int waiting_ = 0;                                // arrived or queued
    std::deque<std::unique_ptr<BeamGroup>> queue_;
    std::vector<std::unique_ptr<BeamGroup>> live_; // in order of admission
    std::vector<BeamGroup *> round_;               // those that take part in a decode
    std::vector<Entry> entries_;                   // of the batch
    std::vector<int> slots_;                       // of the round before
};

} // namespace personaplug
