// One decode: what goes into the batch, what comes out of it, and the way back when it fails.
#include "engine_pass.h"

#include <algorithm>

#include "error.h"
#include "log.h"

namespace personaplug {

// Who takes part in a pass. Either those that generate (in a step's first pass only) with short pieces of prompts, or
// a long piece, with others of just its length: llama.cpp cuts a batch of unequal lengths at the shortest, and what a
// position meets must not depend on the company (see piece).
std::vector<Sequence *> Engine::company(bool first) const {
    const Sequence *leader = nullptr; // of the long pieces
    bool together = false;
    for (const auto &sequence : live_) {
        if (!has_turn(*sequence)) {
            continue;
        }
        if (sequence->share >= kTile) {
            leader = leader != nullptr ? leader : sequence.get();
        } else {
            together |= sequence->share > 0 || (first && !sequence->prefilling());
        }
    }
    if (first && together) {
        leader = nullptr; // its turn is next, before more short pieces
    }
    // Pieces of one kind only would be unequal again; and where all share cells, a long piece stays alone.
    const auto joins = [&](const Sequence &sequence) {
        return !shared_ && sequence.share == leader->share &&
               (single_pass_ || !sequence.cursor.rows_ahead(sequence.share));
    };
    int room = leader != nullptr ? static_cast<int>(params_.n_ubatch) - leader->share : 0;
    std::vector<Sequence *> found; // in the order of slots, as llama.cpp wants it to share graphs
    for (Sequence *sequence : by_slot_) {
        if (sequence == nullptr || !has_turn(*sequence)) {
            continue;
        }
        if (leader == nullptr) {
            if (sequence->share < kTile) {
                found.push_back(sequence);
            }
        } else if (sequence == leader) {
            found.push_back(sequence);
        } else if (joins(*leader) && joins(*sequence) && room >= sequence->share) {
            found.push_back(sequence);
            room -= sequence->share;
        }
    }
    return found;
}

bool Engine::plan(Pass &pass, bool first, int room) {
    pass.parts.clear();
    pass.prompt_positions = 0;
    if (live_.empty() || (!first && room <= 0)) {
        return false;
    }
    share_room(room);
    const std::vector<Sequence *> taking = company(first);
    bool generating = false;
    bool rows = false;
    const Sequence *oldest = nullptr;
    for (const Sequence *sequence : taking) {
        generating |= first && !sequence->prefilling();
        if (sequence->share > 0) {
            rows |= sequence->cursor.rows_ahead(sequence->share);
            oldest = oldest != nullptr && oldest->id < sequence->id ? oldest : sequence;
        }
    }
    if (!generating && oldest == nullptr) {
        return false;
    }
    // With one pass for all, one row makes all entries rows; else each kind has its turn, those that generate first.
    const bool mixed = single_pass_ && rows;
    const bool by_rows = mixed || (!generating && oldest->cursor.next_kind() == Kind::rows);
    const TokenTable *table = mixed ? model_->table() : nullptr;
    batch_->begin(by_rows ? Kind::rows : Kind::tokens);
    for (Sequence *sequence : taking) {
        if (sequence->share > 0) {
            const PromptCursor before = sequence->cursor;
            const int fed = sequence->cursor.feed(*batch_, sequence->share, sequence->position, sequence->slot,
                                                  PromptCursor::Outputs::last, table);
            if (fed > 0) {
                pass.add(*sequence, batch_->size() - 1, !sequence->prefilling(), before);
                pass.prompt_positions += fed;
                sequence->position += fed;
            }
        } else if (first && !sequence->prefilling()) {
            slide(*sequence);
            pass.add(*sequence, batch_->size(), true);
            if (by_rows) {
                table->read(sequence->next, batch_->add_row(sequence->position, sequence->slot, true));
            } else {
                batch_->add_token(sequence->next, sequence->position, sequence->slot, true);
            }
            ++sequence->position;
        }
    }
    return batch_->size() > 0;
}

// A full context drops the older half of what follows the protected positions.
void Engine::slide(Sequence &sequence) {
    if (!sequence.options.slide || sequence.position < context_size_) {
        return;
    }
    const int begin = sequence.options.protect;
    const int dropped = (sequence.position - begin + 1) / 2;
    llama_memory_t memory = llama_get_memory(context_.get());
    llama_memory_seq_rm(memory, sequence.slot, begin, begin + dropped);
    llama_memory_seq_add(memory, sequence.slot, begin + dropped, -1, -dropped);
    sequence.position -= dropped;
    sequence.slid = true;
    breakable_ = false; // llama.cpp shifts in place at the next decode: half of that could not be taken back
}

void Engine::run(Pass &pass, std::vector<Event> &events) {
    use_adapter(context_.get(), turn_.get());
    const int code = batch_->decode(context_.get());
    if (code != 0) {
        recover(pass, code);
        return;
    }
    std::exception_ptr failure;
    for (const Pass::Part &part : pass.parts) {
        Sequence &sequence = *part.sequence;
        if (sequence.at_mark()) {
            keep_mark(sequence);
        }
        if (!part.output) {
            continue;
        }
        try {
            const float *logits = llama_get_logits_ith(context_.get(), part.index);
            events.push_back(sequence.sample(logits, scratch_));
            keep_for_samples(sequence, logits);
            if (*events.back().finish != '\0') {
                keep_answer(sequence);
                retire(sequence);
            }
        } catch (const NotFiniteError &) {
            drop_all(true);
            throw;
        } catch (const std::exception &) {
            // This sequence cannot go on; the others of the batch can, and their events must not be lost.
            retire(sequence);
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
        if (part.sequence->origin) { // it may be what llama.cpp does not take: the next request computes it again
            prefixes_.drop(part.sequence->origin);
        }
        retire(*part.sequence);
    }
    throw EngineError("llama.cpp could not decode a batch of " + std::to_string(batch_->size()) + " (" +
                      logged_errors("code " + std::to_string(code)) +
                      "); its sequences were dropped, the engine can go on");
}

} // namespace personaplug
