// One request on its way through the engine: its prompt, its sampler, the text it has made, its times.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adapters.h"
#include "beam_search.h"
#include "prefix_cache.h"
#include "prompt.h"
#include "request_options.h"
#include "sampler.h"
#include "stop_matcher.h"
#include "utf8.h"

namespace personaplug {

using Clock = std::chrono::steady_clock;

struct Timings {           // seconds
    int prompt_tokens = 0; // positions of the prompt, rows included
    int reused_tokens = 0; // of these, taken from a kept prefix or from another answer to the same prompt
    int generated_tokens = 0;
    double prompt_seconds = 0.0;      // from the first prefill to the logits after the prompt
    double first_token_seconds = 0.0; // from submit() to the first token
    double decode_seconds = 0.0;      // from the first token to the last
};

struct Event {
    int64_t sequence = 0;
    std::string text; // whole UTF-8 characters; what could begin a stop string is held back
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;                             // one a token, when asked for
    std::vector<std::vector<std::pair<int32_t, float>>> top; // one list a token, when asked for
    const char *finish = "";            // "" while it goes on; "end", "length", "stop", "cancelled", "deadline"
    std::vector<Hypothesis> hypotheses; // of a beam search, best first, in its one event
    Timings timings;                    // in the last event
};

// Several answers to one prompt. The first to be admitted prefills it; the others wait, and go on from what it kept.
struct Samples {
    int waiting = 0;    // in the queue
    int64_t leader = 0; // the one that prefills; 0: none yet, or it was cancelled before it was done
    std::string state;  // after the prompt; "" until the leader is there
    std::vector<float> logits;
};

// A prompt length at which the cache's content is to be kept.
struct Mark {
    int length;
    std::string owner;
    uint64_t hash; // of owner and content: two requests that are about to compute the same
};

// Used by the engine alone, under its lock.
class Sequence {
  public:
    // `limit`: tokens to generate at most. Throws what SamplingOptions::check throws.
    Sequence(int64_t id, std::shared_ptr<const Prompt> prompt, const SamplingOptions &sampling,
             const RequestOptions &options, const Tokenizer &tokenizer, int limit);

    const int64_t id;
    const std::shared_ptr<const Prompt> prompt;
    const RequestOptions options;
    PromptCursor cursor;
    int slot = -1;                        // llama.cpp's sequence id while live, -1 while queued
    int position = 0;                     // positions in the cache
    int32_t next = -1;                    // the token that was sampled and is to be decoded; -1 before the first
    int share = 0;                        // positions of its prompt that the next pass may take
    int overtaken = 0;                    // how often others were admitted before it because it found too few cells
    bool slid = false;                    // its cache no longer begins with its prompt
    uint64_t epoch = 0;                   // of the kept prefixes, when it was submitted
    AdapterRef adapter;                   // nullptr: none
    AdapterHold weights;                  // of the adapter, while live
    uint64_t served = 0;                  // the step that last had its adapter's turn, or that admitted it
    std::shared_ptr<const Prefix> origin; // the kept prefix it went on from, if any
    std::vector<Mark> marks;              // ahead, ascending
    std::shared_ptr<Samples> samples;     // with the other answers to the same prompt, if any

    bool prefilling() const { return !cursor.done(); }
    // Positions of the prompt until its end or the next mark.
    int until_mark() const { return marks.empty() ? cursor.left() : marks.front().length - position; }
    bool at_mark() const { return !marks.empty() && marks.front().length == position; }
    // Positions it takes at most in a context of `context`; the last token is not decoded.
    int most_positions(int context) const;
    // In front of what is kept of it: keys and values depend on the adapter.
    std::string key() const { return adapter ? adapter->key() : std::string(); }
    // key() and the first positions of its prompt, as Prompt::bytes() has them.
    std::string content_until(int length) const {
        return key() + prompt->bytes().substr(0, prompt->bytes_until(length));
    }
    // key() and what its cache holds, as Prompt::bytes() has it; only with keep_answer, and only until it has slid.
    std::string content() const;
    bool overdue(Clock::time_point now) const { return options.deadline && now >= deadline_; }

    void started();
    // Goes on after `count` positions of the prompt that are in the cache.
    void reuse(int count);
    // Samples from `logits`, and tells what happened; event.finish is set when the sequence is done.
    Event sample(const float *logits, std::vector<llama_token_data> &scratch);
    // The last event of a sequence that ends otherwise.
    Event end(const char *reason);
    Timings timings() const { return timings_; }

  private:
    void note_time();
    void finish(Event &event, const char *reason);

    const Tokenizer *tokenizer_;
    Sampler sampler_;
    StopMatcher stops_;
    Utf8Assembler utf8_;
    int limit_;
    int logprobs_;
    bool ignore_end_;
    std::vector<int32_t> answer_; // with keep_answer
    Timings timings_;
    Clock::time_point submitted_ = Clock::now();
    Clock::time_point deadline_{};
    Clock::time_point started_{};
    Clock::time_point first_{};
};

} // namespace personaplug
