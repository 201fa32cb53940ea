#include "model.h"

#include <filesystem>
#include <fstream>

#include "backend.h"
#include "digest.h"
#include "error.h"
#include "gguf_file.h"
#include "log.h"
#include "memory.h"

namespace personaplug {
namespace {

constexpr uint64_t kLeastRead = 32 << 20; // bytes of a file

struct Progress {
    const std::function<bool(float)> &callback;
    std::optional<MemorySnapshot> before; // where weights are read: until they are, for the first call
    bool cancelled = false;
};

bool on_progress(float value, void *data) {
    auto *progress = static_cast<Progress *>(data);
    if (progress->before) { // the weights' memory is there, and nothing is read into it yet
        progress->before->ask_huge_pages();
        progress->before.reset();
    }
    if (progress->callback && !progress->callback(value)) {
        progress->cancelled = true;
    }
    return !progress->cancelled;
}

} // namespace

std::shared_ptr<const Model> Model::load(const std::string &path, const ModelOptions &options) {
    start_backend();
    std::shared_ptr<Model> model(new Model);
    model->path_ = path;
    model->read_header();

    llama_model_params params = llama_model_default_params();
    if (options.gpu_layers < -1) {
        throw ModelError("gpu_layers must be -1 (all) or more, got " + std::to_string(options.gpu_layers));
    }
    params.n_gpu_layers = options.gpu_layers;
    model->mapped_ = model->should_map(options);
    params.load_mode = model->mapped_ ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    Progress progress{options.progress, {}};
    if (!model->mapped_) {
        progress.before.emplace();
    }
    params.progress_callback = on_progress;
    params.progress_callback_user_data = &progress;
    clear_log();
    try {
        model->model_.reset(llama_model_load_from_file(path.c_str(), params));
    } catch (const std::exception &failure) {
        throw ModelError("cannot load " + path + ": " + failure.what());
    }
    if (progress.cancelled) {
        throw CancelledError("loading " + path + " was cancelled by its progress callback");
    }
    if (!model->model_) {
        throw ModelError("cannot load " + path + ": " + logged_errors("llama.cpp gave no reason"));
    }
    llama_model *handle = model->model_.get();
    if (llama_model_has_encoder(handle) || !llama_model_has_decoder(handle) || llama_model_is_diffusion(handle)) {
        throw ModelError(path + " is " +
                         (llama_model_is_diffusion(handle) ? "a diffusion model" : "a model with an encoder") +
                         " (architecture " + model->architecture_ + "); expected a decoder-only language model");
    }
    if (llama_vocab_type(llama_model_get_vocab(handle)) == LLAMA_VOCAB_TYPE_NONE ||
        llama_vocab_n_tokens(llama_model_get_vocab(handle)) <= 0) {
        throw ModelError(path + " holds no tokenizer; expected a language model with its vocabulary");
    }
    const llama_vocab *vocab = llama_model_get_vocab(handle);
    if ((llama_vocab_get_add_bos(vocab) && llama_vocab_bos(vocab) < 0) ||
        (llama_vocab_get_add_eos(vocab) && llama_vocab_eos(vocab) < 0)) {
        throw ModelError(path + " is damaged: its tokenizer adds a begin or end token that it does not have");
    }
    model->tokenizer_ = std::make_unique<Tokenizer>(llama_model_get_vocab(handle));
    const TokenTable *table = model->table();
    if (table != nullptr && (table->width() != model->embedding_width() || table->rows() < model->tokenizer_->size())) {
        model->table_.reset();
    }
    return model;
}

// Small weights, which the processor's caches hold, and those on a GPU gain nothing by being read; of a model in
// several files the size is not known here.
bool Model::should_map(const ModelOptions &options) const {
    if (options.mmap) {
        return *options.mmap;
    }
    std::error_code error;
    const auto size = std::filesystem::file_size(std::filesystem::u8path(path_), error);
    return error || !whole_ || options.gpu_layers != 0 || size < kLeastRead || size > free_memory() / 2 ||
           !has_huge_pages();
}

// What is wanted of the header; the rest, with a vocabulary as text, is freed before llama.cpp makes its own of it.
void Model::read_header() {
    const GgufFile file(path_);
    check_runnable(file);
    architecture_ = file.text("general.architecture");
    whole_ = file.number("split.count").value_or(1) <= 1;
    stamp_ = whole_ ? file_stamp(path_) : "";
    for (const std::string &name : file.tensor_names()) {
        const auto tensor = *file.tensor(name);
        matrices_[name] = {tensor.width, tensor.rows};
    }
    table_ = TokenTable::open(file);
}

std::optional<std::pair<int64_t, int64_t>> Model::matrix(const std::string &name) const {
    const auto found = matrices_.find(name);
    return found != matrices_.end() ? std::optional(found->second) : std::nullopt;
}

std::string Model::description() const {
    char text[256] = {};
    llama_model_desc(model_.get(), text, sizeof(text));
    return text;
}

int Model::positions_per_row() const {
    const llama_rope_type rope = llama_model_rope_type(model_.get());
    return rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE ? 4 : 1;
}

const std::string &Model::fingerprint() const {
    std::call_once(fingerprinted_, [&] {
        std::ifstream file(std::filesystem::u8path(path_), std::ios::binary);
        Digest digest;
        std::vector<char> block(1 << 20);
        while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0) {
            digest.add(block.data(), static_cast<size_t>(file.gcount()));
        }
        if (file.eof() && !stamp_.empty() && file_stamp(path_) == stamp_) {
            fingerprint_ = digest.finish();
        }
    });
    return fingerprint_;
}

std::vector<float> Model::embedding_rows(const std::vector<int32_t> &ids) const {
    if (!table_) {
        throw ModelError(
            "this file's token table cannot be read row by row (a split file, or an unusual type or shape)");
    }
    std::vector<float> rows(ids.size() * static_cast<size_t>(table_->width()));
    for (size_t i = 0; i < ids.size(); ++i) {
        tokenizer_->check(ids[i]);
        if (!table_->read(ids[i], rows.data() + i * table_->width())) {
            throw ModelError(path_ + " cannot be read any more; was it cut short? Load the model again");
        }
    }
    return rows;
}

} // namespace personaplug
