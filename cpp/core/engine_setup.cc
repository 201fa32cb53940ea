// Making and unmaking an engine: options, the llama.cpp context, the probe.
#include <algorithm>
#include <cmath>
#include <future>

#include "engine.h"
#include "error.h"
#include "log.h"
#include "require.h"
#include "threads.h"

namespace personaplug {
namespace {

constexpr int kMostSequences = 128;
// Sequence ids beside these for score() and logits(): one for the prompt, the others for continuations at once. An id
// costs vocabulary * 4 bytes of logits (llama.cpp writes to all of them), and in recurrent models a whole state.
constexpr int kScratch = 16;
constexpr int kRecurrentScratch = 4;
constexpr int kOutputs = 64; // logits rows of one decode, as dear as ids
constexpr int kProbe = 8;    // cells enough for probe()
constexpr float kSameLogits = 1e-3f;

constexpr int64_t kSmallCache = 64 << 20; // bytes that may be spent twice

constexpr int kMostPositions = 1 << 24;

ggml_type cache_type(const std::string &name) {
    if (name == "f16") {
        return GGML_TYPE_F16;
    }
    if (name == "f32") {
        return GGML_TYPE_F32;
    }
    if (name == "q8_0") {
        return GGML_TYPE_Q8_0;
    }
    throw EngineError("cache_type must be f16, f32 or q8_0, got " + name);
}

llama_flash_attn_type flash_attention(const std::string &name) {
    if (name == "auto") {
        return LLAMA_FLASH_ATTN_TYPE_AUTO;
    }
    if (name == "on") {
        return LLAMA_FLASH_ATTN_TYPE_ENABLED;
    }
    if (name == "off") {
        return LLAMA_FLASH_ATTN_TYPE_DISABLED;
    }
    throw EngineError("flash_attention must be auto, on or off, got " + name);
}

} // namespace

Engine::Engine(std::shared_ptr<const Model> model, const EngineOptions &options)
    : model_(std::move(model)), adapters_(model_, options.adapter_bytes, [this] { let_adapters_go(); }),
      prefixes_(options.prefix_bytes) {
    read_options(options);
    scratch_count_ = model_->is_recurrent() ? kRecurrentScratch : kScratch;
    // Sequences with cells of their own are attended to one by one; in one pool each pays for the cells of all.
    const int64_t cells = pool_ > 0 ? pool_ : static_cast<int64_t>(context_size_) * sequence_count_;
    context_ = make_context(cells, sequence_count_ + (shared_ ? scratch_count_ : 0), shared_);
    llama_memory_t memory = llama_get_memory(context_.get());
    if (memory == nullptr) {
        throw ModelError("this model keeps no cache (architecture " + model_->architecture() +
                         "): it is an encoder and cannot generate text");
    }
    slides_ = llama_memory_can_shift(memory) && !model_->is_recurrent() && model_->positions_per_row() == 1;
    batch_size_ = static_cast<int>(llama_n_batch(context_.get()));
    outputs_ = std::min(batch_size_, kOutputs);
    batch_ = std::make_unique<Batch>(batch_size_, model_->embedding_width(), model_->positions_per_row());
    scratch_.reserve(model_->tokenizer().size());
    by_slot_.resize(sequence_count_);
    for (int slot = 0; slot < sequence_count_; ++slot) {
        free_slots_.insert(slot);
    }
    make_beam_pool();
    if (!shared_) {
        side_ = make_context(kProbe, 1, true);
    }
    // On a thread that ends: OpenMP keeps a team of threads for each thread that ever decoded, and where these teams
    // together are more than the cores its waits become slow for all.
    std::async(std::launch::async, [this] { probe(); }).get();
    side_.reset(); // made again, larger, when somebody scores
}

void Engine::read_options(const EngineOptions &options) {
    // Above this llama.cpp works for half a minute before it finds that there is no memory.
    require<EngineError>(options.context >= 0 && options.context <= kMostPositions, "context",
                         "0 (the model's own) to " + std::to_string(kMostPositions), options.context);
    require<EngineError>(options.batch >= 1 && options.batch <= 65536, "batch", "1 to 65536", options.batch);
    require<EngineError>(options.micro_batch >= 1, "micro_batch", "at least 1", options.micro_batch);
    require<EngineError>(options.threads >= 0 && options.threads <= 512, "threads", "0 (physical cores) to 512",
                         options.threads);
    require<EngineError>(options.threads_batch >= 0 && options.threads_batch <= 512, "threads_batch",
                         "0 (as threads) to 512", options.threads_batch);
    require<EngineError>(options.sequences >= 1 && options.sequences <= kMostSequences, "sequences",
                         "1 to " + std::to_string(kMostSequences), options.sequences);
    require<EngineError>(options.cells >= 0 && options.cells <= kMostPositions, "cells",
                         "0 (each sequence has its own) to " + std::to_string(kMostPositions), options.cells);
    require<EngineError>(options.queue >= 1, "queue", "at least 1", options.queue);
    context_size_ = options.context > 0 ? options.context : std::max(1, model_->train_context());
    sequence_count_ = options.sequences;
    queue_size_ = options.queue;
    pool_ = options.cells;
    context_size_ = static_cast<int>(pool_ > 0 ? std::min<int64_t>(pool_, context_size_) : context_size_);
    const int64_t cells = pool_ > 0 ? pool_ : static_cast<int64_t>(context_size_) * sequence_count_;
    require<EngineError>(cells <= (1 << 30), "context * sequences", "at most 2^30", cells);
    cache_kind_ = options.cache_type + " " + options.flash_attention;

    params_ = llama_context_default_params();
    params_.n_batch = static_cast<uint32_t>(std::min<int64_t>(std::max(options.batch, sequence_count_), cells));
    params_.n_ubatch = std::min<uint32_t>(options.micro_batch, params_.n_batch);
    params_.n_threads = options.threads > 0 ? options.threads : physical_cores();
    params_.n_threads_batch = options.threads_batch > 0 ? options.threads_batch : params_.n_threads;
    params_.type_k = params_.type_v = cache_type(options.cache_type);
    params_.flash_attn_type = flash_attention(options.flash_attention);
    params_.abort_callback = wants_abort;
    params_.abort_callback_data = this;
    params_.no_perf = true;

    // Where ids share cells, llama.cpp compares all of its 256 with each other at every decode, which tells where a
    // decode is short. A single sequence of a small cache does without; scoring then has a context of its own.
    const bool small = cache_bytes(cells) <= kSmallCache;
    shared_ = pool_ > 0 || model_->is_recurrent() || (sequence_count_ == 1 && !small);
}

// Of keys and values in so many cells, as far as their width can be told from the heads.
int64_t Engine::cache_bytes(int64_t cells) const {
    const llama_model *model = model_->handle();
    const int64_t heads = std::max(1, llama_model_n_head(model));
    const int64_t width = static_cast<int64_t>(llama_model_n_embd(model)) * llama_model_n_head_kv(model) / heads;
    const int64_t layers = llama_model_n_layer(model);
    const auto type = params_.type_k;
    return 2 * layers * cells * width * static_cast<int64_t>(ggml_type_size(type)) / ggml_blck_size(type);
}

Engine::~Engine() = default;

// pooled: all sequences share the cells and each other's prefixes, as score() needs it.
llama_context_ptr Engine::make_context(int64_t cells, int sequences, bool pooled) const {
    llama_context_params params = params_;
    params.n_ctx = static_cast<uint32_t>(cells);
    params.n_seq_max = sequences;
    params.kv_unified = pooled;
    if (pooled && llama_model_n_swa(model_->handle()) > 0) {
        // A pool's cache of the sliding window is made for one graph more than the windows: with more graphs a decode,
        // the first ones lose what they have yet to look at (wrong logits, measured).
        params.n_ubatch = std::max<uint32_t>(params.n_ubatch, sequence_count_);
        params.n_batch = params.n_ubatch;
    }
    // llama.cpp asserts that a decode asks for no more logits rows than this, and that it is no less than n_seq_max.
    params.n_outputs_max = std::max<uint32_t>(sequences, std::min<uint32_t>(params.n_batch, kOutputs));
    clear_log();
    llama_context_ptr context;
    try {
        context.reset(llama_init_from_model(model_->handle(), params));
    } catch (const std::exception &failure) {
        throw EngineError(std::string("cannot make a llama.cpp context: ") + failure.what());
    }
    if (!context) {
        throw EngineError("cannot make a llama.cpp context of " + std::to_string(cells) +
                          " cells: " + logged_errors("llama.cpp gave no reason") + "; try a smaller context");
    }
    return context;
}

llama_context *Engine::side() {
    if (shared_ && !side_) {
        return context_.get();
    }
    if (!side_) {
        side_ = make_context(context_size_, scratch_count_, true);
    }
    return side_.get();
}

// llama.cpp's sequence ids from here on are for score() and logits().
int Engine::first_scratch() { return side() == context_.get() ? sequence_count_ : 0; }

// Rows skip what a graph does to token ids (Gemma's scale, per-layer embeddings). Try it.
void Engine::probe() {
    if (model_->table() == nullptr || !model_->takes_rows() || context_size_ < 4 || batch_size_ < 4) {
        return;
    }
    const int size = model_->tokenizer().size();
    const std::vector<int32_t> ids{size / 2, size / 3, size - 1, size / 5};
    Prompt tokens;
    Prompt rows;
    tokens.add_tokens(ids);
    rows.add_rows(model_->embedding_rows(ids), 4, model_->embedding_width());
    std::vector<float> by_id;
    std::vector<float> by_row;
    try {
        by_id = logits(tokens);
        by_row = logits(rows);
    } catch (const NotFiniteError &) {
        return; // a damaged file: whoever uses it is told
    }
    float largest = 0.0f;
    float difference = 0.0f;
    for (size_t i = 0; i < by_id.size(); ++i) {
        if (!std::isfinite(by_id[i]) || !std::isfinite(by_row[i])) {
            continue; // some models give -inf to tokens that are never to come
        }
        largest = std::max(largest, std::fabs(by_id[i]));
        difference = std::max(difference, std::fabs(by_id[i] - by_row[i]));
    }
    single_pass_ = difference <= kSameLogits * std::max(largest, 1e-3f);
}

} // namespace personaplug
