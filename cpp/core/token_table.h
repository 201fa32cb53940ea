// The token table: the LLM's input embeddings, read row by row from the GGUF file.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gguf_file.h"

namespace personaplug {

// Thread-safe: reads only. Keeps the table's pages mapped (shared with llama.cpp's own mapping), copies none of it.
class TokenTable {
  public:
    // nullptr when the file holds no table of that shape and of a type that can be dequantized.
    static std::unique_ptr<TokenTable> open(const GgufFile &file, int64_t width, int64_t rows);
    ~TokenTable();

    int64_t width() const { return width_; }
    int64_t rows() const { return rows_; }
    // Writes width() floats; 0 <= id < rows() is the caller's to check.
    void read(int64_t id, float *out) const;

  private:
    struct Mapping;
    TokenTable() = default;

    std::unique_ptr<Mapping> mapping_;
    ggml_type type_ = GGML_TYPE_F32;
    int64_t width_ = 0;
    int64_t rows_ = 0;
    size_t row_bytes_ = 0;
};

} // namespace personaplug
