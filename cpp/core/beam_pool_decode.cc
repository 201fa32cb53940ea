// The decodes of the beam searches: the groups' last tokens, prompts, and how beams follow each other.
#include "beam_pool.h"

#include <algorithm>

#include "error.h"
#include "log.h"

namespace personaplug {

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

} // namespace personaplug
