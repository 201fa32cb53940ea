// A GGUF file's header: read and checked before llama.cpp maps the file, because a mapping of a truncated file ends the
// process with SIGBUS, and a few wrong hyperparameters with an abort.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gguf.h"

namespace personaplug {

class GgufFile {
  public:
    // Throws ModelError: missing, a directory, not GGUF, cut short (the tensors do not lie within the file).
    explicit GgufFile(const std::string &path);

    const std::string &path() const { return path_; }
    // "" and empty when the key is missing or of another type.
    std::string text(const std::string &key) const;
    std::vector<std::string> texts(const std::string &key) const; // an array of strings
    std::optional<int64_t> number(const std::string &key) const;
    std::optional<bool> flag(const std::string &key) const;
    std::optional<double> real(const std::string &key) const; // a float32
    bool has(const std::string &key) const;

    struct Tensor {
        ggml_type type;
        int64_t width; // elements a row
        int64_t rows;
        uint64_t offset; // bytes from the beginning of the file
        uint64_t size;   // bytes
        bool flat;       // of two dimensions at most
    };
    std::optional<Tensor> tensor(const std::string &name) const;
    std::vector<std::string> tensor_names() const;

  private:
    void check_bounds(uint64_t file_size) const;

    struct Free {
        void operator()(gguf_context *context) const { gguf_free(context); }
    };
    std::string path_;
    std::unique_ptr<gguf_context, Free> context_;
};

// Refuses what the engine cannot run: encoders, encoder-decoders, embedding models, files without a tokenizer or with
// sizes of zero. Throws ModelError that says what the file is.
void check_runnable(const GgufFile &file);

// Size and time of writing of a file, or "" where there is none.
std::string file_stamp(const std::string &path);

} // namespace personaplug
