// The prompt the engine takes: spans of token ids, or of rows that stand where token embeddings would. And the cursor
// that feeds it to batches, as far as there is room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "batch.h"
#include "model.h"

namespace personaplug {

struct Span {
    std::vector<int32_t> tokens; // or
    std::vector<float> rows;     // (row_count, embedding width), row-major, finite
    int row_count = 0;

    Kind kind() const { return row_count > 0 ? Kind::rows : Kind::tokens; }
    int size() const { return row_count > 0 ? row_count : static_cast<int>(tokens.size()); }
};

class Prompt {
  public:
    // Empty spans are left out.
    void add_tokens(std::vector<int32_t> ids);
    // Takes `count` rows of `width` floats. Throws DimensionError when the numbers do not fit or a value is not finite.
    void add_rows(std::vector<float> rows, int64_t count, int64_t width);

    const std::vector<Span> &spans() const { return spans_; }
    int size() const; // positions
    bool has_rows() const;
    // What the positions hold, token ids and rows, one after the other; prompts that begin alike have bytes that begin
    // alike, however they are cut into spans.
    std::string bytes() const;
    // Of these bytes, how many the first `positions` take.
    size_t bytes_until(int positions) const;
    // The bytes of a token that follows.
    static std::string bytes_of(int32_t token);

    // Throws PromptError (empty, an id outside the vocabulary, rows for a model that takes none) or DimensionError
    // (width).
    void check(const Model &model) const;

  private:
    std::vector<Span> spans_;
    int64_t width_ = 0;
};

class PromptCursor {
  public:
    explicit PromptCursor(const Prompt &prompt) : prompt_(&prompt), left_(prompt.size()) {}

    bool done() const { return left_ == 0; }
    int left() const { return left_; }
    void skip(int count); // at most left()
    Kind next_kind() const { return prompt_->spans()[span_].kind(); }
    // Whether rows are among the next `count` entries.
    bool rows_ahead(int count) const;

    enum class Outputs { last, all };
    // Adds up to `count` entries from here on at `position`, `position` + 1... A batch of rows takes tokens too when
    // `table` is given; otherwise only entries of the batch's kind are taken. Returns how many went in; the cursor
    // moves past them.
    int feed(Batch &batch, int count, int position, int sequence, Outputs outputs, const TokenTable *table);

  private:
    const Prompt *prompt_; // borrowed: the prompt outlives its cursor
    size_t span_ = 0;
    int offset_ = 0;
    int left_;
};

} // namespace personaplug
