#include <cmath>

#include "check.h"
#include "error.h"
#include "prompt.h"

using namespace personaplug;

TEST(rows_are_checked) {
    Prompt prompt;
    CHECK_THROWS(DimensionError, prompt.add_rows({1, 2, 3}, 2, 2));
    CHECK_THROWS(DimensionError, prompt.add_rows({1, NAN}, 1, 2));
    CHECK_THROWS(DimensionError, prompt.add_rows({}, 0, 0));
    CHECK_THROWS(DimensionError, prompt.add_rows({}, -1, 2));
    prompt.add_rows({1, 2}, 1, 2);
    CHECK_THROWS(DimensionError, prompt.add_rows({1, 2, 3}, 1, 3));
    prompt.add_tokens({});
    prompt.add_tokens({4, 5, 6});
    CHECK(prompt.spans().size() == 2);
    CHECK(prompt.size() == 4);
    CHECK(prompt.has_rows());
}

TEST(a_prompt_is_checked_against_its_model) {
    const auto model = Model::load(test::model_path(), {});
    const int width = model->embedding_width();
    CHECK_THROWS(PromptError, Prompt().check(*model));
    Prompt tokens;
    tokens.add_tokens({model->tokenizer().size()});
    CHECK_THROWS(PromptError, tokens.check(*model));
    Prompt rows;
    rows.add_rows(std::vector<float>(width + 1), 1, width + 1);
    CHECK_THROWS(DimensionError, rows.check(*model));
}

TEST(a_cursor_feeds_spans_in_order) {
    Prompt prompt;
    prompt.add_tokens({1, 2});
    prompt.add_rows({5, 6, 7, 8}, 2, 2);
    prompt.add_tokens({3});
    PromptCursor cursor(prompt);
    Batch batch(8, 2, 1);
    CHECK(!cursor.rows_ahead(2));
    CHECK(cursor.rows_ahead(3));
    batch.begin(Kind::tokens);
    CHECK(cursor.feed(batch, 1, 0, 0, PromptCursor::Outputs::last, nullptr) == 1);
    CHECK(cursor.feed(batch, 8, 1, 0, PromptCursor::Outputs::last, nullptr) == 1);
    CHECK(cursor.feed(batch, 8, 2, 0, PromptCursor::Outputs::last, nullptr) == 0);
    CHECK(cursor.next_kind() == Kind::rows);
    CHECK(batch.size() == 2 && batch.outputs() == 0);
    batch.begin(Kind::rows);
    CHECK(cursor.feed(batch, 8, 2, 0, PromptCursor::Outputs::last, nullptr) == 2);
    batch.begin(Kind::tokens);
    CHECK(cursor.feed(batch, 8, 4, 0, PromptCursor::Outputs::last, nullptr) == 1);
    CHECK(cursor.done() && batch.outputs() == 1);
    CHECK(!cursor.rows_ahead(100));
}

TEST(a_full_batch_takes_no_more) {
    Prompt prompt;
    prompt.add_tokens(std::vector<int32_t>(100, 1));
    PromptCursor cursor(prompt);
    Batch batch(8, 2, 4);
    batch.begin(Kind::tokens);
    CHECK(cursor.feed(batch, 100, 0, 0, PromptCursor::Outputs::all, nullptr) == 8);
    CHECK(batch.room() == 0 && batch.outputs() == 8);
    CHECK(cursor.feed(batch, 100, 8, 0, PromptCursor::Outputs::all, nullptr) == 0);
    CHECK(cursor.left() == 92);
}
