#include "beam_group.h"

#include <utility>

namespace personaplug {
namespace {

BeamVocabulary vocabulary_of(const Tokenizer &tokenizer) {
    return {tokenizer.size(), tokenizer.ends(), [&](int32_t token) { return tokenizer.piece(token, false); }};
}

} // namespace

BeamGroup::BeamGroup(int64_t id, Prompt prompt, const BeamOptions &options, const Tokenizer &tokenizer, int limit,
                     std::optional<double> deadline)
    : id(id), prompt(std::move(prompt)), width(options.beams), cursor(this->prompt),
      search(options, vocabulary_of(tokenizer), limit), limit_(limit), deadline_(deadline) {
    timings_.prompt_tokens = this->prompt.size();
}

int64_t BeamGroup::most_cells() const {
    return prompt.size() + static_cast<int64_t>(width) * (limit_ - 1); // the last tokens are not decoded
}

void BeamGroup::started() {
    if (started_ == Clock::time_point{}) {
        started_ = Clock::now();
    }
}

void BeamGroup::note_round() {
    const auto now = Clock::now();
    if (first_ == Clock::time_point{}) {
        first_ = now;
        timings_.prompt_seconds = seconds(now - started_);
        timings_.first_token_seconds = seconds(now - submitted_);
    }
    timings_.decode_seconds = seconds(now - first_);
    timings_.generated_tokens = search.length();
}

Event BeamGroup::end(const char *reason) const {
    Event event;
    event.sequence = id;
    event.hypotheses = search.best();
    event.timings = timings_;
    event.finish = *reason != '\0' || event.hypotheses.empty() ? reason : event.hypotheses.front().finish;
    return event;
}

} // namespace personaplug
