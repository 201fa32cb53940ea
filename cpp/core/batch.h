// One llama_batch, built up and decoded: the only file that touches llama_batch. Its arrays live as long as the object
// and are reused, so a step allocates nothing here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "llama.h"

namespace personaplug {

enum class Kind { tokens, rows }; // a batch is all of one kind: llama.cpp refuses mixtures

class Batch {
  public:
    // capacity: entries; width: floats of a row; positions_per_row: 4 for M-RoPE models, else 1.
    Batch(int capacity, int width, int positions_per_row);

    void begin(Kind kind);
    Kind kind() const { return kind_; }
    int size() const { return size_; }
    int outputs() const { return outputs_; }
    int room() const { return capacity_ - size_; }

    // Adds an entry and returns its index; `output`: logits are wanted there. The caller keeps within room().
    int add_token(int32_t id, int position, int sequence, bool output);
    // Adds a row and returns where its width() floats are to be written.
    float *add_row(int position, int sequence, bool output);

    // llama_decode's return code; -4 where llama.cpp throws. The log has what it said about it.
    int decode(llama_context *context);

  private:
    void add(int position, int sequence, bool output);

    int capacity_;
    int width_;
    int positions_per_row_;
    Kind kind_ = Kind::tokens;
    int size_ = 0;
    int outputs_ = 0;
    std::vector<llama_token> tokens_;
    std::unique_ptr<float[]> rows_; // made at the first row; not filled, so that rows never used take no memory
    std::vector<llama_pos> positions_;
    std::vector<llama_pos> row_positions_;
    std::vector<int32_t> sequence_counts_;
    std::vector<llama_seq_id> sequences_;
    std::vector<llama_seq_id *> sequence_pointers_;
    std::vector<int8_t> output_flags_;
};

} // namespace personaplug
