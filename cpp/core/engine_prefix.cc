// What is computed once: kept prefixes, and the one prefill of several answers.
#include "digest.h"
#include "engine.h"
#include "log.h"
#include "state_check.h"

namespace personaplug {

// The cache of a sequence as bytes; "" where llama.cpp cannot give it.
std::string Engine::state_of(int slot) const {
    std::string state(llama_state_seq_get_size(context_.get(), slot), '\0');
    auto *bytes = reinterpret_cast<uint8_t *>(&state[0]);
    if (llama_state_seq_get_data(context_.get(), bytes, state.size(), slot) != state.size()) {
        state.clear();
    }
    return state;
}

// Into an empty slot: the cells of positions 0 to length - 1. False leaves it empty.
bool Engine::restore(int slot, const std::string &state, int length) {
    clear_log();
    const auto *bytes = reinterpret_cast<const uint8_t *>(state.data());
    llama_memory_t memory = llama_get_memory(context_.get());
    if (!state.empty() && llama_state_seq_set_data(context_.get(), bytes, state.size(), slot) == state.size() &&
        llama_memory_seq_pos_min(memory, slot) >= 0 && llama_memory_seq_pos_max(memory, slot) == length - 1) {
        return true;
    }
    llama_memory_seq_rm(memory, slot, -1, -1);
    return false;
}

// Takes over the longest kept prefix of the prompt; what is left is prefilled.
void Engine::reuse(Sequence &sequence) {
    if (!prefixes_.enabled()) {
        return;
    }
    const std::string key = sequence.key();
    if (const auto found = prefixes_.find(sequence.options.owner, key + sequence.prompt->bytes())) {
        if (key.size() + sequence.prompt->bytes_until(found->length) == found->content.size() &&
            restore(sequence.slot, found->state, found->length)) {
            sequence.reuse(found->length);
            sequence.origin = found;
        } else {
            prefixes_.drop(found);
        }
    }
    while (!sequence.marks.empty() && sequence.marks.front().length <= sequence.position) {
        sequence.marks.erase(sequence.marks.begin());
    }
}

void Engine::keep_mark(Sequence &sequence) {
    const Mark mark = sequence.marks.front();
    sequence.marks.erase(sequence.marks.begin());
    keeps_fit_ = keep(sequence, mark.owner, mark.length, false);
}

// A chat's turn: prompt and answer, as far as they were decoded.
void Engine::keep_answer(const Sequence &sequence) {
    if (sequence.options.keep_answer && prefixes_.enabled() && sequence.slot >= 0 && !sequence.slid &&
        !sequence.prefilling()) {
        keep(sequence, sequence.options.owner, sequence.position, true);
    }
}

// False: it does not fit, or there is no memory to take it out of the context. It is computed again then; the sequence,
// and the others of its pass, must not suffer.
bool Engine::keep(const Sequence &sequence, const std::string &owner, int length, bool answer) {
    try {
        Prefix prefix;
        prefix.owner = owner;
        prefix.length = length;
        prefix.answer = answer;
        prefix.content = answer ? sequence.content() : sequence.content_until(length);
        if (!answer && prefixes_.has(owner, prefix.content)) {
            return keeps_fit_;
        }
        prefix.state = state_of(sequence.slot);
        return !prefix.state.empty() && prefixes_.put(std::move(prefix), sequence.epoch);
    } catch (const std::exception &) {
        return false;
    }
}

// After the first token of the sequence that prefills for the others: what they go on from.
void Engine::keep_for_samples(Sequence &sequence, const float *logits) {
    if (!sequence.samples || sequence.samples->leader != sequence.id || !sequence.samples->state.empty()) {
        return;
    }
    if (sequence.samples->waiting > 0 && sequence.position == sequence.prompt->size()) {
        sequence.samples->logits.assign(logits, logits + model_->tokenizer().size());
        sequence.samples->state = state_of(sequence.slot);
    }
}

// Goes on after the prompt that another answer to it has computed; false when none has.
bool Engine::take_sample(Sequence &sequence, std::vector<Event> &events) {
    const auto samples = sequence.samples;
    if (samples->state.empty() || !restore(sequence.slot, samples->state, sequence.prompt->size())) {
        return false;
    }
    sequence.marks.clear();
    sequence.reuse(sequence.prompt->size());
    try {
        events.push_back(sequence.sample(samples->logits.data(), scratch_));
    } catch (...) {
        retire(sequence);
        throw;
    }
    if (samples->waiting == 0) {
        samples->state = std::string();
        samples->logits = std::vector<float>();
    }
    if (*events.back().finish != '\0') {
        keep_answer(sequence);
        retire(sequence);
    }
    return true;
}

// Names all that a state depends on besides the tokens and rows; llama.cpp writes as many parts as there are caches.
std::string Engine::fingerprint() const {
    const std::string &model = model_->fingerprint();
    if (model.empty()) {
        return "";
    }
    return model + "|" PERSONAPLUG_LLAMA_VERSION "|" PERSONAPLUG_LLAMA_COMMIT "|" + cache_kind_ + "|" +
           std::to_string(shared_ ? 1 : sequence_count_);
}

std::string Engine::export_prefix(const std::string &owner) const {
    const auto entries = prefixes_.of(owner);
    const std::string name = entries.empty() ? "" : fingerprint();
    return name.empty() ? "" : write_prefixes(entries, name);
}

bool Engine::import_prefix(const std::string &owner, const std::string &data) {
    const uint64_t epoch = prefixes_.epoch();
    const std::string name = fingerprint();
    if (name.empty()) {
        return false;
    }
    auto prefixes = read_prefixes(data, name, owner);
    size_t bytes = 0;
    for (const Prefix &prefix : prefixes) {
        bytes += prefix.size();
        if (!whole(prefix)) {
            return false;
        }
    }
    if (prefixes.empty() || !prefixes_.holds(bytes)) {
        return false;
    }
    bool all = true;
    for (Prefix &prefix : prefixes) {
        all = prefixes_.put(std::move(prefix), epoch) && all; // if one was forgotten meanwhile, all were
    }
    return all;
}

// Whether its state has the cells that it claims, and no others.
bool Engine::whole(const Prefix &prefix) const {
    StateLayout layout;
    layout.recurrent = model_->is_recurrent();
    layout.attention = !layout.recurrent || llama_model_is_hybrid(model_->handle());
    layout.window = llama_model_n_swa(model_->handle()) > 0;
    layout.extended = model_->positions_per_row() > 1;
    return prefix.length <= context_size_ && holds_positions(prefix.state, prefix.length, layout);
}

} // namespace personaplug
