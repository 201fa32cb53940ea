// The engine: many requests over one llama.cpp context.
//
// Threads: every method may be called from any thread. submit(), live() and all that concerns kept prefixes never wait
// for a decode; the others take turns. cancel() and reset() break off a decode that is under way on another thread.
// Continuous batching: sequences join and leave between steps; a step decodes one token of each sequence that generates
// and feeds prompts in chunks, so that a long prompt stalls neither those that generate nor shorter prompts.
// Order: of the owners with the fewest running requests the first to arrive. Where cells are pooled, a request that
// finds too few lets others pass only so often.
//
// What is promised: the same requests with the same seeds, submitted in the same order between the same steps (to an
// idle engine, where cells are pooled), give the same answers bit for bit. In other company sums are split otherwise
// and round otherwise: log-probabilities agree within the tolerance that tests/unit/test_engine_company.py states for
// each kind of cache (5e-5 with float32), so a greedy answer can differ only where two tokens tie within it, and a
// drawn one only where the draw falls within it of a border. With Q8_0 weights they were the same bits in any company
// (measured, x86-64), but for this: of a sequence alone with more than 256 positions, llama.cpp's flash attention
// splits the keys among the threads (ops.cpp, use_split_kv_path), and with several threads log-probabilities moved by
// up to .2. In a pool the order of the cells depends on the company, too: .2 with flash attention or quantized weights.
//
// After a failure: an exception from submit() changed nothing. One from step(), score() or logits() says in its message
// which sequences were dropped; the engine can go on.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "adapters.h"
#include "batch.h"
#include "beam_pool.h"
#include "model.h"
#include "prefix_cache.h"
#include "request_options.h"
#include "sequence.h"

namespace personaplug {

struct EngineOptions {
    int context = 0;       // positions a sequence may take, prompt and answer; 0: what the model was trained with
    int batch = 512;       // entries decoded together at most
    int micro_batch = 512; // of these, at once in one graph
    int threads = 0;       // for single tokens; 0: physical cores
    int threads_batch = 0; // for prompts; 0: as threads
    int sequences = 1;     // live at once; the others queue
    // 0: `context` cells for each sequence, the fastest. More: one pool for all; less memory when few answers grow
    // long, but on a CPU every token pays for the cells of all.
    int cells = 0;
    int queue = 1024;                     // requests that wait at most
    size_t prefix_bytes = 256u << 20;     // kept prefixes; 0: none
    size_t adapter_bytes = 256u << 20;    // of LoRA adapters that stay loaded; those in use always do
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
    int live() const { return alive_; }   // sequences that are queued or running
    bool is_live(int64_t sequence) const; // queued, running, or with events that the next step gives
    // Whether rows read from the token table give the logits that token ids give, so that mixed prompts go in one pass.
    bool single_pass() const { return single_pass_; }

    // Queues a request. Throws QueueFullError, PromptError, DimensionError, ContextFullError, SamplingError,
    // GrammarError, AdapterError.
    int64_t submit(Prompt prompt, const SamplingOptions &sampling, const RequestOptions &options = {});
    // Queues `count` answers to one prompt, which is prefilled once. Answer i is the one that submit() gives with the
    // seed + i; without a seed each has its own.
    std::vector<int64_t> submit_samples(Prompt prompt, const SamplingOptions &sampling, int count,
                                        const RequestOptions &options = {});
    // Queues a beam search, in a queue of its own: one event with the hypotheses when it ends. Of the options the
    // deadline and the adapter count. Throws as submit(); ContextFullError also when the beams would take too much
    // memory.
    int64_t submit_beams(Prompt prompt, const BeamOptions &beams, const RequestOptions &options = {});
    // What happened in one round; empty when idle. Throws EngineError or GrammarError.
    std::vector<Event> step();
    // Ends a sequence and frees its cells; an unknown or finished one is no error. Its "cancelled" event comes with the
    // next step.
    void cancel(int64_t sequence);
    // Drops all sequences, queued events and the cache; kept prefixes stay.
    void reset();
    // Of a sequence, or of one of the last 256 that finished. Throws PromptError for another.
    Timings timings(int64_t sequence) const;

