// The token table: the LLM's input embeddings, read row by row from the GGUF file.
#pragma once

#include <cstdint>
#include <memory>

#include "gguf_file.h"

namespace personaplug {

// Thread-safe: reads only. Holds the file open and no row of it: llama.cpp has mapped the table already, and a second
// mapping would count every page of it twice in this process's memory.
class TokenTable {
  public:
    // nullptr when the file holds no table, or one of a type that cannot be dequantized.
    static std::unique_ptr<TokenTable> open(const GgufFile &file);
    ~TokenTable();

    int64_t width() const { return width_; }
    int64_t rows() const { return rows_; }
    // Writes width() floats; 0 <= id < rows() is the caller's to check. False: the row cannot be read (any more), and
    // the floats are NaN, so that no answer is made of them.
    bool read(int64_t id, float *out) const;

  private:
    struct File;
    TokenTable() = default;

    std::unique_ptr<File> file_;
    ggml_type type_ = GGML_TYPE_F32;
    uint64_t offset_ = 0; // of the table in the file
    int64_t width_ = 0;
    int64_t rows_ = 0;
    size_t row_bytes_ = 0;
};

} // namespace personaplug
