// A loaded LLM: weights, tokenizer, token table. Immutable and thread-safe once loaded; shared by engines, which keep
// it alive, so that a llama_context always dies before its llama_model.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "llama-cpp.h"
#include "token_table.h"
#include "tokenizer.h"

namespace personaplug {

struct ModelOptions {
    int gpu_layers = 0; // layers kept on the GPU; -1 for all
    // Map the file instead of reading it. Unset: it is read where its weights get huge pages, which are faster, it is
    // larger than the processor's caches, and takes at most half of the memory that is free; else mapped. Mapped
    // weights are shared between processes.
    std::optional<bool> mmap;
    // Called from the loading thread with 0 to 1; false ends the loading with CancelledError.
    std::function<bool(float)> progress;
};

class Model {
  public:
    // Throws ModelError (missing, damaged, cut short, not a decoder-only LLM, out of memory) or CancelledError.
    static std::shared_ptr<const Model> load(const std::string &path, const ModelOptions &options);

    llama_model *handle() const { return model_.get(); }
    const Tokenizer &tokenizer() const { return *tokenizer_; }
    // nullptr when the file's table cannot be read row by row.
    const TokenTable *table() const { return table_.get(); }

    const std::string &architecture() const { return architecture_; }
    std::string description() const;
    int embedding_width() const { return llama_model_n_embd(model_.get()); } // floats of one row
    int layer_count() const { return llama_model_n_layer(model_.get()); }
    int train_context() const { return llama_model_n_ctx_train(model_.get()); } // positions
    uint64_t parameter_count() const { return llama_model_n_params(model_.get()); }
    uint64_t size_bytes() const { return llama_model_size(model_.get()); }
    bool is_mapped() const { return mapped_; }
    // Recurrent and hybrid models keep a state instead of cells for every position.
    bool is_recurrent() const { return llama_model_is_recurrent(model_.get()) || llama_model_is_hybrid(model_.get()); }
    // False when an input row is wider than an embedding (models with extra per-layer inputs).
    bool takes_rows() const { return llama_model_n_embd_inp(model_.get()) == embedding_width(); }
    // Positions llama.cpp reads for one embedding row: 4 for M-RoPE (Qwen2-VL and kin), else 1.
    int positions_per_row() const;

    // Elements a row, and rows, of a matrix by its name in the file.
    std::optional<std::pair<int64_t, int64_t>> matrix(const std::string &name) const;
    bool whole() const { return whole_; } // false: one of several files, and matrix() does not know those of the others

    // Of the file's bytes: equal for equal files. Reads them all at the first call. "" when the file has changed since
    // it was loaded, or is one of several.
    const std::string &fingerprint() const;

    // The embedding row of each token, appended as (ids, embedding_width) floats. Throws PromptError, ModelError.
    std::vector<float> embedding_rows(const std::vector<int32_t> &ids) const;

  private:
    Model() = default;
    void read_header();
    bool should_map(const ModelOptions &options) const;

    std::string architecture_;
    std::string path_;
    std::unordered_map<std::string, std::pair<int64_t, int64_t>> matrices_;
    bool whole_ = true;
    bool mapped_ = true;
    std::string stamp_; // size and time of the file when it was loaded
    mutable std::once_flag fingerprinted_;
    mutable std::string fingerprint_;
    llama_model_ptr model_;
    std::unique_ptr<Tokenizer> tokenizer_;
    std::unique_ptr<TokenTable> table_;
};

} // namespace personaplug