    // Forgets what is kept of an owner, or with "" what is common to all, and what running requests would keep of it.
    void forget_prefixes(const std::string &owner) { prefixes_.forget(owner); }
    PrefixStats prefix_stats() const { return prefixes_.stats(); }
    // What is kept of an owner, for import_prefix() of an engine with the same model and cache; "" when nothing is.
    std::string export_prefix(const std::string &owner) const;
    // False, and nothing taken in, when the bytes are damaged, were exported by another format, llama.cpp, model or
    // kind of cache, hold other cells than those of their positions, or do not fit `prefix_bytes`. The bytes' digest
    // tells damage, not forgery: they can make the answers of this owner wrong, and nobody else's.
    bool import_prefix(const std::string &owner, const std::string &data);

    // Names a file for RequestOptions::adapter, which may also be a path. Throws AdapterError when it cannot be run.
    void add_adapter(const std::string &name, const std::string &path) { adapters_.add(name, path); }
    AdapterStats adapter_stats() const { return adapters_.stats(); }

    // log p(token | prompt, tokens before) for each token of each continuation. The prompt is prefilled once and its
    // cache shared.
    std::vector<std::vector<float>> score(const Prompt &prompt, const std::vector<std::vector<int32_t>> &continuations,
                                          const RequestOptions &options = {});
    // Logits after every position: (prompt.size(), vocabulary) floats, row-major.
    std::vector<float> logits(const Prompt &prompt, const RequestOptions &options = {});
    // Called between the batches of score() and logits() on the calling thread; an exception from it ends them.
    std::function<void()> interruption;

  private:
    friend class Scratch;
    friend class Scorer;
    class Pass;
    static constexpr int kTile = 64; // rows of llama.cpp's tiles (ggml-cpu/common.h, GGML_FA_TILE_Q)
    using Queue = std::deque<std::unique_ptr<Sequence>>;

    // engine_submit.cc: from outside into the queue
    void check_slide(const RequestOptions &options) const;
    std::vector<Mark> marks_of(const Prompt &prompt, const RequestOptions &options, const AdapterRef &adapter) const;
    int window_of(const Prompt &prompt, int asked, int limit, bool slide) const;
    void check_room(int count) const;
    AdapterRef adapter_of(const RequestOptions &options);
    void receive();

    // engine_schedule.cc: who runs, and in which slot
    void end_overdue(std::vector<Event> &events);
    void admit(std::vector<Event> &events);
    Queue::iterator choose();
    bool fits(const Sequence &sequence) const;
    bool waits_for_another(const Sequence &sequence) const;
    void begin(Sequence &sequence, std::vector<Event> &events);
    int64_t claimed_cells() const;
    void close_gaps();
    bool move(Sequence &sequence, int slot);
    int piece(const Sequence &sequence, int room, bool forced) const;
    void share_room(int room);

    // engine_adapters.cc: whose adapter a decode runs with
    void let_adapters_go();
    void choose_turn();
    bool has_turn(const Sequence &sequence) const;

    // engine_pass.cc: one decode
    std::vector<Sequence *> company(bool first) const;
    bool plan(Pass &pass, bool first, int room);
    void run(Pass &pass, std::vector<Event> &events);
    void recover(Pass &pass, int code);
    void slide(Sequence &sequence);

    // engine_prefix.cc: what is computed once
    std::string state_of(int slot) const;
    bool restore(int slot, const std::string &state, int length);
    void reuse(Sequence &sequence);
    bool take_sample(Sequence &sequence, std::vector<Event> &events);
    void keep_mark(Sequence &sequence);
    void keep_answer(const Sequence &sequence);
    bool keep(const Sequence &sequence, const std::string &owner, int length, bool answer);
    void keep_for_samples(Sequence &sequence, const float *logits);
    std::string fingerprint() const;
    bool whole(const Prefix &prefix) const;

