// One request on its way through the engine: its prompt, its sampler, the text it has made, its times.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "prompt.h"
#include "sampler.h"
#include "stop_matcher.h"
#include "utf8.h"

namespace personaplug {

using Clock = std::chrono::steady_clock;

struct Timings {           // seconds
    int prompt_tokens = 0; // positions of the prompt, rows included
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
    const char *finish = ""; // "" while it goes on; "end", "length", "stop", "cancelled"
};

// Used by the engine alone, under its lock.
class Sequence {
  public:
    // `limit`: tokens to generate at most. Throws what SamplingOptions::check throws.
    Sequence(int64_t id, Prompt prompt, const SamplingOptions &options, const Tokenizer &tokenizer, int limit);

    const int64_t id;
    const Prompt prompt;
    PromptCursor cursor;
    int slot = -1;     // llama.cpp's sequence id while live, -1 while queued
    int position = 0;  // positions in the cache
    int32_t next = -1; // the token that was sampled and is to be decoded; -1 before the first

    bool prefilling() const { return !cursor.done(); }
    int most_positions() const { return prompt.size() + limit_ - 1; } // the last token is not decoded
    void started();
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
    Timings timings_;
    Clock::time_point submitted_ = Clock::now();
    Clock::time_point started_{};
    Clock::time_point first_{};
};

} // namespace personaplug
