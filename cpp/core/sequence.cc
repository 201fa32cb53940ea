#include "sequence.h"

namespace personaplug {
namespace {

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

} // namespace

Sequence::Sequence(int64_t id, Prompt prompt, const SamplingOptions &options, const Tokenizer &tokenizer, int limit)
    : id(id), prompt(std::move(prompt)), cursor(this->prompt), tokenizer_(&tokenizer), sampler_(options, tokenizer),
      stops_(options.stop), limit_(limit), logprobs_(options.logprobs), ignore_end_(options.ignore_end) {
    timings_.prompt_tokens = this->prompt.size();
    for (const auto &span : this->prompt.spans()) {
        for (const int32_t token : span.tokens) {
            sampler_.accept(token, false);
        }
    }
}

void Sequence::started() {
    if (started_ == Clock::time_point{}) {
        started_ = Clock::now();
    }
}

Event Sequence::sample(const float *logits, std::vector<llama_token_data> &scratch) {
    Event event;
    event.sequence = id;
    const auto token = sampler_.sample(logits, scratch);
    note_time();
    if (!token || (!ignore_end_ && tokenizer_->is_end(*token))) {
        finish(event, "end");
        return event;
    }
    ++timings_.generated_tokens;
    event.tokens.push_back(*token);
    if (logprobs_ > 0) {
        Likelihood found = likelihood(logits, tokenizer_->size(), *token, logprobs_);
        event.logprobs.push_back(found.chosen);
        event.top.push_back(std::move(found.top));
    }
    sampler_.accept(*token, true);
    event.text = stops_.push(utf8_.push(tokenizer_->piece(*token, false)));
    if (stops_.matched()) {
        event.finish = "stop";
    } else if (timings_.generated_tokens >= limit_) {
        finish(event, "length");
    }
    next = *token;
    return event;
}

Event Sequence::end(const char *reason) {
    Event event;
    event.sequence = id;
    finish(event, reason);
    return event;
}

void Sequence::finish(Event &event, const char *reason) {
    event.finish = reason;
    event.text += stops_.push(utf8_.flush());
    event.text += stops_.flush();
}

void Sequence::note_time() {
    const auto now = Clock::now();
    if (first_ == Clock::time_point{}) {
        first_ = now;
        timings_.prompt_seconds = seconds(now - started_);
        timings_.first_token_seconds = seconds(now - submitted_);
    }
    timings_.decode_seconds = seconds(now - first_);
}

} // namespace personaplug
