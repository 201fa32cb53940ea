#include "sequence.h"

#include <algorithm>

namespace personaplug {
namespace {

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

} // namespace

Sequence::Sequence(int64_t id, std::shared_ptr<const Prompt> asked, const SamplingOptions &sampling,
                   const RequestOptions &options, const Tokenizer &tokenizer, int limit)
    : id(id), prompt(std::move(asked)), options(options), cursor(*prompt), tokenizer_(&tokenizer),
      sampler_(sampling, tokenizer), stops_(sampling.stop), limit_(limit), logprobs_(sampling.logprobs),
      ignore_end_(sampling.ignore_end) {
    timings_.prompt_tokens = prompt->size();
    if (options.deadline) {
        deadline_ =
            submitted_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(*options.deadline));
    }
    for (const auto &span : prompt->spans()) {
        for (const int32_t token : span.tokens) {
            sampler_.accept(token, false);
        }
    }
}

int Sequence::most_positions(int context) const {
    return static_cast<int>(std::min<int64_t>(context, static_cast<int64_t>(prompt->size()) + limit_ - 1));
}

std::string Sequence::content() const {
    const int decoded = position - prompt->size();
    std::string content = key() + prompt->bytes();
    for (int i = 0; i < decoded; ++i) {
        content += Prompt::bytes_of(answer_[i]);
    }
    return content;
}

void Sequence::reuse(int count) {
    cursor.skip(count);
    position = count;
    timings_.reused_tokens = count;
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
    if (options.keep_answer) {
        answer_.push_back(*token);
    }
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
        event.timings = timings_;
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
    event.timings = timings_;
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
