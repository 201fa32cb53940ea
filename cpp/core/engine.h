// The engine: many requests over one llama.cpp context.
//
// Threads: every method may be called from any thread; one lock makes them take turns. cancel() and reset() break off a
// decode that is under way on another thread.
// Continuous batching: sequences join and leave between steps; a step decodes one token of each sequence that generates
// and fills the rest of the batch with prompts, so that a long prompt does not stall the others for more than a batch.
// After a failure: an exception from submit() changed nothing. One from step(), score() or logits() says in its message
// which sequences were dropped; the engine can go on.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "batch.h"
#include "model.h"
#include "sequence.h"

namespace personaplug {

struct EngineOptions {
    int context = 0;       // positions a sequence may take, prompt and answer; 0: what the model was trained with
    int batch = 512;       // entries decoded together at most
    int micro_batch = 512; // of these, at once in one graph
    int threads = 0;       // for single tokens; 0: physical cores
    int threads_batch = 0; // for prompts; 0: as threads
    int sequences = 1;     // live at once; the others queue. Memory: context * sequences cells
    std::string cache_type = "f16";       // "f16", "f32", "q8_0"
    std::string flash_attention = "auto"; // "auto", "on", "off"
};

class Engine {
  public:
    // Throws EngineError (an option out of range, no memory) or ModelError (the model keeps no cache to generate with).
    Engine(std::shared_ptr<const Model> model, const EngineOptions &options);
    ~Engine();

    const Model &model() const { return *model_; }
    int context() const { return context_size_; }
    int sequences() const { return sequence_count_; }
    int live() const;                     // sequences that are queued or running
    bool is_live(int64_t sequence) const; // queued, running, or with events that the next step gives
    // Whether rows read from the token table give the logits that token ids give, so that mixed prompts go in one pass.
    bool single_pass() const { return single_pass_; }

    // Queues a request. Throws PromptError, DimensionError, ContextFullError, SamplingError, GrammarError.
    int64_t submit(Prompt prompt, const SamplingOptions &options);
    // What happened in one round; empty when idle. Throws EngineError or GrammarError.
    std::vector<Event> step();
    // Ends a sequence and frees its cells; an unknown or finished one is no error. Its "cancelled" event comes with the
    // next step.
    void cancel(int64_t sequence);
    // Drops all sequences, queued events and the cache.
    void reset();
    // Of a sequence, or of one of the last 256 that finished. Throws PromptError for another.
    Timings timings(int64_t sequence) const;

    // log p(token | prompt, tokens before) for each token of each continuation. The prompt is prefilled once and its
    // cache shared.
    std::vector<std::vector<float>> score(const Prompt &prompt, const std::vector<std::vector<int32_t>> &continuations);
    // Logits after every position: (prompt.size(), vocabulary) floats, row-major.
    std::vector<float> logits(const Prompt &prompt);
    // Called between the batches of score() and logits() on the calling thread; an exception from it ends them.
    std::function<void()> interruption;

  private:
    friend class Scratch;
    friend class Scorer;
    class Pass;

    void admit();
    bool plan(Pass &pass, bool first, int room);
    void run(Pass &pass, std::vector<Event> &events);
    void recover(Pass &pass, int code);
    void retire(Sequence &sequence);
    void remember(const Sequence &sequence);
    Sequence *find(int64_t id) const;   // queued or running, else nullptr
    void drop_all(bool wipe = false);   // wipe: the cache's data too
    int decode(llama_context *context); // batch_, with exceptions as code -4
    void prefill(const Prompt &prompt, int slot, PromptCursor::Outputs outputs,
                 const std::function<void(int, const float *)> &sink);
    void score_locked(const Prompt &prompt, const std::vector<std::vector<int32_t>> &continuations,
                      std::vector<std::vector<float>> &scores);
    void check_fits(const Prompt &prompt, int more) const;
    int free_cells();
    llama_context_ptr make_context(int64_t cells, int sequences, bool pooled) const;
    llama_context *side(); // where score() and logits() work
    void wipe_side();      // after logits that were not finite
    void probe();
    std::unique_lock<std::mutex> lock_breaking_off();
    static bool wants_abort(void *engine);

    std::shared_ptr<const Model> model_; // before context_: a context dies before its model
    int context_size_ = 0;
    int sequence_count_ = 1;
    bool shared_ = true; // one context for generating and scoring
    llama_context_params params_{};
    int first_scratch_ = 0; // llama.cpp sequence ids from here on are for score() and logits()
    int scratch_count_ = 0;
    int outputs_ = 0; // logits rows one decode may ask for
    bool single_pass_ = false;
    std::atomic<int> breaking_off_{0};  // cancels and resets that wait for the lock
    std::atomic<bool> stepping_{false}; // score() and logits() are not broken off: they have no state to go back to
    llama_context_ptr context_;
    llama_context_ptr side_; // scoring, when sequences have cells of their own; made at the first score()
    std::unique_ptr<Batch> batch_;
    int batch_size_ = 0;

    mutable std::mutex mutex_;
    int64_t next_id_ = 1;
    std::deque<std::unique_ptr<Sequence>> queue_;
    std::vector<std::unique_ptr<Sequence>> live_; // in order of admission
    std::vector<int> free_slots_;
    std::vector<Event> pending_; // events of before an exception, and of cancel()
    std::map<int64_t, Timings> finished_;
    std::deque<int64_t> ended_; // keys of finished_, oldest first
    std::vector<llama_token_data> scratch_;
};

} // namespace personaplug