    // engine.cc: a step, and the end of sequences
    void decode_all(std::vector<Event> &events);
    void retire(Sequence &sequence);
    void leave(const Sequence &sequence);
    void remember(int64_t id, const Timings &timings);
    Sequence *find(int64_t id) const; // arrived, queued or running, else nullptr
    void drop_all(bool wipe = false); // wipe: the cache's data too, and what was kept of it

    // engine_beams.cc
    void check_beams(const BeamGroup &group, const BeamOptions &beams) const;
    void make_beam_pool();

    // scorer.cc
    void prefill(const Prompt &prompt, int slot, PromptCursor::Outputs outputs,
                 const std::function<void(int, const float *)> &sink);
    void score_locked(const Prompt &prompt, const std::vector<std::vector<int32_t>> &continuations,
                      std::vector<std::vector<float>> &scores);
    void check_fits(const Prompt &prompt, int more) const;
    int free_cells();
    int most_at_once();

    // engine_setup.cc
    void read_options(const EngineOptions &options);
    int64_t cache_bytes(int64_t cells) const;
    llama_context_ptr make_context(int64_t cells, int sequences, bool pooled) const;
    llama_context *side(); // where score() and logits() work
    int first_scratch();
    void wipe_side(); // after logits that were not finite
    void probe();

    std::unique_lock<std::mutex> lock_breaking_off();
    static bool wants_abort(void *engine);

    std::shared_ptr<const Model> model_; // before context_: a context dies before its model
    int context_size_ = 0;
    int sequence_count_ = 1;
    int queue_size_ = 0;
    int64_t pool_ = 0;    // cells shared by all sequences; 0: each has its own
    bool shared_ = true;  // one context for generating and scoring
    bool slides_ = false; // positions in the cache can be shifted
    std::string cache_kind_;
    llama_context_params params_{};
    int scratch_count_ = 0;
    int outputs_ = 0; // logits rows one decode may ask for
    bool single_pass_ = false;
    std::atomic<int> breaking_off_{0};   // cancels and resets that wait for the lock
    std::atomic<bool> breakable_{false}; // score(), logits() and shifts have no state to go back to
    llama_context_ptr context_;
    // For scoring. Where the context is not shared, made at the first score(); else for as long as one lasts that the
    // running sequences leave too few cells.
    llama_context_ptr side_;
    std::unique_ptr<Batch> batch_;
    int batch_size_ = 0;
    AdapterStore adapters_;
    std::unique_ptr<BeamPool> beams_;
    PrefixCache prefixes_;
    bool keeps_fit_ = true; // the last prefix that was to be kept did fit the cache

    std::atomic<int64_t> next_id_{1};
    std::atomic<int> alive_{0}; // arrived, queued, running; beam searches too
    mutable std::mutex door_;   // arrived_, waiting_; held for moments only, inside mutex_ where both are
    Queue arrived_;             // since the last step
    int waiting_ = 0;           // arrived and queued

    mutable std::mutex mutex_; // all that follows, and the contexts
    Queue queue_;
    std::vector<std::unique_ptr<Sequence>> live_; // in order of admission
    std::vector<Sequence *> by_slot_;             // nullptr: free
    std::set<int> free_slots_;
    AdapterHold turn_; // the adapter that the next decode runs with; nullptr: none
    int turn_left_ = 0;
    uint64_t tick_ = 0;                            // steps
    std::unordered_map<std::string, int> running_; // requests of each owner
    std::exception_ptr failed_;                    // why a sequence could not begin; thrown at the end of the step
    std::vector<Event> pending_;                   // events of before an exception, and of cancel()
    std::map<int64_t, Timings> finished_;
    std::deque<int64_t> ended_; // keys of finished_, oldest first
    std::vector<llama_token_data> scratch_;
};

} // namespace personaplug
