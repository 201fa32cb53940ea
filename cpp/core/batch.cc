#include "batch.h"

#include <exception>

#include "log.h"

namespace personaplug {

Batch::Batch(int capacity, int width, int positions_per_row)
    : capacity_(capacity), width_(width), positions_per_row_(positions_per_row), tokens_(capacity),
      positions_(capacity), row_positions_(static_cast<size_t>(capacity) * positions_per_row),
      sequence_counts_(capacity, 1), sequences_(capacity), sequence_pointers_(capacity + 1), output_flags_(capacity) {
    for (int i = 0; i < capacity; ++i) {
        sequence_pointers_[i] = &sequences_[i];
    }
}

void Batch::begin(Kind kind) {
    kind_ = kind;
    size_ = 0;
    outputs_ = 0;
    if (kind == Kind::rows && !rows_) {
        rows_.reset(new float[static_cast<size_t>(capacity_) * width_]);
    }
}

void Batch::add(int position, int sequence, bool output) {
    positions_[size_] = position;
    sequences_[size_] = sequence;
    output_flags_[size_] = output ? 1 : 0;
    outputs_ += output ? 1 : 0;
    ++size_;
}

int Batch::add_token(int32_t id, int position, int sequence, bool output) {
    tokens_[size_] = id;
    add(position, sequence, output);
    return size_ - 1;
}

float *Batch::add_row(int position, int sequence, bool output) {
    float *row = rows_.get() + static_cast<size_t>(size_) * width_;
    add(position, sequence, output);
    return row;
}

int Batch::decode(llama_context *context) {
    llama_batch batch{};
    batch.n_tokens = size_;
    batch.pos = positions_.data();
    if (kind_ == Kind::tokens) {
        batch.token = tokens_.data();
    } else {
        batch.embd = rows_.get();
        if (positions_per_row_ == 4) {
            // Text in M-RoPE has the same time, height and width position, and 0 in the fourth; section-major
            // (llama-batch.cpp).
            for (int section = 0; section < 4; ++section) {
                for (int i = 0; i < size_; ++i) {
                    row_positions_[static_cast<size_t>(section) * size_ + i] = section < 3 ? positions_[i] : 0;
                }
            }
            batch.pos = row_positions_.data();
        }
    }
    batch.n_seq_id = sequence_counts_.data();
    batch.seq_id = sequence_pointers_.data();
    batch.logits = output_flags_.data();
    clear_log();
    try {
        return llama_decode(context, batch);
    } catch (const std::exception &) {
        return -4;
    }
}

} // namespace personaplug
