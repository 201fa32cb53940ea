#include <cstdio>
#include <filesystem>
#include <fstream>
#include <thread>

#include "backend.h"
#include "check.h"
#include "error.h"
#include "model.h"
#include "threads.h"

using namespace personaplug;

namespace {

std::string whole(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

} // namespace

TEST(truncated_files_are_refused) {
    const std::string bytes = whole(test::model_path());
    const std::string path = (std::filesystem::temp_directory_path() / "personaplug_cut.gguf").string();
    for (size_t part = 0; part < 40; ++part) {
        std::ofstream(path, std::ios::binary)
            .write(bytes.data(), static_cast<std::streamsize>(bytes.size() * part / 40));
        CHECK_THROWS(ModelError, GgufFile file(path));
    }
    std::remove(path.c_str());
    CHECK_THROWS(ModelError, GgufFile file(path));
    CHECK_THROWS(ModelError, GgufFile file("/"));
}

TEST(the_token_table_is_read_row_by_row) {
    const auto model = Model::load(test::model_path(), {});
    CHECK(model->table() != nullptr);
    const int size = model->tokenizer().size();
    CHECK(model->table()->rows() >= size && model->table()->width() == model->embedding_width());
    std::vector<int32_t> ids{0, size - 1, size / 2};
    const std::vector<float> expected = model->embedding_rows(ids);
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] { CHECK(model->embedding_rows(ids) == expected); });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    CHECK_THROWS(PromptError, model->embedding_rows({size}));
    CHECK_THROWS(PromptError, model->embedding_rows({-1}));
}

TEST(loading_can_be_cancelled) {
    ModelOptions options;
    options.progress = [](float) { return false; };
    CHECK_THROWS(CancelledError, Model::load(test::model_path(), options));
}

TEST(text_is_checked) {
    const auto model = Model::load(test::model_path(), {});
    CHECK_THROWS(TextError, model->tokenizer().tokenize(std::string("a\0b", 3), false, false));
    CHECK_THROWS(TextError, model->tokenizer().tokenize("\xED\xA0\x80", false, false));
    const auto ids = model->tokenizer().tokenize("hello fox", false, false);
    CHECK(model->tokenizer().detokenize(ids).find("hello fox") != std::string::npos);
    CHECK_THROWS(PromptError, model->tokenizer().detokenize({1 << 30}));
}

TEST(the_machine_is_described) {
    CHECK(physical_cores() >= 1);
    CHECK(!devices().empty());
    CHECK(!system_info().empty());
}
